"""List cases about sealed files: for whom, for which request, unchanged."""

import struct
from collections.abc import Iterator

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from protocol.bundle import frame, sealing
from protocol.conformance.case import ACCEPTED, Case, Ending, malformed, refused, unauthentic
from protocol.conformance.workshop import MANY, Workshop, changed
from protocol.errors import Code

GROUP = "sealed"
_DECRYPT = unauthentic(Code.DECRYPT)
_HPKE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)

Faults = Iterator[tuple[str, str, str, bytes, Ending]]


def sealed(shop: Workshop) -> Iterator[Case]:
    """Yield every case about sealed files."""
    yield shop.case(GROUP, "honest", "honest", "a sealed file as it should be", shop.sealed())
    for faults in (_heads(shop), _lengths(shop), _seals(shop), _contents(shop)):
        for name, rule, proves, content, ending in faults:
            yield shop.case(GROUP, name, rule, proves, shop.sealed(content, ending))
    first, second = shop.sealed_of(shop.bundle_of()), shop.sealed_of(shop.bundle_of())
    yield shop.case(
        GROUP,
        "second-answer",
        "second-answer",
        "a request is answered once",
        shop.sealed(first),
        shop.sealed(second, refused(Code.GRANT)),
    )
    yield shop.case(
        GROUP, "same-again", "honest", "the same bytes may come again", shop.sealed(first), shop.sealed(first)
    )


def _heads(shop: Workshop) -> Faults:
    data = shop.sealed_of(shop.bundle_of())
    for place in range(8):
        ending = malformed(Code.MAGIC)
        yield f"magic-byte-{place}", "seal-magic", "every byte of the magic counts", changed(data, place), ending
    for major, suite in ((0, 1), (2, 1), (1, 0), (1, 2), (1, 0x20), (65535, 65535)):
        told = data[:8] + struct.pack("<HH", major, suite) + data[12:]
        ending = malformed(Code.VERSION)
        yield f"suite-{major}-{suite}", "seal-suite", "no other version and no other suite", told, ending
    unknown = data[:12] + bytes(16) + data[28:]
    ending = unauthentic(Code.RECIPIENT)
    yield "grant-of-nobody", "recipient", "a file answers a request of the site", unknown, ending
    other = data[:12] + shop.grant(MANY) + data[28:]
    yield "grant-not-asked-for", "recipient", "a file answers a request of the site", other, ending
    swapped = data[:12] + shop.grant(1) + data[28:]
    yield "grant-of-another-request", "seal-binds", "the grant is bound to the seal", swapped, _DECRYPT
    yield "bundle-without-seal", "unsealed", "a bundle comes sealed", shop.bundle_of(), refused(Code.POLICY)


