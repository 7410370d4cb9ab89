"""Carry out one order behind walls, in the process that opens recordings.

`protocol.containment.launcher` starts a module of the site as a fresh interpreter. That one reads its instructions from
standard input, tries every way out, builds its walls, tries them all again, and only then opens a recording. What
becomes of the order goes back over standard output, one JSON object per line.
"""

import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from protocol.containment.probes import Plant
from protocol.containment.walls import Conditions, Containment, Tripwire, contain
from protocol.sandbox.confine import die_with_parent

MAX_INSTRUCTION_BYTES = 1 << 26
_CHANNEL = 1


@dataclass(frozen=True, kw_only=True)
class Instructions:
    """Hold what the process that started this one says.

    Attributes:
        parent: its process number.
        command: what kind of order it is, in the site's words.
        order: what is to be done, as JSON values and paths.
        quiet: say nothing but errors.
        scratch: a folder for what libraries write down on the way; it goes in the end.
        conditions: what is demanded of the containment.
        control: what is reached for before the walls are built.
        plant: what is reached for afterwards.
        private: the site's own files, which must be out of reach too.
    """

    parent: int
    command: str
    order: Mapping[str, Any]
    quiet: bool
    scratch: Path
    conditions: Conditions
    control: Plant
    plant: Plant
    private: Sequence[Path]

    @classmethod
    def from_json(cls, text: bytes) -> "Instructions":
        """Rebuild instructions from the JSON that the starting process wrote."""
        said = json.loads(text)
        kinds = {"conditions": Conditions, "control": Plant, "plant": Plant}
        parsed = {name: kind(**said[name]) for name, kind in kinds.items()}
        paths = {"scratch": Path(said["scratch"]), "private": [Path(one) for one in said["private"]]}
        return cls(**said | parsed | paths)


@dataclass(frozen=True, kw_only=True)
class Work:
    """Hold an order whose code is imported and that awaits the walls.

    Attributes:
        readable: files and folders that it needs, its own code among them; what is not there is left out.
        writable: folders that it writes into, which are there.
        listable: folders whose names it needs, and not what lies in them.
        announce: tells a person how well the process is contained.
        carry_out: does the work and returns its outcome as JSON values.
        kept: descriptors of pipes to processes that stand behind walls already.
        tripwire: counts what is attempted, by those processes too.
    """

    readable: Sequence[Path]
    writable: Sequence[Path]
    announce: Callable[[str], None]
    carry_out: Callable[[Containment], Mapping[str, Any]]
    listable: Sequence[Path] = ()
    kept: Sequence[int] = ()
    tripwire: Tripwire = field(default_factory=Tripwire)


Load = Callable[[str, Mapping[str, Any], bool], Work]
"""Imports what an order needs while all files are within reach: from its kind, its values, and whether to be quiet."""


def reserve_channel() -> None:
    """Keep standard output for the channel, and ignore Ctrl-C.

    Interruption is the business of the process that started this one.
    """
    os.umask(0o077)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdout = sys.stderr


def carry_out_order(load: Load) -> None:
    """Carry out the order that comes on standard input, behind walls.

    Args:
        load: imports what the order needs.

    Raises:
        ContainmentError: the system cannot do what is demanded, or the walls do not hold.
    """
    instructions = Instructions.from_json(sys.stdin.buffer.read(MAX_INSTRUCTION_BYTES))
    die_with_parent(instructions.parent)
    tempfile.tempdir = str(instructions.scratch)  # the usual places will be out of reach
    work = load(instructions.command, instructions.order, instructions.quiet)
    containment = contain(
        readable=work.readable,
        writable=[*work.writable, instructions.scratch],
        listable=work.listable,
        conditions=instructions.conditions,
        control=instructions.control,
        plant=instructions.plant,
        private=instructions.private,
        kept=work.kept,
        tripwire=work.tripwire,
    )
    die_with_parent(instructions.parent)  # a user namespace makes the kernel forget it
    work.announce(containment.sentence())
    _tell({"containment": containment.as_plain()})
    containment.tripwire.arm()
    outcome = work.carry_out(containment)
    _tell({"outcome": outcome, "attempts": containment.tripwire.attempts})


def _tell(message: Mapping[str, Any]) -> None:
    line = json.dumps(message).encode() + b"\n"
    while line:
        line = line[os.write(_CHANNEL, line) :]
