import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol.errors import MalformedError, ProtocolError, UnauthenticError
from protocol.identity import signing
from protocol.statements.succession import PAYLOAD_TYPE, Succession, open_succession, sign_succession
from tests.protocol.samples import ISSUER, OTHER_KEY, RELEASE_KEY, code_only, flipped

NEW = signing.fingerprint_of(signing.raw_public_key(OTHER_KEY))
LAST = {"last_list": 2, "last_release": 5}
SEALED = sign_succession(RELEASE_KEY, OTHER_KEY, 2, **LAST)
THIRD_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(2, 34)))


def signed(payload_type: str = PAYLOAD_TYPE, key: Ed25519PrivateKey = RELEASE_KEY, **changes: object) -> bytes:
    """A statement that the old key has really signed, but that says something else."""
    value = json.loads(signing.parse_envelope(SEALED).payload)
    value.update(changes)
    return signing.sign(payload_type, json.dumps(value, sort_keys=True, separators=(",", ":")).encode(), key)


def consent_in(data: bytes) -> str:
    return str(json.loads(signing.parse_envelope(data).payload)["consent"])


def test_a_hand_over_is_read_as_it_was_written() -> None:
    assert open_succession(SEALED, ISSUER) == Succession(old=ISSUER, new=NEW, number=2, **LAST)


def test_a_hand_over_by_another_key_than_the_trusted_one_is_refused() -> None:
    with pytest.raises(UnauthenticError) as caught:
        open_succession(SEALED, NEW)
    assert caught.value.code == "KEY_UNKNOWN"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(
            signed(public_key=signing.raw_public_key(THIRD_KEY).hex()), "SIG_INVALID", id="a key that never agreed"
        ),
        pytest.param(signed(number=3), "SIG_INVALID", id="another number than agreed"),
        pytest.param(signed(last_list=3), "SIG_INVALID", id="another last list than agreed"),
        pytest.param(
            signed(consent=consent_in(sign_succession(THIRD_KEY, OTHER_KEY, 2, **LAST))),
            "SIG_INVALID",
            id="agreed elsewhere",
        ),
        pytest.param(signed(public_key="00" * 32), "SIG_INVALID", id="no key at all"),
        pytest.param(signed("application/vnd.ecan.receipt.v1+json"), "PAYLOAD_TYPE", id="another type"),
    ],
)
def test_a_hand_over_needs_the_word_of_both_keys(data: bytes, code: str) -> None:
    with pytest.raises(UnauthenticError) as caught:
        open_succession(data, ISSUER)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (signed(v=1), "ENUM"),
        (signed(number=0), "RANGE"),
        (signed(number=1 << 16), "RANGE"),
        (signed(consent="00"), "RANGE"),
        (signed(note="hi"), "UNKNOWN_FIELD"),
        (b"{}", "MISSING"),
    ],
    ids=code_only,
)
def test_a_hand_over_has_one_form_only(data: bytes, code: str) -> None:
    with pytest.raises(MalformedError) as caught:
        open_succession(data, ISSUER)
    assert caught.value.code == code


def test_a_key_does_not_succeed_itself() -> None:
    with pytest.raises(MalformedError, match="itself"):
        sign_succession(RELEASE_KEY, RELEASE_KEY, 1, **LAST)
    with pytest.raises(MalformedError, match="itself"):
        open_succession(signed(public_key=signing.raw_public_key(RELEASE_KEY).hex()), ISSUER)


@pytest.mark.parametrize("number", [0, 1 << 16])
def test_a_number_that_is_out_of_range_is_not_written(number: int) -> None:
    with pytest.raises(MalformedError):
        sign_succession(RELEASE_KEY, OTHER_KEY, number, **LAST)


def test_every_flipped_bit_is_refused() -> None:
    for bit in range(8 * len(SEALED)):
        with pytest.raises(ProtocolError):
            open_succession(flipped(SEALED, bit), ISSUER)
