"""What a certificate of forgetting says, and whose word it is."""

import hashlib
import json

import pytest

from protocol.errors import MalformedError, UnauthenticError
from protocol.identity.fingerprints import in_fours
from target_site.accountability.certificate import certify, in_words, read_certificate, verify_certificate
from target_site.model.folder import WEIGHTS
from target_site.trust.keys import load_or_create_keys, own_fingerprint
from tests.support import cli

BUNDLE, BEFORE = b"b" * 32, b"w" * 32
AFTER = hashlib.sha256(b"weights").digest()


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "keys"
    load_or_create_keys(folder)
    return folder


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "adapted"
    folder.mkdir()
    (folder / WEIGHTS).write_bytes(b"weights")
    return folder


@pytest.fixture
def certificate(model, keys):
    return certify(model, keys, bundle=BUNDLE, before=BEFORE, utterances=12, today=20_422, passphrase=None)


def test_it_says_which_model_took_the_place_of_which_and_when(certificate, keys):
    assert read_certificate(certificate).as_plain() == {
        "utterances": 12,
        "date": "2025-11-30",
        "before": BEFORE.hex(),
        "after": AFTER.hex(),
        "bundle": BUNDLE.hex(),
        "signer": own_fingerprint(keys).hex(),
    }


def test_it_is_told_in_words_with_digests_in_fours(certificate, keys):
    first, *others = in_words(read_certificate(certificate))
    assert first == "12 utterances were forgotten on 2025-11-30"
    for digest in (BEFORE, AFTER, BUNDLE, own_fingerprint(keys)):
        assert in_fours(digest.hex()) in " ".join(others)


def test_it_holds_for_this_site_and_this_model(certificate, keys, model):
    assert verify_certificate(certificate, keys, model) == read_certificate(certificate)


def test_another_sites_certificate_is_refused(certificate, tmp_path):
    load_or_create_keys(tmp_path / "others")
    with pytest.raises(UnauthenticError, match="compare the fingerprints"):
        verify_certificate(certificate, tmp_path / "others")


def test_a_model_that_it_does_not_speak_of_is_refused(certificate, keys, model):
    (model / WEIGHTS).write_bytes(b"other weights")
    with pytest.raises(UnauthenticError, match="is not the one that the certificate speaks of"):
        verify_certificate(certificate, keys, model)


def test_a_changed_certificate_is_not_even_shown(certificate):
    envelope = json.loads(certificate.read_bytes())
    signed = envelope["signatures"][0]["sig"]
    changed = certificate.read_text().replace(signed, ("B" if signed[0] == "A" else "A") + signed[1:])
    certificate.write_text(changed)
    with pytest.raises(UnauthenticError, match="the content was changed"):
        read_certificate(certificate)


@pytest.mark.parametrize("content", ["", "{}", "no certificate"])
def test_another_file_is_no_certificate(tmp_path, content):
    (tmp_path / "file").write_text(content)
    with pytest.raises((MalformedError, UnauthenticError)):
        read_certificate(tmp_path / "file")


def test_the_commands_show_and_verify_it(certificate, keys, model, tmp_path):
    shown = cli.target("certificate", "show", certificate)
    assert (shown.code, "12 utterances were forgotten on 2025-11-30" in shown.stdout) == (0, True), shown.stderr
    verified = cli.target("certificate", "verify", certificate, "--keys", keys, "--model", model)
    assert (verified.code, "this site has signed it" in verified.stdout) == (0, True), verified.stderr
    load_or_create_keys(tmp_path / "others")
    refused = cli.target("certificate", "verify", certificate, "--keys", tmp_path / "others")
    assert (refused.code, "compare the fingerprints" in refused.stderr) == (10, True)
