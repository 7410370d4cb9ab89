"""Keep the walls that a decoder builds around itself.

The core has none of its own: a site brings those of `protocol.sandbox`. Whoever uses the core as a library has decoders
with limits of memory and time alone.
"""

from collections.abc import Callable

Build = Callable[[int], object]


def _no_walls(_: int) -> None:
    """Build nothing."""


_build: Build = _no_walls


def bring(build: Build) -> None:
    """Set what every decoder does before it looks at a file.

    Args:
        build: Takes from its process, for good, all but so many of its first descriptors.
    """
    global _build
    _build = build


def build(num_descriptors: int) -> None:
    """Build the walls around this process, for good."""
    _build(num_descriptors)
