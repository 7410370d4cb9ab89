"""The table of hostile sealed files: what is wrong on the outside of a bundle that travels."""

import struct
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from protocol.bundle.sealing import HEAD, MAGIC, MAX_SEALED_BYTES, SEGMENT_BYTES, SEGMENT_OVERHEAD, seal
from tests.hostile import bundles as b
from tests.hostile.bundles import MARKER, OTHER_SITE, SEALING_KEY, SECOND_GRANT, SITE, delivered

_HPKE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
_ENC = KEM.MLKEM768_X25519.enc_length()
_NOISE = MARKER.encode() * 20
LOW_ORDER = (
    bytes(32),
    b"\1" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
)
"""Points of X25519 to which everything is sealed alike."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One fault of a sealed file; see `bundle_cases.Case`.

    Attributes:
        inspected: the code word where `inspect --keys` says another than `receive`.
    """

    row: str
    what: str
    make: Callable[[], bytes]
    word: str
    code: int = 12
    says: str = ""
    inspected: str = ""


def headed(
    *, magic: bytes = MAGIC, major: int = 1, suite: int = 1, grant: bytes = SITE.grant, length: int | None = None
) -> bytes:
    """A sealed file whose head says something else."""
    plain = b.honest()
    length = len(plain) if length is None else length
    return magic + struct.pack("<HH16sQ", major, suite, grant, length) + delivered(plain)[HEAD.size :]


def changed(place: int, new: bytes) -> bytes:
    """A sealed file with other bytes from a place on, counted from its end if it is negative."""
    data = bytearray(delivered(b.honest()))
    place %= len(data)
    assert data[place : place + len(new)] != new
    data[place : place + len(new)] = new
    return bytes(data)


def bit(place: int) -> bytes:
    data = delivered(b.honest())
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :] if place >= 0 else bit(len(data) + place)


def sealed_at(index: int, count: int, *, aad_like: bytes = b"") -> bytes:
    """A segment that was sealed for another place than the one where it stands."""
    plain = b.honest()
    head = HEAD.pack(MAGIC, 1, 1, SITE.grant, len(plain))
    info = head + struct.pack("<II", index, count) + aad_like
    return head + _HPKE.encrypt(plain, SEALING_KEY.hpke_key, info=info)


def sealed_with(kdf: KDF = KDF.HKDF_SHA256, aead: AEAD = AEAD.CHACHA20_POLY1305) -> bytes:
    """A file whose segment was sealed with another suite than its head says."""
    plain = b.honest()
    head = HEAD.pack(MAGIC, 1, 1, SITE.grant, len(plain))
    suite = Suite(KEM.MLKEM768_X25519, kdf, aead)
    return head + suite.encrypt(plain, SEALING_KEY.hpke_key, info=head + struct.pack("<II", 0, 1))


def spliced() -> bytes:
    """The encapsulated key of one file with the ciphertext of another, both sealed to this site."""
    one, other = delivered(b.honest()), delivered(b.honest())
    return one[: HEAD.size + _ENC] + other[HEAD.size + _ENC :]


def with_share(share: bytes) -> bytes:
    """A sealed file whose X25519 share is another point."""
    return changed(HEAD.size + _ENC - 32, share)


def with_mlkem(ciphertext: bytes) -> bytes:
    return changed(HEAD.size, ciphertext)


def to_other_key() -> bytes:
    assert OTHER_SITE.identity.sealing_key is not None
    return seal(b.honest(), OTHER_SITE.identity.sealing_key.public_key, SITE.grant)


def to_other_site() -> bytes:
    assert OTHER_SITE.identity.sealing_key is not None
    return seal(b.honest(), OTHER_SITE.identity.sealing_key.public_key, OTHER_SITE.grant)


def two_segments(order: tuple[int, ...]) -> bytes:
    """A well-formed file of two segments, which is longer than any bundle, with its segments in some order."""
    plain = b.honest().ljust(SEGMENT_BYTES + 100, b"\0")
    data = seal(plain, SEALING_KEY, SITE.grant)
    step = SEGMENT_BYTES + SEGMENT_OVERHEAD
    segments = [data[HEAD.size : HEAD.size + step], data[HEAD.size + step :]]
    return data[: HEAD.size] + b"".join(segments[index] for index in order)


def case(row: str, what: str, make: Callable[[], bytes], word: str, code: int = 12, **more) -> Case:
    return Case(row=row, what=what, make=make, word=word, code=code, **more)


