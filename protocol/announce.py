"""Tell a person what is going on."""

import os
from collections.abc import Callable
from typing import TextIO

Announce = Callable[[str], None]


def is_journal(stream: TextIO) -> bool:
    """Return whether a stream goes to systemd's journal.

    It takes `<3>` before a line for the priority of an error.
    """
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
