import base64
import json
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol.errors import Code, MalformedError, ProtocolError, UnauthenticError
from protocol.identity import signing
from tests.protocol.samples import ISSUER, OTHER_KEY, RELEASE_KEY, code_only, flipped, says_what_to_do

TYPE = "application/vnd.ecan.test+json"
PAYLOAD = b'{"a":1}'
ENVELOPE = signing.sign(TYPE, PAYLOAD, RELEASE_KEY)
GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493


def opened(data: bytes, payload_type: str = TYPE, signer: bytes = ISSUER) -> bytes:
    return signing.verify_envelope(signing.parse_envelope(data), payload_type=payload_type, signer=signer)


def changed(change: Callable[[dict[str, object], dict[str, object]], object]) -> bytes:
    """The envelope after a change to it and to its signature, canonical again."""
    value = json.loads(ENVELOPE)
    change(value, value["signatures"][0])
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def set_signature(signature: bytes) -> bytes:
    return changed(lambda value, entry: entry.update(sig=base64.b64encode(signature).decode()))


def signature_of(data: bytes) -> bytes:
    return signing.parse_envelope(data).signature


def test_a_signed_payload_is_returned_as_it_was_signed() -> None:
    assert opened(ENVELOPE) == PAYLOAD


def test_the_pre_authentication_encoding_is_that_of_dsse() -> None:
    encoded = signing.pre_authentication_encoding("http://example.com/HelloWorld", b"hello world")
    assert encoded == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(UnauthenticError) as caught:
        opened(signing.sign(TYPE, PAYLOAD, OTHER_KEY))
    assert caught.value.code == "KEY_UNKNOWN"
    assert says_what_to_do(caught)
    assert ISSUER.hex() in str(caught.value)


def test_a_payload_of_another_type_is_refused() -> None:
    with pytest.raises(UnauthenticError) as caught:
        opened(signing.sign("application/vnd.ecan.other+json", PAYLOAD, RELEASE_KEY))
    assert caught.value.code == "PAYLOAD_TYPE"
    assert TYPE in str(caught.value)


def test_a_type_that_was_renamed_after_signing_is_refused() -> None:
    data = signing.sign("application/vnd.ecan.other+json", PAYLOAD, RELEASE_KEY)
    renamed = data.replace(b"application/vnd.ecan.other+json", TYPE.encode())
    with pytest.raises(UnauthenticError) as caught:
        opened(renamed)
    assert caught.value.code == "SIG_INVALID"


