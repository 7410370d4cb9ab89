"""Seal a bundle so that only the site that asked for it can open it.

It does not matter who carries it.

::

     0   8  magic, catches text-mode damage like PNG's
     8   2  major version
    10   2  suite, 1: HPKE with MLKEM768-X25519, HKDF-SHA256, ChaCha20-Poly1305
    12  16  grant
    28   8  length N of the bundle
    36      segments: each a piece of the bundle of `SEGMENT_BYTES`, the last one of what is left, sealed;
            `SEGMENT_OVERHEAD` longer than its piece

Numbers are little-endian. Every segment is one call of the library's HPKE (RFC 9180, base mode), whose ``info`` is
the head, the segment's index and the number of segments. So order, number, grant and length are bound to every
segment without any cryptography of ours, and all lengths follow from N: a segment that is missing, moved, repeated,
of another file or of another grant does not open.

Sealing says nothing about the sender: anyone can seal something to a site. The signature inside a bundle says who
made it.
"""

import io
import mmap
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PrivateKey, Suite

from protocol.bundle import frame
from protocol.bundle.weights import Buffer
from protocol.errors import Code, MalformedError, RefusedError, UnauthenticError
from protocol.identity.sealing_keys import SealingKey, SealingPublicKey

__all__ = [
    "HEAD",
    "MAGIC",
    "MAX_SEALED_BYTES",
    "SEGMENT_BYTES",
    "SEGMENT_OVERHEAD",
    "SealedOutline",
    "SealingKey",
    "SealingPublicKey",
    "check_recipient",
    "outline",
    "seal",
    "seal_parts",
    "sealed_bytes",
    "unseal",
]

MAGIC = b"ECSL\r\n\x1a\n"
MAJOR = 1
SUITE = 1
HEAD = struct.Struct("<8sHH16sQ")
SEGMENT_BYTES = 1024 * 1024
SEGMENT_OVERHEAD = KEM.MLKEM768_X25519.enc_length() + 16

_GRANT_BYTES = 16
_PLACE = struct.Struct("<II")
_HPKE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)


@dataclass(frozen=True, kw_only=True)
class SealedOutline:
    """Describe the outside of a sealed file; anyone could have written it.

    Attributes:
        grant: the grant that it answers, 16 bytes.
        plain_bytes: length of the bundle inside.
    """

    grant: bytes
    plain_bytes: int


