import pytest

from protocol.errors import Code, PeerError
from protocol.wire.address import Address, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:7443", Address("127.0.0.1", 7443)),
        ("source.example:0", Address("source.example", 0)),
        ("[2001:db8::7]:65535", Address("2001:db8::7", 65535)),
    ],
)
def test_an_address_is_read_and_written_the_same_way(text, address):
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text", ["", "host", "host:", ":1", "host:65536", "host:-1", "host:x", "::1:5", "[::1]", "a b:1", "http://a:1"]
)
def test_anything_else_is_refused_with_an_example(text):
    with pytest.raises(PeerError, match="HOST:PORT") as caught:
        parse_address(text)
    assert caught.value.code is Code.ADDRESS