def malleable(signature: bytes) -> bytes:
    """The same signature with S + L: accepted by sloppy verifiers."""
    s = int.from_bytes(signature[32:], "little") + GROUP_ORDER
    return signature[:32] + s.to_bytes(32, "little")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (set_signature(bytes([signature_of(ENVELOPE)[0] ^ 1]) + signature_of(ENVELOPE)[1:]), "SIG_INVALID"),
        (set_signature(signature_of(ENVELOPE)[:63]), "SIG_INVALID"),
        (set_signature(signature_of(ENVELOPE) + b"\0"), "SIG_INVALID"),
        (set_signature(b""), "SIG_INVALID"),
        (set_signature(bytes(64)), "SIG_INVALID"),
        (set_signature(malleable(signature_of(ENVELOPE))), "SIG_INVALID"),
        (set_signature(RELEASE_KEY.sign(PAYLOAD)), "SIG_INVALID"),
        (set_signature(OTHER_KEY.sign(signing.pre_authentication_encoding(TYPE, PAYLOAD))), "SIG_INVALID"),
        (changed(lambda value, entry: value.update(payload="eyJhIjoyfQ==")), "SIG_INVALID"),
        (changed(lambda value, entry: entry.update(keyid=signing.raw_public_key(OTHER_KEY).hex())), "KEY_UNKNOWN"),
        (changed(lambda value, entry: value.update(signatures=[])), "SIG_MISSING"),
        (changed(lambda value, entry: value.update(signatures="sig")), "SIG_MISSING"),
        (changed(lambda value, entry: value.pop("signatures")), "SIG_MISSING"),
        (changed(lambda value, entry: value.update(signatures=[entry, entry])), "SIG_MISSING"),
    ],
    ids=code_only,
)
def test_a_signature_that_does_not_hold_is_refused(data: bytes, code: str) -> None:
    with pytest.raises(UnauthenticError) as caught:
        opened(data)
    assert caught.value.code == code
    assert says_what_to_do(caught)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "NOT_CANONICAL"),
        (ENVELOPE[:-1], "NOT_CANONICAL"),
        (b" " + ENVELOPE, "NOT_CANONICAL"),
        (ENVELOPE.decode().encode("utf-16"), "NOT_CANONICAL"),
        (b"\xef\xbb\xbf" + ENVELOPE, "NOT_CANONICAL"),
        (ENVELOPE.replace(b'"payload":', b'"payload":"","payload":'), "DUP_KEY"),
        (changed(lambda value, entry: value.update(note="hi")), "UNKNOWN_FIELD"),
        (changed(lambda value, entry: entry.update(note="hi")), "UNKNOWN_FIELD"),
        (changed(lambda value, entry: value.pop("payload")), "MISSING"),
        (changed(lambda value, entry: entry.pop("keyid")), "MISSING"),
        (changed(lambda value, entry: value.update(signatures=["sig"])), "TYPE"),
        (changed(lambda value, entry: value.update(payload=1)), "TYPE"),
        (changed(lambda value, entry: value.update(payload="eyJhIjoxfQ")), "NOT_CANONICAL"),
        (changed(lambda value, entry: value.update(payload="eyJhIjoxfR==")), "NOT_CANONICAL"),
        (changed(lambda value, entry: value.update(payload="eyJh\nIjoxfQ==")), "NOT_CANONICAL"),
        (changed(lambda value, entry: value.update(payload="eyJhIjox-_==")), "NOT_CANONICAL"),
        (changed(lambda value, entry: value.update(payload="A" * 30_000)), "LENGTH"),
        (changed(lambda value, entry: value.update(signatures=[entry] * 10_000)), "LENGTH"),
    ],
    ids=code_only,
)
def test_an_envelope_has_one_form_only(data: bytes, code: str) -> None:
    with pytest.raises(MalformedError) as caught:
        opened(data)
    assert caught.value.code == code
    assert says_what_to_do(caught)


def test_every_flipped_bit_of_an_envelope_is_refused() -> None:
    for bit in range(8 * len(ENVELOPE)):
        with pytest.raises(ProtocolError):
            opened(flipped(ENVELOPE, bit))


def test_a_bare_signature_holds_for_its_key_type_and_payload_alone() -> None:
    key = Ed25519PrivateKey.generate()
    signature = signing.bare_signature("ecan/test/v1", b"payload", key)
    signing.verify_signature(signing.raw_public_key(key), signature, "ecan/test/v1", b"payload")
    for public_key, type_name, payload in (
        (signing.raw_public_key(RELEASE_KEY), "ecan/test/v1", b"payload"),
        (signing.raw_public_key(key), "ecan/test/v2", b"payload"),
        (signing.raw_public_key(key), "ecan/test/v1", b"payloae"),
        (b"short", "ecan/test/v1", b"payload"),
    ):
        with pytest.raises(UnauthenticError):
            signing.verify_signature(public_key, signature, type_name, payload)


@pytest.mark.parametrize("sign", [0, 0x80])
@pytest.mark.parametrize("point", ["01" + "00" * 31, "ec" + "ff" * 30 + "7f", "00" * 32])
def test_a_key_under_which_everything_is_signed_is_refused(point: str, sign: int) -> None:
    key = bytearray(bytes.fromhex(point))
    key[31] |= sign
    signature = bytes.fromhex("01" + "00" * 63)
    with pytest.raises(UnauthenticError) as refusal:
        signing.verify_signature(bytes(key), signature, "ecan/test/v1", b"anything")
    assert refusal.value.code is Code.SIG_INVALID
