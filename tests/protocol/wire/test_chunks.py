import pytest

from protocol.errors import Code, MalformedError
from protocol.wire.chunks import CHUNK_BYTES, chunk_data, chunk_length, chunk_message, is_chunk_start, whole_chunks
from protocol.wire.ecan.v1.release_pb2 import Chunk

OFFSETS = [0, 1, 127, 128, CHUNK_BYTES, 2**14 - 1, 2**14, 2**21, 3 * 2**30, 2**35 - 1, 2**63, 2**64 - 1]
LENGTHS = [1, 2, 127, 128, 16_383, 16_384, CHUNK_BYTES - 1, CHUNK_BYTES]


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("length", LENGTHS)
def test_a_chunk_is_written_as_protobuf_writes_it(offset, length):
    data = bytes(index % 251 for index in range(length))
    message = chunk_message(offset, data)
    assert message == Chunk(offset=offset, data=data).SerializeToString(deterministic=True)
    assert message == chunk_message(offset, memoryview(bytearray(data)))
    assert chunk_data(message, offset, length) == data


def test_every_chunk_of_a_file_of_some_megabytes_is_written_as_protobuf_writes_it():
    for offset in range(0, 2**23, CHUNK_BYTES):
        message = chunk_message(offset, b"data")
        assert message == Chunk(offset=offset, data=b"data").SerializeToString(deterministic=True)


FIRST, SECOND = (chunk_message(offset, b"d" * CHUNK_BYTES) for offset in (0, CHUNK_BYTES))


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(FIRST, id="another one"),
        pytest.param(SECOND[:-1], id="cut short"),
        pytest.param(SECOND + b"d", id="with more behind"),
        pytest.param(SECOND + SECOND, id="twice"),
        pytest.param(SECOND + b"\x1a\x04note", id="with an unknown field"),
        pytest.param(chunk_message(CHUNK_BYTES, b"d" * (CHUNK_BYTES - 1)), id="shorter"),
        pytest.param(chunk_message(CHUNK_BYTES, b"d" * (CHUNK_BYTES + 1)), id="longer"),
        pytest.param(SECOND.replace(b"\x12\x80\x80\x04", b"\x12\x80\x80\x84\x00", 1), id="with a longer number"),
        pytest.param(SECOND[4:] + SECOND[:4], id="with its fields in another order"),
        pytest.param(b"d" * len(SECOND), id="noise"),
    ],
)
def test_only_the_next_chunk_is_read(message):
    with pytest.raises(MalformedError) as caught:
        chunk_data(message, CHUNK_BYTES, CHUNK_BYTES)
    assert caught.value.code is Code.PROTOCOL


def test_the_data_of_a_chunk_is_not_copied():
    assert chunk_data(SECOND, CHUNK_BYTES, CHUNK_BYTES).obj is SECOND


@pytest.mark.parametrize("size", [1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 7])
def test_the_lengths_of_the_chunks_add_up_to_the_file(size):
    lengths = [chunk_length(offset, size) for offset in range(0, size, CHUNK_BYTES)]
    assert sum(lengths) == size
    assert chunk_length(size, size) == 0
    assert all(is_chunk_start(offset, size) for offset in range(0, size, CHUNK_BYTES))


def test_a_download_goes_on_where_whole_chunks_end():
    assert whole_chunks(2 * CHUNK_BYTES - 1) == CHUNK_BYTES
    assert whole_chunks(CHUNK_BYTES - 1) == 0


@pytest.mark.parametrize("offset", [-CHUNK_BYTES, -1, 1, CHUNK_BYTES - 1, 2 * CHUNK_BYTES, 2**63])
def test_a_download_starts_nowhere_else(offset):
    assert not is_chunk_start(offset, 2 * CHUNK_BYTES)