CASES = [
    case("B01s", "empty file", lambda: b"", "TRUNCATED", inspected="TRUNCATED"),
    case("B02s", "seven bytes of magic", lambda: delivered(b.honest())[:7], "TRUNCATED", inspected="MAGIC"),
    case("B02t", "head alone", lambda: delivered(b.honest())[: HEAD.size], "TRUNCATED"),
    case("B02u", "half a head", lambda: delivered(b.honest())[:20], "TRUNCATED"),
    case("B03s", "zip archive", lambda: b"PK\x03\x04" + _NOISE, "MAGIC", says="zip archive"),
    case("B03t", "pickle", lambda: b"\x80\x04\x95" + _NOISE, "MAGIC", says="pickle"),
    case("B03u", "program", lambda: b"\x7fELF\x02\x01\x01" + _NOISE, "MAGIC", says="program"),
    case("B03v", "request", lambda: SITE.request, "MAGIC", says="request"),
    case("B03w", "age file", lambda: b"age-encryption.org/v1\n" + _NOISE, "MAGIC", says="something else"),
    case("B04s", "carriage returns lost", lambda: headed(magic=b"ECSL\n\x1a\n"), "MAGIC", says="text mode"),
    case("B05s", "major 2", lambda: headed(major=2), "VERSION"),
    case("B05t", "major 0", lambda: headed(major=0), "VERSION"),
    case("B14", "suite of a later version", lambda: headed(suite=2), "VERSION"),
    case("B14b", "suite 0", lambda: headed(suite=0), "VERSION"),
    case("B14c", "second recipient behind the first", lambda: delivered(b.honest()) + to_other_key()[36:], "LENGTH"),
    case("B14e", "share of a second recipient", lambda: delivered(b.honest()) + to_other_key()[36:1156], "TRAILING"),
    case("B14d", "note behind the segments", lambda: delivered(b.honest()) + _NOISE, "TRAILING"),
    case("B15", "grant in the head of another request", lambda: headed(grant=SECOND_GRANT), "DECRYPT", 10),
    case("B15b", "first byte of the key share flipped", lambda: bit(HEAD.size), "DECRYPT", 10),
    case("B15c", "last byte of the key share flipped", lambda: bit(HEAD.size + _ENC - 2), "DECRYPT", 10),
    case("B15d", "first byte of the content flipped", lambda: bit(HEAD.size + _ENC), "DECRYPT", 10),
    case("B15e", "tag flipped", lambda: bit(-1), "DECRYPT", 10),
    case(
        *("B15f", "length and end cut by one", lambda: headed(length=len(b.honest()) - 1)[:-1], "DECRYPT", 10),
    ),
    case("B15g", "other key derivation than stated", lambda: sealed_with(kdf=KDF.HKDF_SHA512), "DECRYPT", 10),
    case("B15h", "other cipher than stated", lambda: sealed_with(aead=AEAD.AES_256_GCM), "DECRYPT", 10),
    case("B16", "last segment dropped", lambda: delivered(b.honest())[: HEAD.size], "TRUNCATED"),
    case("B16b", "last byte missing", lambda: delivered(b.honest())[:-1], "TRUNCATED"),
    case("B16c", "sealed as the first of two", lambda: sealed_at(0, 2), "DECRYPT", 10),
    case("B16d", "sealed as the last of two", lambda: sealed_at(1, 2), "DECRYPT", 10),
    case("B17", "segments swapped", lambda: two_segments((1, 0)), "LENGTH"),
    case("B17b", "key share and content of two files", spliced, "DECRYPT", 10),
    case("B17c", "place sealed with more than a place", lambda: sealed_at(0, 1, aad_like=b"\0"), "DECRYPT", 10),
    case("B18", "empty segment at the end", lambda: delivered(b.honest()) + bytes(SEGMENT_OVERHEAD), "TRAILING"),
    case("B18b", "declared length of 0", lambda: headed(length=0), "LENGTH"),
    case("B18c", "two segments in order", lambda: two_segments((0, 1)), "LENGTH"),
    *(
        case(f"B19-{number}", "share of low order", lambda share=share: with_share(share), "DECRYPT", 10)
        for number, share in enumerate(LOW_ORDER)
    ),
    case("B19b", "share beyond the prime", lambda: with_share(b"\xff" * 31 + b"\x7f"), "DECRYPT", 10),
    case("B19c", "share with its top bit set", lambda: bit(HEAD.size + _ENC - 1), "DECRYPT", 10),
    case("B19d", "lattice part all zero", lambda: with_mlkem(bytes(1088)), "DECRYPT", 10),
    case("B19e", "lattice part all ones", lambda: with_mlkem(b"\xff" * 1088), "DECRYPT", 10),
    case("B19f", "short share", lambda: delivered(b.honest())[:1000], "TRUNCATED"),
    case("B20", "for another key", to_other_key, "DECRYPT", 10),
    case("B20b", "for another site", to_other_site, "RECIPIENT", 10),
    case("B20c", "for a grant of nobody", lambda: headed(grant=bytes(16)), "RECIPIENT", 10),
    case("B21", "declared length of 2 to 64", lambda: headed(length=2**64 - 1), "LENGTH"),
    case("B21b", "declared length of 2 to 63", lambda: headed(length=2**63), "LENGTH"),
    case(
        "B21c", "declared length one beyond the largest", lambda: headed(length=b.bundle.MAX_BUNDLE_BYTES + 1), "LENGTH"
    ),
    case("B21d", "declared length one more", lambda: headed(length=len(b.honest()) + 1), "TRUNCATED"),
    case("B21e", "declared length one less", lambda: headed(length=len(b.honest()) - 1), "TRAILING"),
    case("B21f", "head of 1 MiB", lambda: headed()[:36] + _NOISE * 5000 + headed()[36:], "LENGTH"),
    case("B21g", "one byte longer than any", lambda: headed().ljust(MAX_SEALED_BYTES + 1, b"\0"), "LENGTH"),
    case("B22", "bundle that was not sealed", b.honest, "POLICY", 11, says="sealed"),
]
