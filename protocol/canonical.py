"""Write and read the one text form of everything that is signed.

It is a JSON subset with exactly one encoding per value.

ASCII, keys sorted, no spaces, integers only, shallow. A record is an object whose fields are all known: a
schema maps each field's name to the kind of value it holds, so that nothing free can be written beside them.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from protocol.errors import Code, MalformedError

_MAX_BRACKETS = 8  # in all, not only nested: no record of ours needs more than three
_MAX_DIGITS = 15


class Kind(Protocol):
    """Describe what a field may hold.

    How it is written, how it is checked, and how many bits it can carry.
    """

    @property
    def bits(self) -> float:
        """Return how many bits a value can carry."""

    def load(self, field: str, value: object) -> Any:
        """Return the Python value of a JSON value, or raise MalformedError."""

    def dump(self, value: Any) -> object:
        """Return the JSON value of a Python value."""


@dataclass(frozen=True)
class Int:
    """Describe an integer from a closed range."""

    low: int
    high: int

    @property
    def bits(self) -> float:
        """Return log2 of the number of values, in bits."""
        return math.log2(self.high - self.low + 1)

    def load(self, field: str, value: object) -> int:
        """Refuse anything but an integer in range; ``true`` is not 1."""
        if type(value) is not int:
            raise _fault(Code.TYPE, f"Field {field} must be an integer")
        if not self.low <= value <= self.high:
            raise _fault(Code.RANGE, f"Field {field} must lie between {self.low} and {self.high}")
        return value

    def dump(self, value: int) -> int:
        """Write the integer itself."""
        return value


@dataclass(frozen=True)
class OneOf:
    """Describe one value of a closed set."""

    values: tuple[str, ...] | tuple[int, ...]

    @property
    def bits(self) -> float:
        """Return log2 of the number of values, in bits."""
        return math.log2(len(self.values))

    def load(self, field: str, value: object) -> str | int:
        """Refuse what is not in the set."""
        expected = str if isinstance(self.values[0], str) else int
        if not isinstance(value, expected) or isinstance(value, bool):
            raise _fault(Code.TYPE, f"Field {field} has the wrong type")
        for known in self.values:
            if value == known:
                return known
        raise MalformedError(Code.ENUM, f"Field {field} has a value unknown to this version; install a newer ecan-ser.")

    def dump(self, value: str | int) -> str | int:
        """Write the value itself."""
        return value


@dataclass(frozen=True)
class Hex:
    """Describe bytes of a fixed length in lower-case hexadecimal.

    Attributes:
        size: length in bytes.
    """

    size: int

    @property
    def bits(self) -> float:
        """Return eight bits per byte."""
        return 8.0 * self.size

    def load(self, field: str, value: object) -> bytes:
        """Refuse any other length, letter case or alphabet."""
        if not isinstance(value, str):
            raise _fault(Code.TYPE, f"Field {field} must be a string")
        if not re.fullmatch(rf"[0-9a-f]{{{2 * self.size}}}", value):
            raise _fault(Code.RANGE, f"Field {field} must be {self.size} bytes in hexadecimal")
        return bytes.fromhex(value)

    def dump(self, value: bytes) -> str:
        """Write two digits per byte."""
        return value.hex()


@dataclass(frozen=True)
class Text:
    """Describe a string whose meaning the caller checks.

    It is never part of a manifest.

    Attributes:
        max_chars: the longest string, in characters.
    """

    max_chars: int

    @property
    def bits(self) -> float:
        """Return seven bits per character."""
        return 7.0 * self.max_chars

    def load(self, field: str, value: object) -> str:
        """Refuse what is not a string or too long."""
        if not isinstance(value, str):
            raise _fault(Code.TYPE, f"Field {field} must be a string")
        if len(value) > self.max_chars:
            raise _fault(Code.RANGE, f"Field {field} is too long")
        return value

    def dump(self, value: str) -> str:
        """Write the string itself."""
        return value


Schema = Mapping[str, Kind]


def encode(value: object) -> bytes:
    """Encode a JSON value in its only encoding, as bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("ascii")


def parse_object(data: bytes, *, what: str, max_bytes: int, max_brackets: int = _MAX_BRACKETS) -> dict[str, Any]:
    """Read an object that is written in its only encoding.

    Args:
        data: what was read.
        what: its name in messages.
        max_bytes: how long it may be.
        max_brackets: how many objects and lists it may hold in all: more only for what this site wrote itself.

    Raises:
        MalformedError: too long, too deep, a key twice, not JSON, or the same value written in another way.
    """
    if len(data) > max_bytes:
        raise _fault(Code.LENGTH, f"The {what} is longer than {max_bytes} bytes")
    _refuse_depth(data, what, max_brackets)
    try:
        value = json.loads(
            data.decode("ascii"),
            object_pairs_hook=_object_without_duplicates,
            parse_int=_short_integer,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
        )
        canonical = encode(value)
    except ValueError as error:  # not ASCII, not JSON, or a string that ASCII cannot hold
        raise _fault(Code.NOT_CANONICAL, f"The {what} is not canonical JSON") from error
    if canonical != data:
        raise _fault(Code.NOT_CANONICAL, f"The {what} is not in its canonical form")
    if not isinstance(value, dict):
        raise _fault(Code.TYPE, f"The {what} is not a JSON object")
    return value


def load_fields(value: object, schema: Schema, *, what: str) -> dict[str, Any]:
    """Check a parsed object against its schema.

    Every field is known, none is missing, each is of its kind.

    Raises:
        MalformedError: it is not an object, or a field is unknown, missing, of another type or out of range.
    """
    if not isinstance(value, dict):
        raise _fault(Code.TYPE, f"The {what} is not a JSON object")
    if value.keys() - schema.keys():
        raise _fault(Code.UNKNOWN_FIELD, f"The {what} has a field unknown to this version")
    for field in schema:
        if field not in value:
            raise _fault(Code.MISSING, f"The {what} has no field {field}")
    return {field: kind.load(field, value[field]) for field, kind in schema.items()}


def read_record(data: bytes, schema: Schema, *, what: str, max_bytes: int) -> dict[str, Any]:
    """Read a record in its only encoding, with exactly the schema's fields."""
    return load_fields(parse_object(data, what=what, max_bytes=max_bytes), schema, what=what)


def write_record(values: Mapping[str, Any], schema: Schema, *, what: str) -> bytes:
    """Write a record; refuse what could not be read back.

    Args:
        values: the Python value of each field of the schema.
        schema: the fields.
        what: the record's name in messages.

    Raises:
        MalformedError: a value is of another type or out of range.
    """
    record = {field: kind.dump(values[field]) for field, kind in schema.items()}
    load_fields(record, schema, what=what)
    return encode(record)


def _fault(code: Code, what_is_wrong: str) -> MalformedError:
    return MalformedError(code, f"{what_is_wrong}; ask for a new file.")


def _refuse_depth(data: bytes, what: str, max_brackets: int) -> None:
    """Bound the nesting before parsing, by counting brackets.

    Those inside strings count too.
    """
    if data.count(b"{") + data.count(b"[") > max_brackets:
        raise _fault(Code.DEPTH, f"The {what} is nested too deeply")


def _object_without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise _fault(Code.DUP_KEY, "A field is given twice")
    return value


def _short_integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise _fault(Code.RANGE, f"An integer has more than {_MAX_DIGITS} digits")
    return int(digits)


def _refuse_number(text: str) -> NoReturn:
    raise _fault(Code.NOT_CANONICAL, "A number is not a plain integer")
