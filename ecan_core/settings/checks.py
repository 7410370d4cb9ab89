"""Check the ranges of settings; each message names setting and range."""

import math
from collections.abc import Callable

from ecan_core.errors import SettingsError


def positive(settings: object, *names: str) -> None:
    """Refuse values that are not finite and above zero."""
    _check(settings, names, lambda value: value > 0, "above 0")


def non_negative(settings: object, *names: str) -> None:
    """Refuse values that are not finite and at least zero."""
    _check(settings, names, lambda value: value >= 0, "0 or more")


def at_least(settings: object, name: str, least: int) -> None:
    """Refuse a value below ``least``."""
    _check(settings, (name,), lambda value: value >= least, f"{least} or more")


def at_most(settings: object, name: str, most: float) -> None:
    """Refuse a value above ``most``."""
    _check(settings, (name,), lambda value: value <= most, f"{most:g} or less")


def fraction(settings: object, *names: str) -> None:
    """Refuse values outside [0, 1)."""
    _check(settings, names, lambda value: 0 <= value < 1, "at least 0 and below 1")


def one_of(settings: object, name: str, allowed: tuple[str, ...]) -> None:
    """Refuse a value that is not in ``allowed``."""
    value = getattr(settings, name)
    if value not in allowed:
        raise SettingsError(f"{name} is {value!r}, but must be one of {', '.join(allowed)}")


def _check(settings: object, names: tuple[str, ...], holds: Callable[[float], bool], wanted: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if not ((isinstance(value, int) or math.isfinite(value)) and holds(value)):
            raise SettingsError(f"{name} is {value}, but must be {wanted}")
