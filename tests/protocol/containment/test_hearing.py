"""The words of a contained process."""

import io
import json

import pytest

from protocol.containment.hearing import MAX_LINE_CHARS, MAX_LINES, MAX_TOLD_BYTES, pass_on, printable, told_on
from protocol.errors import ContainmentError


def shown(said: bytes) -> list[str]:
    lines: list[str] = []
    pass_on(io.BytesIO(said), lines.append)
    return lines


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        (b"", []),
        (b"features: 3/7\n", ["features: 3/7"]),
        ("Grüße, 声\n".encode(), ["Grüße, 声"]),
        (b"one\n\ntwo", ["one", "", "two"]),
        (b"\x1b[2Jgone\n", ["\\x1b[2Jgone"]),
        (b"a\rb\tc\x00\n", ["a\\rb\\tc\\x00"]),
        ("\u202edne\u2028\n".encode(), ["\\u202edne\\u2028"]),
        (b"\xff\n", ["\ufffd"]),
    ],
)
def test_what_is_said_is_shown_as_printable_lines(said, heard):
    assert shown(said) == heard


def test_a_line_that_is_too_long_is_cut():
    assert shown(b"y" * (5 * MAX_LINE_CHARS) + b"\nend\n") == ["y" * MAX_LINE_CHARS, "end"]


@pytest.mark.parametrize("more", [0, 1, 2, 1000])
def test_of_too_many_lines_the_last_is_shown(more):
    lines = [str(number) for number in range(MAX_LINES + more)]
    said = shown("\n".join(lines).encode())
    assert said[:MAX_LINES] == lines[:MAX_LINES]
    assert said[-1] == lines[-1]
    assert said[MAX_LINES:-1] == ([f"({more - 1} lines more are not shown)"] if more > 1 else [])


def test_what_is_told_comes_message_by_message_and_printable():
    told = [{"containment": {"level": 3}}, {"outcome": {"re\x1bason": ["a\x07b", 1, None]}, "attempts": 0}]
    stream = io.BytesIO(b"".join(json.dumps(one).encode() + b"\n" for one in told))
    assert list(told_on(stream)) == [told[0], {"outcome": {"re\\x1bason": ["a\\x07b", 1, None]}, "attempts": 0}]


@pytest.mark.parametrize(
    "told",
    [b"x\n", b"[]\n", b"1\n", b'{"more": 1}\n', b"\n", b"[" * 100_000, b"\xff\n", b"9" * 10_000 + b"\n"],
)
def test_what_is_told_and_was_not_asked_for_is_refused(told):
    with pytest.raises(ContainmentError, match="told what it was not asked for") as caught:
        list(told_on(io.BytesIO(told)))
    assert caught.value.exit_code == 15


def test_more_than_a_megabyte_in_all_is_refused():
    line = json.dumps({"outcome": "y" * (MAX_TOLD_BYTES // 2)}).encode() + b"\n"
    with pytest.raises(ContainmentError):
        list(told_on(io.BytesIO(line * 2)))


def test_what_is_printable_stays():
    assert printable("a b/ü") == "a b/ü"