def _lengths(shop: Workshop) -> Faults:
    plain = shop.bundle_of()
    data = shop.sealed_of(plain)
    for length in (0, 7, 8, 35, 36, 36 + 1120, len(data) // 2, len(data) - 1):
        yield f"cut-to-{length}", "seal-truncated", "a file is whole", data[:length], malformed(Code.TRUNCATED)
    for name, more in (
        ("zero", b"\0"),
        ("line-feed", b"\n"),
        ("head-again", data[:2000]),
        ("part-again", data[36:40_000]),
    ):
        yield f"trailing-{name}", "seal-trailing", "nothing follows", data + more, malformed(Code.TRAILING)
    for length in (0, frame.MAX_BUNDLE_BYTES + 1, 1 << 63, (1 << 64) - 1):
        told = data[:28] + length.to_bytes(8, "little") + data[36:]
        yield f"length-{length:x}", "seal-length", "a bundle has at most its length", told, malformed(Code.LENGTH)
    too_long = data + bytes(sealing.MAX_SEALED_BYTES)
    yield "longer-than-any", "seal-length", "no file is longer than any bundle", too_long, malformed(Code.LENGTH)
    shorter = data[:28] + (len(plain) - 1).to_bytes(8, "little") + data[36:-1]
    yield "length-one-less", "seal-binds", "the length is bound to the seal", shorter, _DECRYPT
    longer = data[:28] + (len(plain) + 1).to_bytes(8, "little") + data[36:] + b"\0"
    yield "length-one-more", "seal-binds", "the length is bound to the seal", longer, _DECRYPT


def _seals(shop: Workshop) -> Faults:
    plain = shop.bundle_of()
    data = shop.sealed_of(plain)
    for name, place in (
        *(("ml-kem", 36), ("ml-kem-end", 36 + 1087), ("x25519", 36 + 1088), ("x25519-end", 36 + 1119)),
        *(("ciphertext", 36 + 1120), ("ciphertext-end", -17), ("tag", -16), ("tag-end", -1)),
    ):
        bit = 0x40 if name == "x25519-end" else 1
        yield f"changed-{name}", "seal", "not a byte may change", changed(data, place, bit), _DECRYPT
    assert shop.other_site.sealing_key is not None
    other = shop.sealed_of(plain, recipient=shop.other_site.sealing_key)
    yield "for-another-site", "seal", "only the site opens it", other, _DECRYPT
    yield "neutral-share", "seal", "no share of low order", data[: 36 + 1088] + bytes(32) + data[36 + 1120 :], _DECRYPT
    for name, index, count in (("other-index", 1, 1), ("other-count", 0, 2)):
        yield name, "seal-binds", "place and number are bound", _bound(shop, plain, data[:36], index, count), _DECRYPT
    yield "bound-to-nothing", "seal-binds", "the head is bound", _bound(shop, plain, b"", 0, 1), _DECRYPT
    yield "classic-suite", "seal", "one suite alone", _in_classic_suite(shop, plain, data[:36]), _DECRYPT


def _bound(shop: Workshop, plain: bytes, head: bytes, index: int, count: int) -> bytes:
    """Return a file whose seal is bound to another place."""
    info = head + struct.pack("<II", index, count)
    sealed_piece = _HPKE.encrypt(plain, shop.sealing_key.public_key.hpke_key, info=info)
    return sealing.HEAD.pack(sealing.MAGIC, sealing.MAJOR, sealing.SUITE, shop.grant(), len(plain)) + sealed_piece


def _in_classic_suite(shop: Workshop, plain: bytes, head: bytes) -> bytes:
    """Return a file that is sealed by X25519 alone, as long as a right one."""
    suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
    key: X25519PrivateKey = shop.sealing_key.x25519
    piece = suite.encrypt(plain, key.public_key(), info=head + struct.pack("<II", 0, 1))
    return head + piece + bytes(len(plain) + sealing.SEGMENT_OVERHEAD - len(piece))


def _contents(shop: Workshop) -> Faults:
    """Yield what is sealed rightly and is not right inside."""
    plain = shop.bundle_of()
    stranger = shop.bundle_of(key=shop.stranger)
    for name, rule, proves, inside, ending in (
        ("inside-stranger", "signer", "a seal says nothing of the sender", stranger, unauthentic(Code.KEY_UNKNOWN)),
        ("inside-changed", "digest", "a seal proves nothing", changed(plain, -1), unauthentic(Code.DIGEST)),
        ("inside-trailing", "trailing", "a seal hides nothing", plain + b"\0", malformed(Code.TRAILING)),
        ("inside-cut", "truncated", "a seal hides nothing", plain[:-1], malformed(Code.TRUNCATED)),
        ("inside-text", "magic", "a bundle is inside", b"this is no bundle at all", malformed(Code.MAGIC)),
        ("inside-sealed", "magic", "a bundle is inside", shop.sealed_of(b"x" * 99), malformed(Code.MAGIC)),
    ):
        yield name, rule, proves, shop.sealed_of(inside), ending
    other = shop.bundle_of(shop.stated(number=1))
    yield "inside-other-request", "grant", "both name one request", shop.sealed_of(other), refused(Code.GRANT)
    last = shop.bundle_of(shop.stated(number=MANY - 1))
    yield "last-request", "honest", "every request counts", shop.sealed_of(last, number=MANY - 1), ACCEPTED
