import dataclasses
import hashlib
import json
import subprocess
import sys
import time
import tracemalloc
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protocol.bundle import frame, trust, weights
from protocol.bundle.egress import sign_bundle
from protocol.bundle.form import ModelForm
from protocol.bundle.trust import ANY_AUDIT, AuditTerms, VerifiedBundle
from protocol.bundle.weights import Buffer
from protocol.errors import MalformedError, ProtocolError, RefusedError, UnauthenticError
from protocol.identity import signing
from tests.protocol.samples import (
    ANCHOR,
    AUDIENCE,
    AUDITED,
    FIELDS,
    FORM,
    GRANT,
    ISSUER,
    OTHER_KEY,
    RELEASE_KEY,
    TODAY,
    code_only,
    manifest_of,
    packed,
    random_model,
    says_what_to_do,
    sealed,
    signed,
    signed_weights,
)


def verify(data: Buffer, **changes: Any) -> VerifiedBundle:
    return trust.verify(data, dataclasses.replace(ANCHOR, **changes))


def with_manifest(**changes: object) -> bytes:
    """A bundle whose manifest says something else, validly signed."""
    return signed(manifest_of(packed(), **changes).to_bytes())


def test_a_sealed_bundle_is_verified() -> None:
    verified = verify(sealed())
    assert verified.manifest == manifest_of(packed())
    assert verified.digest == hashlib.sha256(sealed()).digest()
    expected = weights.dequantize(weights.unpack(weights.pack(random_model(), FORM), FORM), FORM)
    tensors = verified.tensors()
    assert tensors.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(tensors[name], array)


def test_only_verify_makes_a_verified_bundle() -> None:
    verified = verify(sealed())
    with pytest.raises(TypeError, match=r"trust\.verify"):
        VerifiedBundle(manifest=verified.manifest, data=verified.data, encoded=verified.encoded, proof=object())
    with pytest.raises((TypeError, ValueError)):
        dataclasses.replace(verified, data=memoryview(b""))  # type: ignore[call-arg]


def test_a_verified_bundle_cannot_be_changed() -> None:
    verified = verify(sealed())
    with pytest.raises(ValueError, match="read-only"):
        verified.tensors()["head.bias"][0] = 1
    with pytest.raises(ValueError, match="read-only"):
        verified.encoded["head.bias"][0] = 1
    with pytest.raises(TypeError):
        verified.data[0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        verified.digest = b""  # type: ignore[misc]


def test_a_bundle_that_lies_in_memory_of_another_kind_is_read_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "model.ecan").write_bytes(sealed())
    with (tmp_path / "model.ecan").open("rb") as file:
        mapped = mmap(file.fileno(), 0, access=ACCESS_READ)
    for data in (sealed(), memoryview(sealed()), bytearray(sealed()), mapped):
        verified = verify(data)
        assert np.shares_memory(verified.encoded["encoder.0.weight"], np.frombuffer(data, np.uint8))
        assert verified.data.readonly
        assert verified.digest == hashlib.sha256(sealed()).digest()


def test_the_weights_are_never_copied() -> None:
    data = sealed()
    verify(data)
    tracemalloc.start()
    verified = verify(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < len(data) / 2
    assert "encoded" not in repr(verified)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (with_manifest(audience=bytes(32)), "AUDIENCE"),
        (with_manifest(grant=bytes(16)), "GRANT"),
        (with_manifest(day=TODAY + 3), "NOT_YET"),
        (with_manifest(day=TODAY - 91), "EXPIRED"),
        (with_manifest(issuer=bytes(32)), "KEY_UNKNOWN"),
    ],
    ids=code_only,
)
def test_an_authentic_bundle_is_refused_by_policy(data: bytes, code: str) -> None:
    with pytest.raises(RefusedError) as caught:
        verify(data)
    assert caught.value.code == code
    assert says_what_to_do(caught)
    assert caught.value.exit_code == 11


HASH = bytes(range(32))


def read_by_added() -> bytes:
    """A bundle of a model that is read by an encoder which its target has to have added."""
    arch = "mlp-stats-ssl-768-v1"
    return sign_bundle(random_model(arch), dataclasses.replace(FIELDS, arch=arch, encoder=HASH), RELEASE_KEY)


