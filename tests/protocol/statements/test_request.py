import json
from datetime import UTC, datetime

import pytest

from protocol.bundle.sealing import seal, unseal
from protocol.errors import KeyFileError, MalformedError, ProtocolError, UnauthenticError
from protocol.identity import signing
from protocol.identity.identities import Identity, Role, create_identity
from protocol.statements.request import MAX_REQUEST_BYTES, PAYLOAD_TYPE, grant_id, open_request, sign_request
from tests.protocol.samples import flipped

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SITE = create_identity(Role.TARGET, NOW)
OTHER_SITE = create_identity(Role.TARGET, NOW)
SOURCE = create_identity(Role.SOURCE, NOW)
NONCE = bytes(range(32))
REQUEST = sign_request(SITE, nonce=NONCE, day=20_500)
RAW = SITE.sealing_key.public_key.raw if SITE.sealing_key else b""


def resigned(identity: Identity = SITE, **changes: object) -> bytes:
    """The request with some fields changed and signed again."""
    fields = json.loads(signing.parse_envelope(REQUEST).payload)
    payload = json.dumps({**fields, **changes}, sort_keys=True, separators=(",", ":")).encode()
    return signing.sign(PAYLOAD_TYPE, payload, identity.signing_key)


def test_a_request_says_who_asks_and_when() -> None:
    request = open_request(REQUEST)
    assert request.certificate == SITE.certificate_pem
    assert request.fingerprint == SITE.fingerprint
    assert (request.nonce, request.day) == (NONCE, 20_500)


def test_what_is_sealed_to_a_request_is_opened_by_its_site() -> None:
    sealed = seal(b"a bundle", open_request(REQUEST).sealing_key, grant_id(REQUEST))
    assert SITE.sealing_key is not None
    assert unseal(sealed, SITE.sealing_key) == b"a bundle"


def test_a_request_is_far_smaller_than_the_largest() -> None:
    assert len(REQUEST) < MAX_REQUEST_BYTES // 2


def test_each_request_is_a_grant_of_its_own() -> None:
    another = sign_request(SITE, nonce=bytes(32), day=20_500)
    assert grant_id(REQUEST) != grant_id(another)
    assert len(grant_id(REQUEST)) == 16


def test_a_certificate_of_another_site_is_refused() -> None:
    with pytest.raises(UnauthenticError) as caught:
        open_request(resigned(certificate=OTHER_SITE.certificate_pem.decode()))
    assert caught.value.code == "IDENTITY"


def test_a_source_cannot_ask() -> None:
    with pytest.raises(KeyFileError, match="use a target's keys"):
        sign_request(SOURCE, nonce=NONCE, day=20_500)
    with pytest.raises(UnauthenticError) as caught:
        open_request(resigned(SOURCE, certificate=SOURCE.certificate_pem.decode()))
    assert caught.value.code == "IDENTITY"


def test_something_else_that_the_site_signed_is_no_request() -> None:
    with pytest.raises(UnauthenticError) as caught:
        open_request(REQUEST.replace(b"request.v1", b"receipt.v1"))
    assert caught.value.code == "PAYLOAD_TYPE"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"note": "hello"}, "UNKNOWN_FIELD"),
        ({"v": 2}, "ENUM"),
        ({"day": -1}, "RANGE"),
        ({"nonce": "00"}, "RANGE"),
        ({"sealing_key": ""}, "RANGE"),
        ({"sealing_key": RAW[:-1].hex()}, "RANGE"),
        ({"sealing_key": RAW.hex().upper()}, "RANGE"),
        ({"sealing_key": (RAW[:1184] + bytes(32)).hex()}, "VALUE"),
        ({"sealing_key": (b"\xff\xff" + RAW[2:]).hex()}, "VALUE"),
        ({"sealing_key": (RAW[:-1] + bytes([RAW[-1] | 0x80])).hex()}, "VALUE"),
        ({"certificate": SITE.certificate_pem.decode() + "a comment\n"}, "NOT_CANONICAL"),
        ({"certificate": "a comment\n" + SITE.certificate_pem.decode()}, "IDENTITY"),
    ],
)
def test_a_request_has_no_room_for_anything_else(changes: dict[str, object], code: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        open_request(resigned(SITE, **changes))
    assert caught.value.code == code


def test_every_flipped_bit_of_a_request_is_refused() -> None:
    for bit in range(0, 8 * len(REQUEST), 5):  # a step that meets every bit of a byte
        with pytest.raises((MalformedError, UnauthenticError)):
            open_request(flipped(REQUEST, bit))