def _num_segments(plain_bytes: int) -> int:
    return -(-plain_bytes // SEGMENT_BYTES)


def sealed_bytes(plain_bytes: int) -> int:
    """Return the length of a sealed file in bytes, from its bundle's."""
    return HEAD.size + plain_bytes + _num_segments(plain_bytes) * SEGMENT_OVERHEAD


MAX_SEALED_BYTES = sealed_bytes(frame.MAX_BUNDLE_BYTES)
"""No sealed bundle is longer: what a reader needs to set aside at most."""


def seal(plain: Buffer, recipient: SealingPublicKey, grant: bytes) -> bytes:
    """Seal a bundle to the site that asked; never twice the same bytes.

    Args:
        plain: the bundle.
        recipient: the key in the site's request.
        grant: the grant that the request stands for, 16 bytes.
    """
    sealed = io.BytesIO()
    for part in seal_parts(plain, recipient, grant):
        sealed.write(part)
    return sealed.getvalue()


def seal_parts(plain: Buffer, recipient: SealingPublicKey, grant: bytes) -> Iterator[bytes]:
    """Seal like `seal`, and yield the head and then each segment."""
    if len(grant) != _GRANT_BYTES or not len(plain):
        raise MalformedError(Code.LENGTH, "Only a bundle can be sealed, and only for a grant; export it again.")
    view = memoryview(plain)
    head = HEAD.pack(MAGIC, MAJOR, SUITE, grant, len(view))
    yield head
    for index, info in enumerate(_infos(head, len(view))):
        start = index * SEGMENT_BYTES
        yield _HPKE.encrypt(view[start : start + SEGMENT_BYTES], recipient.hpke_key, info=info)


def outline(data: Buffer, *, max_plain_bytes: int = frame.MAX_BUNDLE_BYTES) -> SealedOutline:
    """Read a sealed file's outside, without a key; believe nothing.

    Raises:
        MalformedError: not a sealed file, of another version, cut short, or with anything after its end.
        RefusedError: it is a bundle that was not sealed.
    """
    head = bytes(memoryview(data)[: HEAD.size])
    _check_magic(head)
    if len(head) < HEAD.size:
        raise _cut_short()
    _, major, suite, grant, plain_bytes = HEAD.unpack(head)
    if (major, suite) != (MAJOR, SUITE):
        raise MalformedError(
            Code.VERSION, f"The sealed file has format {major}.{suite}, known is {MAJOR}.{SUITE}; update ecan-ser."
        )
    if not 0 < plain_bytes <= max_plain_bytes:
        raise MalformedError(Code.LENGTH, "The sealed file declares a length that no bundle has; ask for a new export.")
    if len(data) < sealed_bytes(plain_bytes):
        raise _cut_short()
    if len(data) > sealed_bytes(plain_bytes):
        raise MalformedError(Code.TRAILING, "The sealed file has bytes after its end; transfer it again.")
    return SealedOutline(grant=grant, plain_bytes=plain_bytes)


def check_recipient(outside: SealedOutline, grants: Collection[bytes]) -> None:
    """Refuse a sealed file that answers none of this site's requests.

    No key is used on such a file.

    Args:
        outside: what the file says on its outside.
        grants: the grants that this site asked for, 16 bytes each.

    Raises:
        UnauthenticError: it is for another site (`Code.RECIPIENT`).
    """
    if outside.grant not in grants:
        raise UnauthenticError(
            Code.RECIPIENT,
            f"The file answers the request {outside.grant.hex()}, which this site did not make; "
            "use the keys that made it, or ask for an export to this site.",
        )


def unseal(data: Buffer, key: SealingKey, *, max_plain_bytes: int = frame.MAX_BUNDLE_BYTES) -> bytearray:
    """Open a sealed file.

    Needs the memory of the result and of one segment more, also where the file is mapped. Whose key it takes is
    written nowhere in the file, and HPKE fails alike for another key and for changed bytes: a file for another site
    that slipped past `check_recipient` is therefore a `Code.DECRYPT` too.

    Returns:
        The bundle, of which nothing is verified.

    Raises:
        MalformedError: see `outline`.
        RefusedError: it is a bundle that was not sealed.
        UnauthenticError: sealed to another key, or changed on its way (`Code.DECRYPT`).
    """
    plain = bytearray(outline(data, max_plain_bytes=max_plain_bytes).plain_bytes)
    private_key = key.hpke_key
    with memoryview(data) as view:
        head = bytes(view[: HEAD.size])
        for index, info in enumerate(_infos(head, len(plain))):
            start = index * SEGMENT_BYTES
            num_bytes = min(SEGMENT_BYTES, len(plain) - start)
            place = HEAD.size + start + index * SEGMENT_OVERHEAD
            with view[place : place + num_bytes + SEGMENT_OVERHEAD] as segment:
                plain[start : start + num_bytes] = _open_segment(segment, private_key, info)
            _let_go(data, place + num_bytes)
    return plain


def _let_go(data: Buffer, num_bytes: int) -> None:
    """Release the memory of the first bytes of a mapped file.

    They are on the disk, and were read.
    """
    if isinstance(data, mmap.mmap):
        data.madvise(mmap.MADV_DONTNEED, 0, num_bytes - num_bytes % mmap.PAGESIZE)


def _open_segment(segment: memoryview, private_key: MLKEM768X25519PrivateKey, info: bytes) -> bytes:
    try:
        return _HPKE.decrypt(segment, private_key, info=info)
    except (InvalidTag, ValueError) as error:
        raise UnauthenticError(
            Code.DECRYPT,
            "The file does not open: it was sealed to another key or changed on its way; "
            "transfer it again, or ask for an export to this site.",
        ) from error


def _infos(head: bytes, plain_bytes: int) -> Iterator[bytes]:
    """Yield what each segment is bound to."""
    count = _num_segments(plain_bytes)
    return (head + _PLACE.pack(index, count) for index in range(count))


def _check_magic(head: bytes) -> None:
    """Refuse what is not a sealed file; tell what it looks like."""
    start = head[: len(MAGIC)]
    if start == MAGIC:
        return
    if start == frame.MAGIC:
        raise RefusedError(Code.POLICY, "The bundle is not sealed to this site; ask the source for a sealed export.")
    if MAGIC.startswith(start):
        raise _cut_short()
    if head.startswith(b"ECSL"):
        raise MalformedError(
            Code.MAGIC, "The sealed file was transferred in text mode; transfer it again in binary mode."
        )
    raise MalformedError(Code.MAGIC, f"This is not a sealed file but {frame.likely_kind(head)}; name the sealed file.")


def _cut_short() -> MalformedError:
    return MalformedError(Code.TRUNCATED, "The sealed file is cut short; transfer it again.")
