"""Name whom a step tells what it does."""

from collections.abc import Callable

Announce = Callable[[str], None]
