import pytest

from protocol.errors import Code, Malformed
from protocol.wire.codec import decoder, encode
from protocol.wire.ecan.v1.release_pb2 import Chunk, FetchRequest, Offer

CHUNK = b"\x08\x01" + b"\x12\x02hi"


def test_a_message_comes_back_as_it_went():
    offer = Offer(grant=b"g" * 16, nonce=b"n" * 32, digest=b"d" * 32, size=2**40)
    assert decoder(Offer)(encode(offer)) == offer


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
    with pytest.raises(Malformed) as caught:
        decoder(Chunk)(data)
    assert caught.value.code is Code.NOT_CANONICAL


def test_an_empty_message_is_no_bytes():
    assert encode(FetchRequest()) == b""
    assert decoder(FetchRequest)(b"") == FetchRequest()
