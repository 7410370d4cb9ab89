"""How a bundle is cut for the wire: chunks of one size, counted from the start of the bundle."""

from collections.abc import Iterator

CHUNK_BYTES = 64 * 1024
"""Bytes per chunk: small enough for a cut download of the default bundle to go on and not start again."""


def is_chunk_start(offset: int, size: int) -> bool:
    """Whether a download of `size` bytes may go on from `offset`."""
    return 0 <= offset < size and offset % CHUNK_BYTES == 0


def whole_chunks(num_bytes: int) -> int:
    """The bytes of `num_bytes` that lie in complete chunks: from there a download goes on."""
    return num_bytes - num_bytes % CHUNK_BYTES


def chunks(data: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
    """The chunks of `data` from `offset` on, each with its own offset in bytes."""
    for start in range(offset, len(data), CHUNK_BYTES):
        yield start, data[start : start + CHUNK_BYTES]
