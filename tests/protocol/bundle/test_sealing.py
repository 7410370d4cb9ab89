import os
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import x25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from protocol.bundle import sealing
from protocol.bundle.sealing import (
    HEAD,
    MAGIC,
    SEGMENT_BYTES,
    SEGMENT_OVERHEAD,
    SealingKey,
    SealingPublicKey,
    check_recipient,
    outline,
    seal,
    sealed_bytes,
    unseal,
)
from protocol.errors import Code, MalformedError, ProtocolError, RefusedError, UnauthenticError
from tests.protocol import samples
from tests.protocol.samples import GRANT

KEY = SealingKey.generate()
OTHER_KEY = SealingKey.generate()
LARGE = 8 * SEGMENT_BYTES
PLAIN = os.urandom(3 * SEGMENT_BYTES)
SEALED = seal(PLAIN, KEY.public_key, GRANT)
SMALL = seal(b"a small bundle", KEY.public_key, GRANT)


def segments() -> list[bytes]:
    """The three sealed segments of `SEALED`."""
    step = SEGMENT_BYTES + SEGMENT_OVERHEAD
    return [SEALED[start : start + step] for start in range(HEAD.size, len(SEALED), step)]


def headed(*parts: bytes, plain_bytes: int = len(PLAIN), grant: bytes = GRANT) -> bytes:
    """A sealed file of other parts."""
    return HEAD.pack(MAGIC, 1, 1, grant, plain_bytes) + b"".join(parts)


@pytest.mark.parametrize(
    "num_bytes", [1, SEGMENT_BYTES - 1, SEGMENT_BYTES, SEGMENT_BYTES + 1, 2 * SEGMENT_BYTES, 3 * SEGMENT_BYTES + 5]
)
def test_a_bundle_of_any_length_opens_with_its_key(num_bytes: int) -> None:
    plain = os.urandom(num_bytes)
    sealed = seal(plain, KEY.public_key, GRANT)
    assert len(sealed) == sealed_bytes(num_bytes)
    assert unseal(sealed, KEY, max_plain_bytes=LARGE) == plain
    assert outline(sealed, max_plain_bytes=LARGE).plain_bytes == num_bytes


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_is_opened(kind: Callable[[bytes], bytes]) -> None:
    assert unseal(kind(SMALL), KEY) == b"a small bundle"


def test_a_refused_file_can_be_let_go() -> None:
    """A view that an error holds on to would keep a mapped file from being closed."""
    data = bytearray(samples.flipped(SMALL, 8 * 200))
    with pytest.raises(UnauthenticError) as caught:
        unseal(data, KEY)
    data.extend(b"no view is left")
    assert caught.value.code is Code.DECRYPT


def test_nothing_of_the_bundle_is_seen_and_no_two_files_are_alike() -> None:
    plain = samples.sealed()
    once, again = seal(plain, KEY.public_key, GRANT), seal(plain, KEY.public_key, GRANT)
    assert unseal(once, KEY) == unseal(again, KEY) == plain
    assert once[HEAD.size :] != again[HEAD.size :]
    assert not any(plain[start : start + 16] in once for start in range(0, len(plain) - 16, 16))


def test_the_longest_file_holds_the_longest_bundle() -> None:
    assert sealed_bytes(sealing.frame.MAX_BUNDLE_BYTES) == sealing.MAX_SEALED_BYTES
    with pytest.raises(MalformedError) as caught:
        unseal(SEALED, KEY)
    assert caught.value.code is Code.LENGTH


def test_every_changed_byte_is_refused() -> None:
    refusals = set()
    for place in range(len(SMALL)):
        for mask in (0x01, 0x02, 0x80, 0xFF):
            changed = bytearray(SMALL)
            changed[place] ^= mask
            with pytest.raises(ProtocolError) as caught:
                unseal(changed, KEY)
            if place >= HEAD.size:
                assert caught.value.code is Code.DECRYPT
            refusals.add(caught.value.code)
    assert refusals == {Code.MAGIC, Code.VERSION, Code.LENGTH, Code.TRUNCATED, Code.TRAILING, Code.DECRYPT}


@pytest.mark.slow
def test_every_flipped_bit_is_refused() -> None:
    for bit in range(8 * len(SMALL)):
        with pytest.raises(ProtocolError):
            unseal(samples.flipped(SMALL, bit), KEY)


def test_another_key_opens_nothing() -> None:
    half = SealingKey(mlkem=KEY.mlkem, x25519=OTHER_KEY.x25519)
    other_half = SealingKey(mlkem=OTHER_KEY.mlkem, x25519=KEY.x25519)
    for key in (OTHER_KEY, half, other_half):
        with pytest.raises(UnauthenticError) as caught:
            unseal(SMALL, key)
        assert caught.value.code is Code.DECRYPT


