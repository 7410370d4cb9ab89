import pytest

from protocol.wire.chunks import CHUNK_BYTES, chunks, is_chunk_start, whole_chunks


@pytest.mark.parametrize("size", [1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 7])
def test_the_chunks_put_together_are_the_bundle(size):
    data = bytes(index % 251 for index in range(size))
    cut = list(chunks(data, 0))
    assert b"".join(part for _, part in cut) == data
    assert [offset for offset, _ in cut] == list(range(0, size, CHUNK_BYTES))
    assert all(is_chunk_start(offset, size) for offset, _ in cut)


def test_a_download_goes_on_where_whole_chunks_end():
    data = bytes(3 * CHUNK_BYTES)
    present = whole_chunks(2 * CHUNK_BYTES - 1)
    assert present == CHUNK_BYTES
    assert next(chunks(data, present))[0] == present


@pytest.mark.parametrize("offset", [-CHUNK_BYTES, -1, 1, CHUNK_BYTES - 1, 2 * CHUNK_BYTES, 2**63])
def test_a_download_starts_nowhere_else(offset):
    assert not is_chunk_start(offset, 2 * CHUNK_BYTES)


def test_a_chunk_is_under_a_mebibyte():
    assert CHUNK_BYTES < 2**20