def test_an_encoder_that_the_site_has_added_may_be_named_and_no_other() -> None:
    for held in (None, frozenset({HASH, bytes(32)})):
        assert verify(read_by_added(), encoders=held).manifest.encoder == HASH
    for held in (frozenset(), frozenset({bytes(32)})):
        with pytest.raises(RefusedError, match=r"encoder add FOLDER`, and receive again") as caught:
            verify(read_by_added(), encoders=held)
        assert (caught.value.code, caught.value.exit_code) == ("NOT_FOUND", 11)
        assert says_what_to_do(caught)


def test_a_model_that_names_no_encoder_is_read_whatever_is_here() -> None:
    assert verify(sealed(), encoders=frozenset()).manifest.encoder == b""


@pytest.mark.parametrize("changes", [{"day": TODAY + 2}, {"day": TODAY - 90}, {"release": 65_535}])
def test_the_last_day_and_a_clock_two_days_off_are_accepted(changes: dict[str, object]) -> None:
    assert verify(with_manifest(**changes))


def test_a_bundle_out_of_date_is_told_with_both_clocks() -> None:
    with pytest.raises(RefusedError, match=f"{TODAY - 1} and today is day {TODAY}"):
        verify(with_manifest(day=TODAY - 91))


def test_audience_and_grant_are_compared_only_where_they_are_known() -> None:
    data = with_manifest(audience=bytes(32), grant=bytes(16))
    assert verify(data, audience=None, grants=None)


def test_a_bundle_may_be_released_under_any_grant_that_the_site_asked_for() -> None:
    assert verify(sealed(), grants=frozenset({bytes(16), GRANT}))
    for grants in (frozenset({bytes(16)}), frozenset()):
        with pytest.raises(RefusedError) as caught:
            verify(sealed(), grants=grants)
        assert caught.value.code == "GRANT"


OVERRIDDEN = AUDITED | {"audit": "overridden", "lira_auc": 166, "spk_auc": 0, "networks": 3}


@pytest.mark.parametrize(
    ("stated", "asked"),
    [
        ({}, AuditTerms()),
        (AUDITED, AuditTerms(least_tier=2)),
        (AUDITED | {"tier": 1}, AuditTerms(least_tier=1)),
        (AUDITED | {"tier": 0, "audit": "measured", "lira_auc": 166}, AuditTerms()),
        (OVERRIDDEN, ANY_AUDIT),
        (OVERRIDDEN, AuditTerms(least_tier=2, accept_overridden=True)),
    ],
)
def test_a_site_takes_the_audit_that_it_asks_for(stated: dict[str, object], asked: AuditTerms) -> None:
    assert verify(with_manifest(**stated), audit=asked)


@pytest.mark.parametrize(
    ("stated", "asked", "why"),
    [
        ({}, AuditTerms(least_tier=1), "left its source at tier 0 and this site asks for tier 1"),
        (AUDITED | {"tier": 1}, AuditTerms(least_tier=2), "tier 1 and this site asks for tier 2"),
        (OVERRIDDEN, AuditTerms(), "failed tier 2 and the source has overridden that"),
        (OVERRIDDEN, AuditTerms(least_tier=1), "overridden"),
        (AUDITED | {"lira_auc": 111}, ANY_AUDIT, "its figures fail that tier"),
        (AUDITED | {"tier": 1, "lira_tpr1": 11}, ANY_AUDIT, "its figures fail that tier"),
        (AUDITED | {"spk_auc": 0}, ANY_AUDIT, "its figures fail that tier"),
        (AUDITED | {"networks": 5}, ANY_AUDIT, "its figures fail that tier"),
    ],
)
def test_a_site_refuses_an_audit_that_is_less_or_that_failed(
    stated: dict[str, object], asked: AuditTerms, why: str
) -> None:
    with pytest.raises(RefusedError, match=why) as caught:
        verify(with_manifest(**stated), audit=asked)
    assert (caught.value.code, caught.value.exit_code) == ("AUDIT", 11)
    assert says_what_to_do(caught)


WEIGHTS_SHA256 = hashlib.sha256(packed()).digest()


