"""Shut in the process that reads recordings, and prove that it is.

See docs/containment.md.

level  walls                                     what they leave
3      system calls, files and a network apart   nothing
2      system calls and files                    the machine's network, which no call can reach
1      system calls                              all files of the user
0      none                                      everything
"""

import contextlib
import mmap
import os
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any

from protocol.containment.probes import Plant, attempt_all
from protocol.errors import Code, ContainmentError
from protocol.sandbox import confine, kernel, network, probes


class Level(IntEnum):
    """Name which walls stand."""

    NONE = 0
    CALLS = 1
    FILES = 2
    NETWORK = 3


DEFAULT_LEAST = Level.FILES
"""The lowest level at which recordings are read without anybody's word."""
WALLS = {
    Level.NONE: "no walls",
    Level.CALLS: "system calls are filtered; files are open",
    Level.FILES: "system calls are filtered and files walled off; the network namespace is the machine's",
    Level.NETWORK: "system calls are filtered, files walled off, and the network is an empty one of its own",
}
_OPEN_AT: Mapping[Level, frozenset[str]] = {
    Level.CALLS: frozenset({"reading outside", "writing outside"}),
    Level.FILES: frozenset(),
    Level.NETWORK: frozenset(),
}
"""Ways out that a level leaves open."""


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Describe what is demanded of the containment.

    Attributes:
        least: the lowest level that will do.
        accepted: why somebody accepts less; None if nobody does.
    """

    least: int = DEFAULT_LEAST
    accepted: str | None = None


class Tripwire:
    """Count attempts to reach a network or to start a program.

    Attempts of this process and of those that it forks count.

    It is no wall: it sees what goes through Python alone. The walls stop the attempt, this makes it known.
    """

    def __init__(self) -> None:
        self._count = mmap.mmap(-1, mmap.PAGESIZE)  # shared with forked processes

    def arm(self) -> None:
        """Count from now on, for good."""
        sys.addaudithook(self._hear)

    @property
    def attempts(self) -> int:
        """Return how many were counted."""
        return int(struct.unpack_from("Q", self._count)[0])

    def _hear(self, event: str, _: tuple[Any, ...]) -> None:
        if event in _ATTEMPTS:
            struct.pack_into("Q", self._count, 0, self.attempts + 1)


_ATTEMPTS = frozenset(
    {
        *("socket.__new__", "socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"),
        *("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "pty.spawn"),
    }
)


@dataclass(frozen=True, kw_only=True)
class Containment:
    """Describe what was built and what was tried.

    Attributes:
        level: which walls stand.
        accepted: why somebody accepts a level below the least; None if it did not come to that.
        ways_out: by name, whether each led out before the walls were built, and afterwards.
        tripwire: counts what is attempted later on.
    """

    level: Level
    accepted: str | None
    ways_out: Mapping[str, tuple[bool, bool]]
    tripwire: Tripwire = field(default_factory=Tripwire)

    @property
    def is_marked(self) -> bool:
        """Whether what is made under it must say that it was not well contained."""
        return self.accepted is not None

    def as_plain(self) -> dict[str, Any]:
        """Return it as plain values, for receipts and reports."""
        return {
            "level": int(self.level),
            "walls": WALLS[self.level],
            "accepted": self.accepted,
            "attempts": self.tripwire.attempts,
            "ways_out": {name: list(outcome) for name, outcome in self.ways_out.items()},
        }

    def sentence(self) -> str:
        """Return a sentence for a person, before the work begins."""
        if self.is_marked:
            return f"UNCONTAINED (level {self.level:d} of 3: {WALLS[self.level]}); accepted because: {self.accepted}"
        tried = sum(before for before, _ in self.ways_out.values())
        return (
            f"contained at level {self.level:d} of 3 ({WALLS[self.level]}): {tried} ways out that led out before, "
            f"{sum(after for _, after in self.ways_out.values())} now"
        )


def contain(
    *,
    readable: Sequence[Path],
    writable: Sequence[Path],
    conditions: Conditions,
    control: Plant,
    plant: Plant,
    listable: Sequence[Path] = (),
    private: Sequence[Path] = (),
    kept: Sequence[int] = (),
    tripwire: Tripwire,
) -> Containment:
    """Shut this process in for good, and show that it is.

    Args:
        readable: files and folders that it needs, its own code among them; what is not there is left out.
        writable: folders that it writes into, which are there.
        conditions: what is demanded.
        control: what is reached for before the walls are built.
        plant: what is reached for afterwards.
        listable: folders whose names it needs, and not what lies in them.
        private: files and folders that must be out of reach, beside those that were planted.
        kept: descriptors of pipes to processes that stand behind walls already.
        tripwire: what will count attempts.

    Raises:
        ContainmentError: the system cannot do what is demanded, or the walls do not hold.
    """
    before = attempt_all(control)
    if not before["reading outside"]:
        raise ContainmentError(
            Code.PROBE, f"The probes do not work: {control.secret} cannot be read; check the folder's permissions."
        )
    _limit_memory()
    is_alone = confine.leave_network()
    walls = confine.confine(
        readable=[path for path in (*readable, Path(plant.listed)) if path.exists()],
        writable=writable,
        listable=listable,
        network=network.Network.NONE,
        required=False,
        kept=kept,
    )
    level = _level(walls, is_alone=is_alone)
    if level < conditions.least and conditions.accepted is None:
        raise ContainmentError(
            Code.CONTAINMENT,
            f"This system contains the process that reads recordings at level {level:d} only ({WALLS[level]}), and "
            f"level {conditions.least:d} is required; use {kernel.OLDEST_KERNEL} or newer with Landlock and seccomp, "
            'or accept the risk with --accept-uncontained "REASON".',
        )
    after = attempt_all(plant)
    if level > Level.NONE:
        _refuse_gaps({name for name, led_out in after.items() if led_out} - _OPEN_AT[level])
    if level >= Level.FILES:
        Path(plant.listed).read_bytes()  # and yet nothing beside it
        probes.probe_denied([Path(plant.secret), Path(plant.folder), *private], network=network.Network.NONE)
    return Containment(
        level=level,
        accepted=conditions.accepted if level < conditions.least else None,
        ways_out={name: (before[name], after[name]) for name in before},
        tripwire=tripwire,
    )


def enclose_maker(tripwire: Tripwire) -> None:
    """Shut in a process that makes decoders.

    It reads code and nothing else, and is forked before `contain`.

    Args:
        tripwire: counts what is attempted there.
    """
    confine.leave_network()
    confine.confine(readable=confine.code_paths("ecan_core"), network=network.Network.NONE, required=False)
    tripwire.arm()


def _level(walls: confine.Confinement, *, is_alone: bool) -> Level:
    if not walls.seccomp:
        return Level.NONE
    if not walls.holds:
        return Level.CALLS
    return Level.NETWORK if is_alone else Level.FILES


def _refuse_gaps(gaps: set[str]) -> None:
    if gaps:
        raise ContainmentError(
            Code.PROBE,
            f"The walls do not hold: {', '.join(sorted(gaps))} led out of the contained process; no recording was "
            "opened, report it with the kernel's version.",
        )


def _limit_memory() -> None:
    """Let a runaway allocation fail here, and not bring the machine down."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # other systems do not have it

        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
