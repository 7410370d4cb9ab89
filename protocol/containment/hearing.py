"""Filter what a contained process says.

It may have been taken over. It speaks by two pipes: by one it tells what became of its order, as JSON values, and by
the other it speaks to a person. Nothing that it says steers a terminal, and nothing is longer than a person or a log
can use.
"""

import json
from collections.abc import Callable, Iterator
from typing import IO, Any

from protocol.errors import Code, ContainmentError

MAX_LINE_CHARS, MAX_LINES = 1000, 2000
MAX_TOLD_BYTES = 1 << 20
_KNOWN = frozenset({"containment", "outcome", "attempts"})


def printable(text: str) -> str:
    """Return text with all that could steer a terminal written out."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


def pass_on(stream: IO[bytes], show: Callable[[str], None]) -> None:
    """Show what is said on a stream, line by line, until it ends.

    Of more lines than `MAX_LINES` only the last is shown, which tells how it ended.
    """
    last, left_out = "", -1
    for number, line in enumerate(_lines(stream)):
        if number < MAX_LINES:
            show(line)
        else:
            last, left_out = line, left_out + 1
    if left_out > 0:
        show(f"({left_out} lines more are not shown)")
    if left_out >= 0:
        show(last)


def _lines(stream: IO[bytes]) -> Iterator[str]:
    """Yield printable lines, cut where they are too long."""
    is_new = True
    while piece := stream.readline(MAX_LINE_CHARS):
        if is_new:
            yield printable(piece.decode(errors="replace").removesuffix("\n"))
        is_new = piece.endswith(b"\n")


def told_on(stream: IO[bytes]) -> Iterator[dict[str, Any]]:
    """Yield what is told on a stream, message by message.

    Raises:
        ContainmentError: it is not what such a process tells, or too much.
    """
    left = MAX_TOLD_BYTES
    while line := stream.readline(left + 1):
        left -= len(line)
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if left < 0 or not isinstance(message, dict) or not message.keys() <= _KNOWN:
            raise ContainmentError(
                Code.CONTAINMENT,
                "The process that reads recordings told what it was not asked for, as if a recording or a package had "
                "taken it over; do not use what it made, and find out which it was.",
            )
        yield {name: _made_printable(value) for name, value in message.items()}


def _made_printable(value: Any) -> Any:
    match value:
        case str():
            return printable(value)
        case dict():
            return {printable(name): _made_printable(one) for name, one in value.items()}
        case list():
            return [_made_printable(one) for one in value]
    return value
