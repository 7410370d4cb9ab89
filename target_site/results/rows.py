"""Read what a contained process has written, and believe none of it.

Whoever takes that process over writes what it likes. So every value must be of the type that its field is annotated
with, every number finite and small enough to be added and stored, and every text one that can be written again.
Annotations may be `bool`, `int`, `float`, `str`, `X | None`, `tuple[X, ...]`, `dict[str, X]`, further dataclasses, and
``Annotated[dict[str, Any], {...}]`` with the fields of the dictionary.
"""

import json
import math
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from ecan_core.errors import UsageError
from protocol.files import read_bounded

MAX_BYTES = 1 << 30
_TOO_LARGE = 1 << 62
"""No number may be as large; a time in nanoseconds is not for ninety years."""
FAULTS = (KeyError, TypeError, ValueError, RecursionError)
"""What reading values raises that are not as they should be."""

Row = TypeVar("Row")
Holds = Callable[[Any], bool]


def read_rows(path: Path, kind: Callable[..., Row]) -> list[Row]:
    """Read a file with a JSON object on each line.

    Args:
        path: the file.
        kind: the dataclass that a line is.

    Raises:
        UsageError: a line is none.
        FileError: the file does not exist or cannot be read.
        MalformedError: it is too long, or no file.
    """
    try:
        return [built(kind, json.loads(line)) for line in read_bounded(path, MAX_BYTES).splitlines()]
    except FAULTS as fault:
        raise UsageError(
            f"{path} is damaged or of another version; make its folder anew, or put a copy back"
        ) from fault


def built(kind: Callable[..., Row], facts: Mapping[str, Any]) -> Row:
    """Build a dataclass from values that may be anything.

    Raises:
        ValueError: a value is not of its type.
        TypeError: a value is missing, or too much.
    """
    holds = _fields(kind)
    if wrong := [name for name, value in facts.items() if name in holds and not holds[name](value)]:
        raise ValueError(f"{', '.join(wrong)} cannot be")
    return kind(**facts)


@cache
def _fields(kind: Any) -> dict[str, Holds]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return {name: _check_of(hint) for name, hint in hints.items()}


def _check_of(kind: Any) -> Holds:
    """Return what tells whether a value is of a type."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        kinds = [_check_of(one) for one in inner]
        return lambda value: any(holds(value) for holds in kinds)
    if origin is typing.Annotated:
        return _check_of_fields({name: _check_of(one) for name, one in inner[1].items()})
    if origin in (tuple, list):
        return _check_of_list(_check_of(inner[0]))
    if origin is dict:
        return _check_of_mapping(_check_of(inner[1]))
    return _SINGLE[kind] if kind in _SINGLE else lambda value: isinstance(value, kind)


def _check_of_fields(fields: Mapping[str, Holds]) -> Holds:
    return lambda value: (
        isinstance(value, dict)
        and value.keys() == fields.keys()
        and all(holds(value[name]) for name, holds in fields.items())
    )


def _check_of_list(holds: Holds) -> Holds:
    return lambda value: isinstance(value, list | tuple) and all(map(holds, value))


def _check_of_mapping(holds: Holds) -> Holds:
    return lambda value: isinstance(value, dict) and all(map(_is_text, value)) and all(map(holds, value.values()))


def _is_whole(value: Any) -> bool:
    return type(value) is int and abs(value) < _TOO_LARGE


def _is_number(value: Any) -> bool:
    return _is_whole(value) or (type(value) is float and math.isfinite(value))


def _is_text(value: Any) -> bool:
    """Return whether a text can be written.

    One that is not UTF-8 keeps its bytes as escapes.
    """
    if not isinstance(value, str):
        return False
    try:
        value.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


_SINGLE: Mapping[Any, Holds] = {int: _is_whole, float: _is_number, str: _is_text}
