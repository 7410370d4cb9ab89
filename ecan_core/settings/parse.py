"""Read settings from YAML into frozen dataclasses.

Every fault is named by its place.

The dataclass is the schema. A field without a default must be given, its annotation is the type that is
accepted, and `__post_init__` checks ranges by raising `SettingsError` with a sentence that starts with the
field's name. Annotations may be `bool`, `int`, `float`, `str`, `Path`, `Literal`, `X | None`,
`tuple[X, ...]`, `dict[str, X]` and further dataclasses.
"""

import dataclasses
import sys
import types
import typing
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar

from ecan_core.errors import SettingsError, UsageError

MAX_FILE_BYTES = 64 * 1024

Settings = TypeVar("Settings")


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a settings file as plain data; an empty file is an empty mapping.

    Args:
        path: YAML in UTF-8 of at most 64 KiB, reduced to plain data (see `ecan_core.settings.plain_yaml`).

    Raises:
        UsageError: There is no such file.
        SettingsError: The file is not a plain mapping.
    """
    from ecan_core.settings.plain_yaml import load_plain

    if not path.is_file():
        raise UsageError(f"There is no settings file at {path}; check the path.")
    with path.open("rb") as stream:
        data = stream.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise SettingsError(f"{path} is larger than 64 KiB; name a file of settings.")
    try:
        content = load_plain(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise SettingsError(f"{path} is not UTF-8 text; save it as UTF-8.") from None
    except ValueError as error:
        raise SettingsError(f"{path} {error}.") from None
    if not isinstance(content, dict | None):
        raise SettingsError(f"{path} must hold lines such as `name: value`, not {_shown(content)}.")
    return content or {}


def parse_settings(cls: type[Settings], mapping: Mapping[str, Any], where: str) -> Settings:
    """Build a settings dataclass from plain data.

    Args:
        cls: A frozen dataclass as described at the head of this file.
        mapping: Names and values, as `read_yaml` gives them.
        where: Where they come from, such as the name of the file; it starts every message.

    Raises:
        SettingsError: A name is unknown or missing, or a value has the wrong type or range. The message
            names the dotted path of the setting.
    """
    try:
        settings: Settings = _build(cls, mapping, "")
    except SettingsError as error:
        raise SettingsError(f"{where}: {error}") from None
    return settings


def _build(cls: Any, mapping: Mapping[str, Any], prefix: str) -> Any:
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    for name in mapping:
        if name not in fields:
            raise SettingsError(_unknown(name, tuple(fields), prefix))
    for name, field in fields.items():
        if name not in mapping and field.default is field.default_factory is dataclasses.MISSING:
            raise SettingsError(f"{prefix}{name} is missing; give it a value.")
    types_of = typing.get_type_hints(cls)
    values = {name: _convert(types_of[name], value, f"{prefix}{name}") for name, value in mapping.items()}
    try:
        return cls(**values)
    except SettingsError as error:
        raise SettingsError(f"{prefix}{error}") from None


def _unknown(name: str, known: tuple[str, ...], prefix: str) -> str:
    near = get_close_matches(name, known, n=1)
    remedy = f"did you mean {prefix}{near[0]}?" if near else f"the known ones are {', '.join(known)}."
    return f"{prefix}{name} is not a setting; {remedy}"


def _convert(kind: Any, value: Any, path: str) -> Any:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _convert_optional(inner, value, path)
    if origin is Literal:
        words = [(type(word), word) for word in inner]
        expected = f"one of {', '.join(map(str, inner))}"
        return _checked(value, path, lambda: (type(value), value) in words, expected)
    if origin is tuple:
        _checked(value, path, lambda: isinstance(value, list | tuple), "a list")
        return tuple(_convert(inner[0], item, f"{path}[{index}]") for index, item in enumerate(value))
    if origin is dict:
        _checked(value, path, lambda: isinstance(value, Mapping), "a group of `name: value` lines")
        return {name: _convert(inner[1], item, f"{path}.{name}") for name, item in value.items()}
    if dataclasses.is_dataclass(kind):
        _checked(value, path, lambda: isinstance(value, Mapping), "a group of `name: value` lines")
        return _build(kind, value, f"{path}.")
    return _convert_scalar(kind, value, path)


def _convert_optional(inner: tuple[Any, ...], value: Any, path: str) -> Any:
    if value is None and types.NoneType in inner:
        return None
    (kind,) = (kind for kind in inner if kind is not types.NoneType)
    return _convert(kind, value, path)


def _convert_scalar(kind: Any, value: Any, path: str) -> Any:
    plain_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is bool:
        return _checked(value, path, lambda: isinstance(value, bool), "true or false")
    if kind is int:
        return _checked(value, path, lambda: plain_number and isinstance(value, int), "a whole number")
    if kind is float:
        is_finite = plain_number and abs(value) <= sys.float_info.max  # a whole number may be beyond any float
        return float(_checked(value, path, lambda: is_finite, "a finite number"))
    if kind in (str, Path):
        return kind(_checked(value, path, lambda: isinstance(value, str | kind), "text"))
    raise TypeError(f"{path} is annotated with {kind}, which settings cannot hold")


def _checked(value: Any, path: str, holds: Callable[[], bool], expected: str) -> Any:
    if not holds():
        raise SettingsError(f"{path} must be {expected}, not {_shown(value)}.")
    return value


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, Mapping):
        return "a group of `name: value` lines"
    if value is None or isinstance(value, bool):
        return {None: "empty", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
