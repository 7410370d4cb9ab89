"""What was released is verified for ever: every vector of every file but the bundles of v1.json."""

import base64
import functools
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from protocol.bundle import frame, sealing, trust
from protocol.bundle.egress import sign_bundle
from protocol.bundle.manifest import PAYLOAD_TYPE, Manifest, ManifestFields
from protocol.bundle.override import open_officer, open_override
from protocol.bundle.sealing import SealingKey
from protocol.bundle.trust import Anchor
from protocol.errors import Code, MalformedError, UnauthenticError
from protocol.identity import signing
from protocol.identity.identities import check_online
from protocol.statements import request
from protocol.statements.offers import open_checkpoint, open_offer
from protocol.statements.receipts import open_receipt
from protocol.statements.revocations import open_revocations
from protocol.statements.succession import Succession, open_succession
from tests.vectors import make, reader

VECTORS, OLD_BUNDLES = make.vectors(), json.loads(make.OLD_FILE.read_text())["bundles"]
ISSUER = signing.fingerprint_of(signing.raw_public_key(make.RELEASE))
ANCHOR = Anchor(issuer=ISSUER, audience=make.AUDIENCE, grants=frozenset({make.GRANT}), today=make.TODAY)
SITE = reader.Site(issuer=ISSUER, audience=make.AUDIENCE, grants=frozenset({make.GRANT}), today=make.TODAY)
NAMES = sorted(make.MODELS)
HYBRID_VECTORS = json.loads(make.HYBRID_FILE.read_text())
HYBRID_ISSUER = signing.fingerprint_of(signing.raw_public_key(make.HYBRID))


@functools.cache
def golden(name: str) -> bytes:
    """The golden bundle: head and envelope as they were kept, the weights grown again."""
    kept = VECTORS["bundles"][name]
    data = bytes.fromhex(kept["head"]) + kept["envelope"].encode() + make.grow_weights(name)
    assert hashlib.sha256(data).hexdigest() == kept["sha256"], "the weights did not grow as they did"
    return data


