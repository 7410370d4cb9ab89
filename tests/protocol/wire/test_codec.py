import pytest

from protocol.bundle.sealing import MAX_SEALED_BYTES
from protocol.errors import Code, MalformedError
from protocol.wire.codec import decoder, encode
from protocol.wire.ecan.v1 import release_pb2
from protocol.wire.ecan.v1.release_pb2 import Chunk, FetchRequest, OpenRequest
from protocol.wire.limits import FIELD_LIMITS

CHUNK = b"\x08\x01" + b"\x12\x02hi"


def test_a_message_comes_back_as_it_went():
    request = OpenRequest(grant=b"g" * 16, nonce=b"n" * 32, proof=b"p" * 96)
    assert decoder(OpenRequest)(encode(request)) == request


def test_the_hand_written_chunk_of_these_tests_is_canonical():
    assert decoder(Chunk)(CHUNK) == Chunk(offset=1, data=b"hi")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(CHUNK + b"\x1a\x04note", id="unknown field"),
        pytest.param(b"\x08\x02" + CHUNK, id="a field twice"),
        pytest.param(b"\x08\x81\x00" + CHUNK[2:], id="a number in a longer form"),
        pytest.param(CHUNK[2:] + CHUNK[:2], id="fields in another order"),
        pytest.param(CHUNK[2:] + b"\x08\x00", id="a default that is spelled out"),
        pytest.param(CHUNK + b"\x1b\x1c", id="a group"),
        pytest.param(CHUNK[:-1], id="cut short"),
        pytest.param(b"\xff", id="not a message"),
    ],
)
def test_any_other_encoding_is_refused(data):
    with pytest.raises(MalformedError) as caught:
        decoder(Chunk)(data)
    assert caught.value.code is Code.NOT_CANONICAL


def test_an_empty_message_is_no_bytes():
    assert encode(FetchRequest()) == b""
    assert decoder(FetchRequest)(b"") == FetchRequest()


@pytest.mark.parametrize("name", sorted(FIELD_LIMITS))
def test_no_field_is_written_or_read_beyond_its_limit(name):
    message_type, field = name.split(".")
    of_type = getattr(release_pb2, message_type)
    limit = FIELD_LIMITS[name]
    is_number = isinstance(getattr(of_type(), field), int)
    largest, larger = (of_type(**{field: value if is_number else bytes(value)}) for value in (limit, limit + 1))
    assert decoder(of_type)(encode(largest)) == largest
    for refused in (lambda: encode(larger), lambda: decoder(of_type)(larger.SerializeToString())):
        with pytest.raises(MalformedError) as caught:
            refused()
        assert caught.value.code is (Code.OFFSET if is_number else Code.LENGTH)


def test_an_offset_of_eight_full_bytes_is_refused():
    with pytest.raises(MalformedError):
        decoder(FetchRequest)(FetchRequest(offset=2**64 - 1).SerializeToString())
    assert FIELD_LIMITS["FetchRequest.offset"] == MAX_SEALED_BYTES
