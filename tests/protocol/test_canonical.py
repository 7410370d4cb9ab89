import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import canonical
from protocol.canonical import Hex, Int, OneOf, Text
from protocol.errors import MalformedError
from tests.protocol.samples import code_only, says_what_to_do

SCHEMA: canonical.Schema = {
    "count": Int(-2, 9),
    "kind": OneOf(("a", "b")),
    "days": OneOf((30, 90)),
    "key": Hex(2),
    "text": Text(5),
}
VALUES = {"count": 1, "kind": "a", "days": 30, "key": b"\x01\xff", "text": "hi"}
RECORD = b'{"count":1,"days":30,"key":"01ff","kind":"a","text":"hi"}'


def read(data: bytes) -> dict[str, object]:
    return canonical.read_record(data, SCHEMA, what="record", max_bytes=200)


def test_a_record_has_one_encoding_and_reads_back() -> None:
    assert canonical.write_record(VALUES, SCHEMA, what="record") == RECORD
    assert read(RECORD) == VALUES


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "NOT_CANONICAL"),
        (b"null", "TYPE"),
        (b"[]", "TYPE"),
        (RECORD + b"\n", "NOT_CANONICAL"),
        (b" " + RECORD, "NOT_CANONICAL"),
        (RECORD.replace(b":1,", b": 1,"), "NOT_CANONICAL"),
        (b"\xef\xbb\xbf" + RECORD, "NOT_CANONICAL"),
        (RECORD.decode().encode("utf-16"), "NOT_CANONICAL"),
        (RECORD.replace(b"hi", b"\xff"), "NOT_CANONICAL"),
        (RECORD.replace(b"hi", "é".encode()), "NOT_CANONICAL"),
        (RECORD.replace(b"hi", rb"\u00e9"), "NOT_CANONICAL"),
        (RECORD.replace(b"hi", rb"\ud800"), "NOT_CANONICAL"),
        (RECORD.replace(b"hi", rb"\u0068i"), "NOT_CANONICAL"),
        (RECORD.replace(b":1,", b":1.0,"), "NOT_CANONICAL"),
        (RECORD.replace(b":1,", b":1e3,"), "NOT_CANONICAL"),
        (RECORD.replace(b":1,", b":1e999,"), "NOT_CANONICAL"),
        (RECORD.replace(b":1,", b":-0,"), "NOT_CANONICAL"),
        (RECORD.replace(b":1,", b":01,"), "NOT_CANONICAL"),
        (RECORD.replace(b":1,", b":0x1,"), "NOT_CANONICAL"),
        (RECORD.replace(b":1,", b":NaN,"), "NOT_CANONICAL"),
        (RECORD.replace(b":1,", b":-Infinity,"), "NOT_CANONICAL"),
        (RECORD.replace(b":1,", b":1" + b"0" * 20 + b","), "RANGE"),
        (RECORD.replace(b":1,", b":10,"), "RANGE"),
        (RECORD.replace(b":1,", b":-3,"), "RANGE"),
        (RECORD.replace(b":1,", b":true,"), "TYPE"),
        (RECORD.replace(b":1,", b":null,"), "TYPE"),
        (RECORD.replace(b":1,", b':"1",'), "TYPE"),
        (RECORD.replace(b":30,", b":true,"), "TYPE"),
        (RECORD.replace(b":30,", b":31,"), "ENUM"),
        (RECORD.replace(b'"a"', b'"c"'), "ENUM"),
        (RECORD.replace(b'"a"', b"1"), "TYPE"),
        (RECORD.replace(b"01ff", b"01FF"), "RANGE"),
        (RECORD.replace(b"01ff", b"01f"), "RANGE"),
        (RECORD.replace(b"01ff", rb"01ff\n"), "RANGE"),
        (RECORD.replace(b'"01ff"', b"1"), "TYPE"),
        (RECORD.replace(b"hi", b"longer"), "RANGE"),
        (RECORD.replace(b'"hi"', b"[]"), "TYPE"),
        (RECORD.replace(b'"count":1,', b""), "MISSING"),
        (RECORD.replace(b'"text"', b'"note":1,"text"'), "UNKNOWN_FIELD"),
        (b'{"count":1,' + RECORD[1:], "DUP_KEY"),
        (b'{"days":30,"count":1,"key":"01ff","kind":"a","text":"hi"}', "NOT_CANONICAL"),
        (RECORD + b" " * 200, "LENGTH"),
        (b"[" * 100 + b"]" * 100, "DEPTH"),
        (b'{"text":"' + b"]" * 50 + b'","count":' + b"[" * 50 + b"]" * 50 + b"}", "DEPTH"),
    ],
    ids=code_only,
)
def test_any_other_bytes_are_refused(data: bytes, code: str) -> None:
    with pytest.raises(MalformedError) as caught:
        read(data)
    assert caught.value.code == code
    assert says_what_to_do(caught)
    fields = "count|kind|days|key|text"
    what = rf"The record (?!None)|Field ({fields}) |A field is given twice|An integer has more|A number is not"
    assert re.match(what, str(caught.value))


def test_eight_brackets_are_taken_and_nine_are_not() -> None:
    assert canonical.parse_object(b'{"a":' + b"[" * 7 + b"]" * 7 + b"}", what="record", max_bytes=100)
    with pytest.raises(MalformedError) as caught:
        canonical.parse_object(b'{"a":' + b"[" * 8 + b"]" * 8 + b"}", what="record", max_bytes=100)
    assert caught.value.code == "DEPTH"


def test_two_hundred_thousand_brackets_do_not_exhaust_the_stack() -> None:
    with pytest.raises(MalformedError) as caught:
        canonical.parse_object(b"[" * 200_000, what="record", max_bytes=10**6)
    assert caught.value.code == "DEPTH"


def test_an_integer_has_fifteen_digits_at_most() -> None:
    assert canonical.parse_object(b'{"a":123456789012345}', what="record", max_bytes=100)
    with pytest.raises(MalformedError) as caught:
        canonical.parse_object(b'{"a":1234567890123456}', what="record", max_bytes=100)
    assert caught.value.code == "RANGE"


def test_a_record_that_could_not_be_read_back_is_not_written() -> None:
    with pytest.raises(MalformedError) as caught:
        canonical.write_record({**VALUES, "count": 10}, SCHEMA, what="record")
    assert caught.value.code == "RANGE"


def test_the_bits_of_a_kind_are_the_logarithm_of_its_values() -> None:
    assert [kind.bits for kind in (Int(1, 1), Int(0, 255), OneOf((30, 90)), Hex(16), Text(2))] == [0, 8, 1, 128, 14]


NO_BRACKETS = st.text(st.characters(codec="ascii", exclude_characters="{["))


@given(st.dictionaries(NO_BRACKETS, st.integers(-(10**13), 10**13) | NO_BRACKETS, max_size=6))
def test_every_flat_object_reads_back_from_its_encoding_alone(value: dict[str, int | str]) -> None:
    data = canonical.encode(value)
    assert canonical.parse_object(data, what="record", max_bytes=10**6) == value
    loose = json.dumps(value).encode()
    if loose != data:
        with pytest.raises(MalformedError):
            canonical.parse_object(loose, what="record", max_bytes=10**6)
