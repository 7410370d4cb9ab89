"""How much memory a command needs, with all the processes that it starts.

What the system reports of a process that has ended is of no use for it: that counts the pages of whoever started the
process, and no more than the largest one of those that worked together.
"""

import threading
from contextlib import suppress
from pathlib import Path

INTERVAL_S = 0.1
_GONE = (FileNotFoundError, ProcessLookupError)


class MemoryWatch:
    """Watches a process and its descendants from a thread until it is stopped.

    Pages that processes share count once. Peaks shorter than `INTERVAL_S` may be missed.

    Args:
        process: its number.
    """

    def __init__(self, process: int) -> None:
        self._process = process
        self._most_kib = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """End the watch; returns the most memory that all of them held at once, in MiB."""
        self._is_over.set()
        self._thread.join()
        return self._most_kib / 1024

    def _watch(self) -> None:
        while not self._is_over.wait(INTERVAL_S):
            self._most_kib = max(self._most_kib, sum(map(_held_kib, _family(self._process))))


def _family(process: int) -> list[int]:
    """A process and all its descendants."""
    family = [process]
    for member in family:
        with suppress(*_GONE):
            for children in Path(f"/proc/{member}/task").glob("*/children"):
                family += map(int, children.read_text().split())
    return family


def _held_kib(process: int) -> int:
    """What a process holds, shared pages in parts; in full where it hides its parts from this user."""
    folder = Path(f"/proc/{process}")
    with suppress(*_GONE):
        try:
            return _field(folder / "smaps_rollup", "Pss:")
        except PermissionError:
            return _field(folder / "status", "VmRSS:")
    return 0


def _field(path: Path, name: str) -> int:
    """The number behind a name in a file of `/proc`, 0 where it is not there."""
    return next((int(line.split()[1]) for line in path.read_text().splitlines() if line.startswith(name)), 0)