def test_a_file_for_another_site_is_refused_before_a_key_touches_it() -> None:
    outside = outline(SMALL)
    check_recipient(outside, (bytes(16), GRANT))
    with pytest.raises(UnauthenticError, match="export to this site") as caught:
        check_recipient(outside, (bytes(16),))
    assert caught.value.code is Code.RECIPIENT
    assert caught.value.exit_code == 10


def changed_order(*order: int) -> bytes:
    return headed(*(segments()[index] for index in order))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(changed_order(1, 0, 2), "DECRYPT", id="segments-swapped"),
        pytest.param(changed_order(0, 2, 1), "DECRYPT", id="last-segment-swapped"),
        pytest.param(changed_order(0, 0, 2), "DECRYPT", id="segment-repeated"),
        pytest.param(changed_order(0, 1), "TRUNCATED", id="last-segment-dropped"),
        pytest.param(changed_order(0, 1, 2, 2), "TRAILING", id="segment-added"),
        pytest.param(headed(*segments()[:2], plain_bytes=2 * SEGMENT_BYTES), "DECRYPT", id="dropped-and-relabelled"),
        pytest.param(headed(*segments(), grant=bytes(16)), "DECRYPT", id="other-grant"),
        pytest.param(headed(*segments(), plain_bytes=len(PLAIN) - 1), "TRAILING", id="shorter-than-it-is"),
        pytest.param(
            headed(*segments()[:2], segments()[2][:-1], plain_bytes=len(PLAIN) - 1), "DECRYPT", id="cut-and-relabelled"
        ),
        pytest.param(
            headed(*segments(), bytes(SEGMENT_OVERHEAD), plain_bytes=len(PLAIN)), "TRAILING", id="empty-segment-added"
        ),
        pytest.param(SEALED[: HEAD.size + SEGMENT_BYTES + SEGMENT_OVERHEAD], "TRUNCATED", id="cut-at-an-edge"),
        pytest.param(SEALED[:-1], "TRUNCATED", id="last-byte-missing"),
        pytest.param(SEALED + b"\0", "TRAILING", id="one-byte-more"),
        pytest.param(SEALED + SEALED, "TRAILING", id="twice"),
        pytest.param(headed(bytes(len(SEALED) - HEAD.size)), "DECRYPT", id="zeros"),
    ],
)
def test_segments_hold_together_or_do_not_open(data: bytes, code: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        unseal(data, KEY, max_plain_bytes=LARGE)
    assert caught.value.code == code


@pytest.mark.parametrize("share", ["00" * 32, "01" + "00" * 31, "ff" * 32], ids=["zero", "one", "ones"])
def test_a_share_of_low_order_in_a_segment_does_not_open(share: str) -> None:
    changed = bytearray(SMALL)
    changed[HEAD.size + 1088 : HEAD.size + 1120] = bytes.fromhex(share)
    with pytest.raises(UnauthenticError) as caught:
        unseal(changed, KEY)
    assert caught.value.code is Code.DECRYPT


@pytest.mark.parametrize(
    ("data", "code", "says"),
    [
        (b"", "TRUNCATED", "cut short"),
        (MAGIC[:7], "TRUNCATED", "cut short"),
        (SMALL[: HEAD.size - 1], "TRUNCATED", "cut short"),
        (SMALL[: HEAD.size], "TRUNCATED", "cut short"),
        (SMALL.replace(b"\r\n", b"\n", 1), "MAGIC", "text mode"),
        (b"PK\x03\x04" + bytes(40), "MAGIC", "zip"),
        (b"\x80\x04" + bytes(40), "MAGIC", "pickle"),
        (b"\x7fELF" + bytes(40), "MAGIC", "program"),
        (bytes(8) + b"{" + bytes(40), "MAGIC", "safetensors"),
        (HEAD.pack(MAGIC, 0, 1, GRANT, 14), "VERSION", "update"),
        (HEAD.pack(MAGIC, 2, 1, GRANT, 14), "VERSION", "2.1"),
        (HEAD.pack(MAGIC, 1, 2, GRANT, 14), "VERSION", "1.2"),
        (HEAD.pack(MAGIC, 1, 1, GRANT, 0), "LENGTH", "no bundle has"),
        (HEAD.pack(MAGIC, 1, 1, GRANT, sealing.frame.MAX_BUNDLE_BYTES + 1), "LENGTH", "no bundle has"),
        (HEAD.pack(MAGIC, 1, 1, GRANT, 2**64 - 1), "LENGTH", "no bundle has"),
    ],
    ids=samples.code_only,
)
def test_what_is_no_sealed_file_is_named(data: bytes, code: str, says: str) -> None:
    for read in (outline, lambda data: unseal(data, KEY)):
        with pytest.raises(MalformedError, match=says) as caught:
            read(data)
        assert caught.value.code == code


def test_a_bundle_that_was_not_sealed_is_against_the_policy() -> None:
    with pytest.raises(RefusedError, match="not sealed to this site") as caught:
        unseal(samples.sealed(), KEY)
    assert caught.value.code is Code.POLICY
    assert caught.value.exit_code == 11


@pytest.mark.parametrize(("plain", "grant"), [(b"", GRANT), (b"x", GRANT[:15]), (b"x", GRANT + b"\0")])
def test_what_could_not_be_opened_is_not_sealed(plain: bytes, grant: bytes) -> None:
    with pytest.raises(MalformedError):
        seal(plain, KEY.public_key, grant)


RAW = KEY.public_key.raw
POINT = RAW[1184:]


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="empty"),
        pytest.param(RAW[:-1], id="short"),
        pytest.param(RAW + b"\0", id="long"),
        pytest.param(RAW[:1184], id="one-half"),
        pytest.param(POINT + RAW[:1184], id="halves-swapped"),
        pytest.param(b"\xff\xff" + RAW[2:], id="coefficient-of-4095"),
        pytest.param(bytes([0x01, RAW[1] & 0xF0 | 0x0D]) + RAW[2:], id="coefficient-of-the-modulus"),
        pytest.param(RAW[:1184] + bytes(32), id="point-of-order-4"),
        pytest.param(RAW[:1184] + b"\x01" + bytes(31), id="point-of-order-1"),
        pytest.param(
            RAW[:1184] + bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
            id="point-of-order-8",
        ),
        pytest.param(
            RAW[:1184] + bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
            id="another-point-of-order-8",
        ),
        pytest.param(RAW[:1184] + b"\xec" + b"\xff" * 30 + b"\x7f", id="point-of-order-2"),
        pytest.param(RAW[:1184] + b"\xed" + b"\xff" * 30 + b"\x7f", id="the-prime"),
        pytest.param(RAW[:1184] + b"\xf6" + b"\xff" * 30 + b"\x7f", id="nine-plus-the-prime"),
        pytest.param(RAW[:-1] + bytes([RAW[-1] | 0x80]), id="top-bit"),
    ],
)
def test_a_key_that_is_not_one_is_not_sealed_to(raw: bytes) -> None:
    with pytest.raises(MalformedError, match="new request") as caught:
        SealingPublicKey(raw=raw)
    assert caught.value.code is Code.VALUE