@pytest.mark.parametrize("name", NAMES)
def test_a_golden_bundle_is_verified(name: str) -> None:
    verified = trust.verify(golden(name), ANCHOR)
    arch, classes, norm = make.MODELS[name]
    assert (verified.manifest.arch, verified.manifest.classes, verified.manifest.norm) == (arch, classes, norm)
    assert verified.digest.hex() == VECTORS["bundles"][name]["sha256"]
    assert verified.manifest.weights_sha256.hex() == VECTORS["bundles"][name]["weights_sha256"]
    assert reader.read(golden(name), SITE) == json.loads(VECTORS["bundles"][name]["manifest"])


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_today_is_what_was_written_then(name: str) -> None:
    kept = VECTORS["bundles"][name]
    payload = kept["manifest"].encode()
    assert Manifest.from_bytes(payload).to_bytes() == payload
    assert signing.sign(PAYLOAD_TYPE, payload, make.RELEASE) == kept["envelope"].encode()
    assert make.make_bundle(name) == golden(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_golden_model_is_sealed_to_the_golden_bytes_again(name: str) -> None:
    verified = trust.verify(golden(name), ANCHOR)
    stated = {field: getattr(verified.manifest, field) for field in ManifestFields.__dataclass_fields__}
    assert sign_bundle(verified.tensors(), ManifestFields(**stated), make.RELEASE) == golden(name)


@pytest.mark.parametrize("name", sorted(OLD_BUNDLES))
def test_a_bundle_of_version_1_is_refused_and_a_new_one_asked_for(name: str) -> None:
    kept = OLD_BUNDLES[name]
    data = bytes.fromhex(kept["head"]) + kept["envelope"].encode() + make.grow_weights(name)
    assert hashlib.sha256(data).hexdigest() == kept["sha256"]
    with pytest.raises(MalformedError, match="ask for a new bundle") as refusal:
        trust.verify(data, ANCHOR)
    assert refusal.value.code is Code.VERSION
    with pytest.raises(reader.BundleRefusedError, match="VERSION"):
        reader.read(data, SITE)


def statement(name: str) -> bytes:
    return base64.b64decode(VECTORS["statements"][name])


def test_the_golden_statements_are_verified_and_say_what_they_said() -> None:
    endorsement = statement("endorsement")
    assert open_receipt(statement("receipt"), signer=make.AUDIENCE) == make.RECEIPT_FIELDS
    assert open_offer(statement("offer"), endorsement, ISSUER) == make.OFFER_FIELDS
    assert open_checkpoint(statement("checkpoint"), endorsement, ISSUER) == make.CHECKPOINT_FIELDS
    assert open_revocations(statement("revocations"), ISSUER) == make.REVOCATIONS
    successor = signing.fingerprint_of(signing.raw_public_key(make.NEXT))
    assert open_succession(statement("succession"), ISSUER) == Succession(old=ISSUER, new=successor, number=1)
    assert open_succession(statement("succession-2"), ISSUER) == Succession(
        old=ISSUER, new=successor, number=1, last_list=2, last_release=7
    )
    assert open_officer(statement("officer"), ISSUER) == signing.fingerprint_of(signing.raw_public_key(make.OFFICER))
    assert open_override(statement("override"), statement("officer"), ISSUER) == make.OVERRIDE_FIELDS
    check_online(endorsement, signing.raw_public_key(make.ONLINE), ISSUER)


@pytest.mark.parametrize("name", sorted(set(VECTORS["statements"]) - {"succession"}))
def test_a_statement_has_the_bytes_that_it_had(name: str) -> None:
    assert make.make_repeatable()[name] == statement(name)


@pytest.mark.parametrize("name", sorted(HYBRID_VECTORS["bundles"]))
def test_a_golden_bundle_of_two_algorithms_is_verified(name: str) -> None:
    kept = HYBRID_VECTORS["bundles"][name]
    data = bytes.fromhex(kept["head"]) + kept["envelope"].encode() + make.grow_weights(name)
    assert hashlib.sha256(data).hexdigest() == kept["sha256"]
    verified = trust.verify(data, replace(ANCHOR, issuer=HYBRID_ISSUER, suites=("hybrid-1",)))
    assert verified.manifest == replace(trust.verify(golden(name), ANCHOR).manifest, issuer=HYBRID_ISSUER)
    assert reader.read(data, replace(SITE, issuer=HYBRID_ISSUER))["issuer"] == HYBRID_ISSUER.hex()
    for site in (ANCHOR, SITE):
        judge = trust.verify if site is ANCHOR else reader.read
        with pytest.raises((UnauthenticError, reader.BundleRefusedError)):
            judge(data, site)  # type: ignore[operator]


def test_the_golden_statements_of_two_algorithms_are_verified() -> None:
    told = {name: base64.b64decode(text) for name, text in HYBRID_VECTORS["statements"].items()}
    assert open_revocations(told["revocations"], HYBRID_ISSUER) == make.REVOCATIONS
    assert open_succession(told["succession-3"], ISSUER) == Succession(
        old=ISSUER, new=HYBRID_ISSUER, number=1, last_list=2, last_release=7
    )
    check_online(told["endorsement"], signing.raw_public_key(make.ONLINE), HYBRID_ISSUER)


def test_the_golden_request_is_verified() -> None:
    asked = base64.b64decode(VECTORS["request"]["bytes"])
    site = request.open_request(asked)
    assert (site.nonce, site.day) == (bytes(range(32)), make.TODAY)
    assert request.grant_id(asked).hex() == VECTORS["request"]["grant"]
    opening = SealingKey.from_pem(VECTORS["sealed"]["test_only_key"].encode())
    assert site.sealing_key.raw == opening.public_key.raw


def test_the_golden_sealed_file_is_opened_by_the_key_that_everybody_knows() -> None:
    data = base64.b64decode(VECTORS["sealed"]["bytes"])
    opening = SealingKey.from_pem(VECTORS["sealed"]["test_only_key"].encode())
    outside = sealing.outline(data)
    assert (outside.grant.hex(), outside.plain_bytes) == (VECTORS["sealed"]["grant"], 25)
    assert sealing.unseal(data, opening) == VECTORS["sealed"]["plain"].encode()


def test_a_published_vector_cannot_be_overwritten() -> None:
    with pytest.raises(FileExistsError):
        make.main()


def test_the_vectors_are_small_and_hold_no_real_weights() -> None:
    assert make.FILE.stat().st_size < 24_000
    assert frame.MAGIC.hex() in VECTORS["bundles"]["mlp"]["head"]


def test_the_decision_on_two_algorithms_states_the_true_sizes() -> None:
    page = (Path(__file__).parents[2] / "docs" / "decisions" / "0016-two-algorithms.md").read_text()
    bundles = golden("mlp"), make.make_bundle("mlp", make.HYBRID)
    envelopes = [len(frame.split(data).envelope) for data in bundles]
    assert f"| envelope of a bundle, bytes | {envelopes[0]:,} | {envelopes[1]:,} |" in page
    assert f"| bundle of `mlp-stats-v1`, bytes | {len(bundles[0]):,} | {len(bundles[1]):,} |" in page