@pytest.mark.parametrize(
    ("remembered", "code"),
    [
        ({"last_release": 8}, "ROLLBACK"),
        ({"last_release": 8, "last_weights": WEIGHTS_SHA256}, "ROLLBACK"),
        ({"last_release": 65_535}, "ROLLBACK"),
        ({"last_release": 7}, "ROLLBACK"),
        ({"last_release": 7, "last_weights": bytes(32)}, "ROLLBACK"),
        ({"revoked": frozenset({WEIGHTS_SHA256})}, "REVOKED"),
        ({"revoked": frozenset({ISSUER, bytes(32)})}, "REVOKED"),
    ],
)
def test_what_a_site_remembers_may_speak_against_a_bundle(remembered: dict[str, Any], code: str) -> None:
    with pytest.raises(RefusedError) as caught:
        verify(sealed(), **remembered)
    assert caught.value.code == code
    assert says_what_to_do(caught)
    assert caught.value.exit_code == 11


def test_the_two_ways_of_being_revoked_have_different_remedies() -> None:
    with pytest.raises(RefusedError, match="new key"):
        verify(sealed(), revoked=frozenset({ISSUER}))
    with pytest.raises(RefusedError, match="new release"):
        verify(sealed(), revoked=frozenset({WEIGHTS_SHA256}))


@pytest.mark.parametrize(
    "remembered",
    [
        {"last_release": 0},
        {"last_release": 6, "last_weights": bytes(32)},
        {"last_release": 7, "last_weights": WEIGHTS_SHA256},
        {"revoked": frozenset({bytes(32), AUDIENCE, GRANT})},
    ],
)
def test_a_newer_release_the_same_once_more_and_other_revocations_are_accepted(remembered: dict[str, Any]) -> None:
    assert verify(sealed(), **remembered)


@pytest.mark.parametrize(("release", "last", "accepted"), [(65, 1, True), (66, 1, False), (65_535, 0, True)])
def test_a_leap_of_more_than_64_releases_is_refused_once_there_is_one(release: int, last: int, accepted: bool) -> None:
    data = with_manifest(release=release)
    if accepted:
        assert verify(data, last_release=last, last_weights=bytes(32))
        return
    with pytest.raises(RefusedError) as caught:
        verify(data, last_release=last, last_weights=bytes(32))
    assert caught.value.code == "FAST_FORWARD"


def broken_in_every_later_way(**changes: object) -> bytes:
    """A bundle whose weights are neither the signed ones nor in order, with some more faults in its manifest."""
    stated = manifest_of(packed(), weights_sha256=bytes(32), **changes)
    return signed(stated.to_bytes(), packed()[:-1] + b"\x80")


@pytest.mark.parametrize("parallel_bytes", [0, 1 << 30])
@pytest.mark.parametrize(
    ("data", "remembered", "code"),
    [
        (broken_in_every_later_way(issuer=bytes(32), audience=bytes(32)), {}, "KEY_UNKNOWN"),
        (broken_in_every_later_way(audience=bytes(32), grant=bytes(16)), {}, "AUDIENCE"),
        (broken_in_every_later_way(grant=bytes(16)), {"last_release": 8}, "GRANT"),
        (broken_in_every_later_way(day=TODAY + 3), {"last_release": 8}, "ROLLBACK"),
        (broken_in_every_later_way(day=TODAY + 3, release=80), {"last_release": 1}, "FAST_FORWARD"),
        (broken_in_every_later_way(day=TODAY + 3), {"revoked": {bytes(32)}}, "NOT_YET"),
        (broken_in_every_later_way(day=TODAY - 91), {"revoked": {bytes(32)}}, "EXPIRED"),
        (broken_in_every_later_way(), {"revoked": {bytes(32)}}, "REVOKED"),
        (broken_in_every_later_way(), {}, "DIGEST"),
        (broken_in_every_later_way(norm="none"), {}, "DIGEST"),
        (signed_weights(packed()[:-1] + b"\x80"), {}, "VALUE"),
    ],
    ids=code_only,
)
def test_the_first_broken_rule_decides_even_where_rules_are_checked_at_the_same_time(
    monkeypatch: pytest.MonkeyPatch, data: bytes, remembered: dict[str, Any], code: str, parallel_bytes: int
) -> None:
    monkeypatch.setattr(trust, "PARALLEL_BYTES", parallel_bytes)
    with pytest.raises(ProtocolError) as caught:
        verify(data, **remembered)
    assert caught.value.code == code
    assert says_what_to_do(caught)