def test_a_public_key_is_known_by_its_bytes() -> None:
    assert len(RAW) == 1216
    assert SealingPublicKey(raw=RAW) == KEY.public_key != OTHER_KEY.public_key


@pytest.mark.parametrize("passphrase", [None, b"correct horse battery"])
def test_a_private_key_reads_back_as_it_was_written(passphrase: bytes | None) -> None:
    pem = KEY.pem(passphrase)
    assert SealingKey.from_pem(pem, passphrase).public_key == KEY.public_key
    assert (b"LOCKED" in pem) == (passphrase is not None)


def other_pem() -> bytes:
    return x25519.X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"damaged",
        KEY.pem()[:100],
        KEY.pem() + other_pem(),
        other_pem(),
        other_pem() + KEY.pem()[: -len(other_pem())],
        other_pem() * 2,
        b"a comment\n" + KEY.pem(),
    ],
    ids=["empty", "damaged", "cut", "three", "one", "halves-swapped", "twice-x25519", "comment"],
)
def test_a_damaged_private_key_is_refused(pem: bytes) -> None:
    with pytest.raises(ValueError):
        SealingKey.from_pem(pem)


def test_a_wrong_passphrase_opens_no_key() -> None:
    with pytest.raises(ValueError):
        SealingKey.from_pem(KEY.pem(b"right"), b"wrong")
    with pytest.raises(TypeError):
        SealingKey.from_pem(KEY.pem(b"right"))


def test_no_secret_is_shown() -> None:
    shown = repr(KEY)
    for secret in (KEY.mlkem.private_bytes_raw(), KEY.x25519.private_bytes_raw()):
        assert secret.hex() not in shown
        assert repr(secret)[2:-1] not in shown
