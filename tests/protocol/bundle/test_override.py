import dataclasses

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol import canonical
from protocol.bundle.override import (
    MAX_STATEMENT_BYTES,
    OFFICER_TYPE,
    OVERRIDE_TYPE,
    Override,
    open_officer,
    open_override,
    sign_officer,
    sign_override,
)
from protocol.errors import MalformedError, RefusedError, UnauthenticError
from protocol.identity import signing
from protocol.identity.hybrid import HybridKey
from tests.protocol.samples import ISSUER, OTHER_KEY, RELEASE_KEY, TODAY, flipped, says_what_to_do

OFFICER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(2, 34)))
OFFICER = signing.fingerprint_of(signing.raw_public_key(OFFICER_KEY))
NAMED = sign_officer(OFFICER, RELEASE_KEY)
WORD = Override(weights_sha256=bytes(range(32)), tier=2, day=TODAY)
SIGNED = sign_override(WORD, OFFICER_KEY)


def test_an_officer_whom_the_release_key_has_named_lets_a_model_out() -> None:
    assert open_officer(NAMED, ISSUER) == OFFICER
    assert open_override(SIGNED, NAMED, ISSUER) == WORD


def test_one_key_is_not_two() -> None:
    with pytest.raises(RefusedError) as caught:
        sign_officer(ISSUER, RELEASE_KEY)
    assert says_what_to_do(caught)


@pytest.mark.parametrize(
    ("data", "officer", "issuer"),
    [
        (sign_override(WORD, OTHER_KEY), NAMED, ISSUER),
        (sign_override(WORD, RELEASE_KEY), NAMED, ISSUER),
        (SIGNED, sign_officer(OFFICER, OTHER_KEY), ISSUER),
        (SIGNED, sign_officer(OFFICER, Ed25519PrivateKey.from_private_bytes(bytes(32))), ISSUER),
        (SIGNED, NAMED, bytes(32)),
        (SIGNED, SIGNED, ISSUER),
        (NAMED, NAMED, ISSUER),
    ],
)
def test_nobody_elses_word_counts(data: bytes, officer: bytes, issuer: bytes) -> None:
    with pytest.raises(UnauthenticError) as caught:
        open_override(data, officer, issuer)
    assert says_what_to_do(caught)


def test_a_word_of_another_kind_does_not_count() -> None:
    payload = signing.parse_envelope(SIGNED).payload
    with pytest.raises(UnauthenticError, match="is not"):
        open_override(signing.sign(OFFICER_TYPE, payload, OFFICER_KEY), NAMED, ISSUER)


def test_every_bit_of_both_statements_counts() -> None:
    for bit in range(8 * len(SIGNED)):
        with pytest.raises((MalformedError, UnauthenticError)):
            open_override(flipped(SIGNED, bit), NAMED, ISSUER)
    for bit in range(8 * len(NAMED)):
        with pytest.raises((MalformedError, UnauthenticError)):
            open_officer(flipped(NAMED, bit), ISSUER)


@pytest.mark.parametrize(
    "fields",
    [{"tier": 0}, {"tier": 3}, {"day": 65536}, {"weights_sha256": "00"}, {"note": "as agreed"}, {"v": 2}],
)
def test_an_override_names_weights_a_tier_above_0_and_a_day(fields: dict[str, object]) -> None:
    stated = {"v": 1, "weights_sha256": "00" * 32, "tier": 1, "day": 0} | fields
    with pytest.raises(MalformedError):
        open_override(signing.sign(OVERRIDE_TYPE, canonical.encode(stated), OFFICER_KEY), NAMED, ISSUER)


def test_what_could_not_be_read_is_not_signed() -> None:
    for change in ({"tier": 0}, {"weights_sha256": b""}):
        with pytest.raises(MalformedError):
            sign_override(dataclasses.replace(WORD, **change), OFFICER_KEY)


def test_a_release_key_of_two_algorithms_names_an_officer_too() -> None:
    key = HybridKey.generate()
    named = sign_officer(OFFICER, key)
    assert len(named) <= MAX_STATEMENT_BYTES
    issuer = signing.fingerprint_of(signing.raw_public_key(key))
    assert open_officer(named, issuer) == OFFICER
    assert open_override(SIGNED, named, issuer) == WORD