def test_large_weights_are_verified_in_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "PARALLEL_BYTES", 0)
    assert verify(sealed()).manifest == manifest_of(packed())
    for position in range(0, len(packed()), 1009):
        changed = bytearray(sealed())
        changed[len(sealed()) - len(packed()) + position] ^= 1
        with pytest.raises(UnauthenticError) as caught:
            verify(changed)
        assert caught.value.code == "DIGEST"


def test_a_bundle_of_another_issuer_is_refused() -> None:
    data = signed(manifest_of(packed()).to_bytes(), key=OTHER_KEY)
    with pytest.raises(UnauthenticError) as caught:
        verify(data)
    assert caught.value.code == "KEY_UNKNOWN"


def test_a_signature_for_another_purpose_is_refused() -> None:
    envelope = signing.parse_envelope(frame.split(sealed()).envelope)
    renamed = frame.split(sealed()).envelope.replace(b"ecan.manifest", b"ecan.receipts")
    assert signing.parse_envelope(renamed).payload == envelope.payload
    with pytest.raises(UnauthenticError) as caught:
        verify(frame.assemble(renamed, packed()))
    assert caught.value.code == "PAYLOAD_TYPE"


def test_other_weights_under_a_valid_signature_are_refused() -> None:
    other = weights.pack(random_model(seed=1), FORM)
    with pytest.raises(UnauthenticError) as caught:
        verify(frame.assemble(frame.split(sealed()).envelope, other))
    assert caught.value.code == "DIGEST"


def test_a_length_other_than_the_signed_one_is_refused() -> None:
    with pytest.raises(UnauthenticError) as caught:
        verify(with_manifest(weights_len=len(packed()) + 1))
    assert caught.value.code == "DIGEST"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (signed_weights(packed() + b"\0"), "HEADER_MISMATCH"),
        (signed_weights(packed()[:-1]), "HEADER_MISMATCH"),
        (
            signed_weights(weights.pack(random_model("mlp-stats-v1", 5), ModelForm("mlp-stats-v1", 5, "speaker"))),
            "HEADER_MISMATCH",
        ),
        (with_manifest(norm="none"), "HEADER_MISMATCH"),
        (with_manifest(labels=0b111), "HEADER_MISMATCH"),
        (with_manifest(arch="tdnn-frames-v1"), "HEADER_MISMATCH"),
        (signed_weights(packed()[:-1] + b"\x80"), "VALUE"),
        (signed(b"{}"), "MISSING"),
        (signed(manifest_of(packed()).to_bytes().replace(b'"v":2', b'"v":2.0')), "NOT_CANONICAL"),
    ],
    ids=code_only,
)
def test_a_valid_signature_does_not_excuse_a_broken_rule(data: bytes, code: str) -> None:
    with pytest.raises(MalformedError) as caught:
        verify(data)
    assert caught.value.code == code
    assert says_what_to_do(caught)


def test_a_rule_for_weights_is_judged_after_the_signature() -> None:
    broken = packed()[:-1] + b"\x80"
    with pytest.raises(UnauthenticError):
        verify(signed(manifest_of(broken).to_bytes(), broken, key=OTHER_KEY))


def test_a_bundle_cut_anywhere_is_refused() -> None:
    ends = [*range(0, 2000, 7), *range(2000, len(sealed()), 997), len(sealed()) - 1]
    for end in ends:
        with pytest.raises(MalformedError) as caught:
            verify(sealed()[:end])
        assert caught.value.code == "TRUNCATED"


def test_verifying_takes_milliseconds() -> None:
    started = time.perf_counter()
    for _ in range(10):
        verify(sealed())
    assert (time.perf_counter() - started) / 10 < 0.05


def test_the_verifier_loads_nothing_but_the_library_numpy_and_cryptography() -> None:
    code = (
        "import json, sys, protocol.bundle.trust; "
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    ours = {"protocol", "numpy", "cryptography"}
    foreign = {name for name in loaded if not name.startswith("_")} - ours - sys.stdlib_module_names
    assert not foreign & {"torch", "grpc", "google", "safetensors", "ecan_core", "yaml"}
