"""Divide recordings among processes, the same way every time."""

import os
import re
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from ecan_core.data.unlabeled import whole_path
from ecan_core.errors import UsageError

PLACE_BYTES = 16
MAX_SHARDS = 100_000
_NUMBER = re.compile("[0-9]{1,6}")


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Describe one share of the recordings.

    Attributes:
        number: which one, counted from 1.
        count: how many there are.
    """

    number: int = 1
    count: int = 1

    @property
    def name(self) -> str:
        """Return the name of its folder, such as ``3-of-8``."""
        return f"{self.number}-of-{self.count}"

    @property
    def is_whole(self) -> bool:
        """Return whether it is all there is."""
        return self.count == 1

    def holds(self, place: str) -> bool:
        """Return whether a recording belongs to it.

        Args:
            place: as `place_of_path` returns it.
        """
        return int(place, 16) % self.count == self.number - 1


WHOLE = Shard()


def parse_shard(text: str) -> Shard:
    """Read a share such as ``3/8``, the third of eight.

    Raises:
        UsageError: it is none.
    """
    number, _, count = text.partition("/")
    if _NUMBER.fullmatch(number) and _NUMBER.fullmatch(count) and 1 <= int(number) <= int(count) <= MAX_SHARDS:
        return Shard(number=int(number), count=int(count))
    raise UsageError(f"{text!r} is no share of the recordings; write 1/8 to 8/8 for eight processes.")


def place_of_path(path: Path) -> str:
    """Return a digest of where a recording lies, in hexadecimal.

    Relative paths count from the current folder, so the name by which a list calls it makes no difference.
    """
    return sha256(os.fsencode(whole_path(path))).digest()[:PLACE_BYTES].hex()
