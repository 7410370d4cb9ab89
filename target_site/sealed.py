"""The sealed process: the only one at a target site that opens recordings, and it has no way out.

`ecan-target adapt`, `predict` and `evaluate` start it as a fresh interpreter (`target_site.seal`). It reads its
instructions from standard input, tries every way out, builds its walls, tries them all again, and only then opens a
recording. What becomes of the order goes back over standard output, one JSON object per line.
"""

import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import click

from ecan_core.console import run
from ecan_core.errors import EcanError
from ecan_core.narrator import Narrator
from ecan_core.settings import parse_settings
from protocol.errors import ProtocolError
from protocol.sandbox import die_with_parent
from target_site.containment import Conditions, Containment, contain
from target_site.orders import ORDERS, Order
from target_site.probes import Plant

MAX_INSTRUCTION_BYTES = 1 << 20
_CHANNEL = 1
_SYSTEM = (
    *map(
        Path,
        (
            "/usr/share/fonts",
            "/usr/local/share/fonts",
            "/proc/cpuinfo",
            "/sys/devices/system/cpu",
            "/sys/bus/pci/devices",
        ),
    ),
)
"""What the libraries look at once they compute and draw."""
_CARRIED_OUT_BY = {
    "adapt": "target_site.adapt:carry_out",
    "predict": "target_site.predict:carry_out",
    "evaluate": "target_site.evaluate:carry_out",
    "onnx": "target_site.onnx_file:carry_out",
    "round": "target_site.together:carry_out_round",
    "conclude": "target_site.together:carry_out_end",
}

CarryOut = Callable[[Any, Containment, Narrator], dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Instructions:
    """What the process that started this one says.

    Attributes:
        parent: its process number.
        command: a name in ``ORDERS``.
        order: what is to be done.
        quiet: say nothing but errors.
        scratch: a folder for what libraries write down on the way; it goes in the end.
        conditions: what is demanded of the containment.
        control: what is reached for before the walls are built.
        plant: what is reached for afterwards.
    """

    parent: int
    command: str
    order: Order
    quiet: bool
    scratch: Path
    conditions: Conditions
    control: Plant
    plant: Plant


def main() -> NoReturn:
    """Carry out one order; Ctrl-C is the starting process's business."""
    os.umask(0o077)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdout = sys.stderr  # standard output is the channel
    run(sealed, prog_name="ecan-target", error_types=(EcanError, ProtocolError), args=[])


@click.command()
def sealed() -> None:
    """Carry out the order that comes on standard input; started by `ecan-target`."""
    instructions = _read_instructions()
    die_with_parent(instructions.parent)
    order = instructions.order
    tempfile.tempdir = str(instructions.scratch)  # the usual places will be out of reach
    carry_out = _load(instructions.command)
    containment = contain(
        readable=[*order.readable, *_SYSTEM],
        writable=[*order.writable, instructions.scratch],
        conditions=instructions.conditions,
        control=instructions.control,
        plant=instructions.plant,
    )
    die_with_parent(instructions.parent)  # a user namespace makes the kernel forget it
    narrator = Narrator(quiet=instructions.quiet)
    narrator.say(containment.sentence())
    _tell({"containment": containment.as_plain()})
    containment.tripwire.arm()
    outcome = carry_out(order, containment, narrator)
    _tell({"outcome": outcome, "attempts": containment.tripwire.attempts})


def _read_instructions() -> Instructions:
    said = json.loads(sys.stdin.buffer.read(MAX_INSTRUCTION_BYTES))
    kinds = {"order": ORDERS[said["command"]], "conditions": Conditions, "control": Plant, "plant": Plant}
    parsed = {name: parse_settings(kind, said[name], name) for name, kind in kinds.items()}
    return Instructions(**said | parsed | {"scratch": Path(said["scratch"])})


def _load(command: str) -> CarryOut:
    """Import everything that the order needs, while all files are within reach and before there is a recording."""
    from ecan_core.seeding import one_thread

    module, _, name = _CARRIED_OUT_BY[command].partition(":")
    carry_out: CarryOut = getattr(import_module(module), name)
    import_module("matplotlib.font_manager")  # looks for fonts all over the system
    one_thread()
    return carry_out


def _tell(message: Mapping[str, Any]) -> None:
    line = json.dumps(message).encode() + b"\n"
    while line:
        line = line[os.write(_CHANNEL, line) :]
