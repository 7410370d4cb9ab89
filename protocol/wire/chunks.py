"""Cut sealed bytes for the wire into chunks of one size.

Counted from the start of the file.

The bytes of a Chunk message follow from its offset and its data, so neither side runs protobuf over them: the
source writes the few bytes in front of the data, the target says beforehand which they must be.
"""

from protocol.errors import Code, MalformedError

CHUNK_BYTES = 64 * 1024
"""Bytes per chunk: small enough for a cut download of a small bundle to go on and not start again."""

_OFFSET_TAG = b"\x08"  # field 1, an integer
_DATA_TAG = b"\x12"  # field 2, bytes


def is_chunk_start(offset: int, size: int) -> bool:
    """Return whether a download may go on from ``offset``.

    ``size`` is the length of the file in bytes.
    """
    return 0 <= offset < size and offset % CHUNK_BYTES == 0


def whole_chunks(num_bytes: int) -> int:
    """Return the bytes of ``num_bytes`` that lie in complete chunks.

    A download goes on from there.
    """
    return num_bytes - num_bytes % CHUNK_BYTES


def chunk_length(offset: int, size: int) -> int:
    """Return the length in bytes of the chunk at ``offset``; 0 at the end.

    ``size`` is the length of the file in bytes.
    """
    return min(CHUNK_BYTES, size - offset)


def chunk_message(offset: int, data: bytes | memoryview) -> bytes:
    """Return the canonical bytes of a Chunk message.

    Args:
        offset: bytes from the start of the file.
        data: at least one byte of it.
    """
    return b"".join((_head(offset, len(data)), data))


def chunk_data(message: bytes, offset: int, num_bytes: int) -> memoryview:
    """Return the data of the Chunk message that must come next.

    It is a view into the message, without a copy.

    Args:
        message: what came.
        offset: bytes from the start of the file.
        num_bytes: how many bytes of data it must hold, at least one.

    Raises:
        MalformedError: it is any other message.
    """
    head = _head(offset, num_bytes)
    if len(message) != len(head) + num_bytes or not message.startswith(head):
        raise MalformedError(
            Code.PROTOCOL, "The chunk is not the next one; install the same release of ecan-ser at both sites."
        )
    return memoryview(message)[len(head) :]


def _head(offset: int, num_bytes: int) -> bytes:
    """Return the bytes before the data; protobuf omits an offset of 0."""
    written = _OFFSET_TAG + _varint(offset) if offset else b""
    return written + _DATA_TAG + _varint(num_bytes)


def _varint(value: int) -> bytes:
    """Encode seven bits per byte, the lowest first.

    All but the last byte have their top bit set.
    """
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)
