import dataclasses
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterable

import numpy as np
import pytest

from protocol import bundle, signing, trust, weights
from protocol.errors import Malformed, ProtocolError, Refused, Unauthentic
from protocol.trust import VerifiedBundle
from tests.protocol.samples import (
    AUDIENCE,
    FORM,
    GRANT,
    ISSUER,
    OTHER_KEY,
    TODAY,
    code_only,
    flipped,
    manifest_of,
    packed,
    random_model,
    sealed,
    signed,
    signed_weights,
)


def verify(
    data: bytes,
    *,
    issuer: bytes = ISSUER,
    audience: bytes | None = AUDIENCE,
    grant: bytes | None = GRANT,
    today: int = TODAY,
) -> VerifiedBundle:
    return trust.verify(data, issuer=issuer, audience=audience, grant=grant, today=today)


def with_manifest(**changes: object) -> bytes:
    """A bundle whose manifest says something else, validly signed."""
    return signed(manifest_of(packed(), **changes).to_bytes())


def test_a_sealed_bundle_is_verified() -> None:
    verified = verify(sealed())
    assert verified.manifest == manifest_of(packed())
    assert verified.digest == hashlib.sha256(sealed()).digest()
    expected = weights.unpack(weights.pack(random_model(), *FORM), *FORM)
    assert verified.tensors.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(verified.tensors[name], array)


def test_only_verify_makes_a_verified_bundle() -> None:
    verified = verify(sealed())
    with pytest.raises(TypeError, match=r"trust\.verify"):
        VerifiedBundle(manifest=verified.manifest, tensors=verified.tensors, digest=verified.digest, proof=object())
    with pytest.raises((TypeError, ValueError)):
        dataclasses.replace(verified, digest=b"")  # type: ignore[call-arg]


def test_a_verified_bundle_cannot_be_changed() -> None:
    verified = verify(sealed())
    with pytest.raises(TypeError):
        verified.tensors["head.bias"] = np.zeros(4)  # type: ignore[index]
    with pytest.raises(ValueError, match="read-only"):
        verified.tensors["head.bias"][0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        verified.digest = b""  # type: ignore[misc]


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
    with pytest.raises(Refused) as caught:
        verify(data)
    assert caught.value.code == code
    assert caught.value.exit_code == 11


@pytest.mark.parametrize("changes", [{"day": TODAY + 2}, {"day": TODAY - 90}, {"release": 65_535}])
def test_the_last_day_and_a_clock_two_days_off_are_accepted(changes: dict[str, object]) -> None:
    assert verify(with_manifest(**changes))


def test_a_bundle_out_of_date_is_told_with_both_clocks() -> None:
    with pytest.raises(Refused, match=f"{TODAY - 1} and today is day {TODAY}"):
        verify(with_manifest(day=TODAY - 91))


def test_audience_and_grant_are_compared_only_where_they_are_known() -> None:
    data = with_manifest(audience=bytes(32), grant=bytes(16))
    assert verify(data, audience=None, grant=None)


def test_a_bundle_of_another_issuer_is_refused() -> None:
    data = signed(manifest_of(packed()).to_bytes(), key=OTHER_KEY)
    with pytest.raises(Unauthentic) as caught:
        verify(data)
    assert caught.value.code == "KEY_UNKNOWN"


def test_a_signature_for_another_purpose_is_refused() -> None:
    envelope = signing.parse_envelope(bundle.split(sealed()).envelope)
    renamed = bundle.split(sealed()).envelope.replace(b"ecan.manifest", b"ecan.receipts")
    assert signing.parse_envelope(renamed).payload == envelope.payload
    with pytest.raises(Unauthentic) as caught:
        verify(bundle.assemble(renamed, packed()))
    assert caught.value.code == "PAYLOAD_TYPE"


def test_other_weights_under_a_valid_signature_are_refused() -> None:
    other = weights.pack(random_model(seed=1), *FORM)
    with pytest.raises(Unauthentic) as caught:
        verify(bundle.assemble(bundle.split(sealed()).envelope, other))
    assert caught.value.code == "DIGEST"


def test_a_length_other_than_the_signed_one_is_refused() -> None:
    with pytest.raises(Unauthentic) as caught:
        verify(with_manifest(weights_len=len(packed()) + 1))
    assert caught.value.code == "DIGEST"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (signed_weights(packed() + b"\0"), "HEADER_MISMATCH"),
        (signed_weights(packed()[:-1]), "HEADER_MISMATCH"),
        (
            signed_weights(weights.pack(random_model("mlp-stats-v1", 5), "mlp-stats-v1", 5, "speaker")),
            "HEADER_MISMATCH",
        ),
        (with_manifest(norm="none"), "HEADER_MISMATCH"),
        (with_manifest(labels=0b111), "HEADER_MISMATCH"),
        (with_manifest(arch="tdnn-frames-v1"), "HEADER_MISMATCH"),
        (signed_weights(packed()[:-1] + b"\x80"), "VALUE"),
        (signed(b"{}"), "MISSING"),
        (signed(manifest_of(packed()).to_bytes().replace(b'"v":1', b'"v":1.0')), "NOT_CANONICAL"),
    ],
    ids=code_only,
)
def test_a_valid_signature_does_not_excuse_a_broken_rule(data: bytes, code: str) -> None:
    with pytest.raises(Malformed) as caught:
        verify(data)
    assert caught.value.code == code


def test_a_rule_for_weights_is_judged_after_the_signature() -> None:
    broken = packed()[:-1] + b"\x80"
    with pytest.raises(Unauthentic):
        verify(signed(manifest_of(broken).to_bytes(), broken, key=OTHER_KEY))


def test_every_flipped_bit_of_head_and_envelope_is_refused() -> None:
    _refuse_flips(range(8 * (len(sealed()) - len(packed()))))


def test_a_flipped_bit_anywhere_in_the_weights_is_refused() -> None:
    start = 8 * (len(sealed()) - len(packed()))
    bits = 8 * len(sealed()) - start
    _refuse_flips(start + position for position in np.random.default_rng(0).integers(0, bits, 1000).tolist())


def _refuse_flips(bits: Iterable[int]) -> None:
    for bit in bits:
        with pytest.raises(ProtocolError):
            verify(flipped(sealed(), bit))


def test_a_bundle_cut_anywhere_is_refused() -> None:
    ends = [*range(0, 2000, 7), *range(2000, len(sealed()), 997), len(sealed()) - 1]
    for end in ends:
        with pytest.raises(Malformed) as caught:
            verify(sealed()[:end])
        assert caught.value.code == "TRUNCATED"


def test_verifying_takes_milliseconds() -> None:
    started = time.perf_counter()
    for _ in range(10):
        verify(sealed())
    assert (time.perf_counter() - started) / 10 < 0.05


def test_the_verifier_loads_nothing_but_the_library_numpy_and_cryptography() -> None:
    code = (
        "import json, sys, protocol.trust; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    ours = {"protocol", "numpy", "cryptography"}
    foreign = {name for name in loaded if not name.startswith("_")} - ours - sys.stdlib_module_names
    assert not foreign & {"torch", "grpc", "google", "safetensors", "ecan_core", "yaml"}
