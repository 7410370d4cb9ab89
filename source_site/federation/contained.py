"""Carry out a federation's orders in the contained process.

At a source site only this process opens speech in a federation.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import click

from ecan_core.audio.foreign import start_makers
from ecan_core.command_line.console import Narrator, run
from ecan_core.errors import EcanError
from ecan_core.runtime.cage import bring
from ecan_core.runtime.workers import cores
from ecan_core.settings.parse import parse_settings
from protocol.containment.contained_process import Work, carry_out_order, reserve_channel
from protocol.containment.walls import Tripwire, enclose_maker
from protocol.errors import ProtocolError
from protocol.sandbox.confine import code_paths, confine_to_computing
from source_site.federation.orders import ORDERS

_SYSTEM = ("/proc/cpuinfo", "/sys/devices/system/cpu")
"""Where the libraries look once they compute."""


def main() -> NoReturn:
    """Carry out the order from standard input.

    Started by `ecan-source federate join`.
    """
    reserve_channel()
    contained = click.Command("contained", callback=lambda: carry_out_order(_load))
    run(contained, prog_name="ecan-source", error_types=(EcanError, ProtocolError), args=[])


def _load(command: str, values: Mapping[str, Any], quiet: bool) -> Work:
    """Import all that the order needs, before there is speech.

    All files are still within reach.
    """
    tripwire = Tripwire()
    bring(confine_to_computing)
    kept = start_makers(cores(), partial(enclose_maker, tripwire))

    from ecan_core.runtime.seeding import one_thread  # all that follows is large
    from source_site.federation import tasks

    order = parse_settings(ORDERS[command], values, "order")
    one_thread()
    return Work(
        readable=[*code_paths("source_site", "ecan_core"), *order.readable, *map(Path, _SYSTEM)],
        writable=order.writable,
        announce=Narrator(quiet=quiet).say,
        carry_out=lambda _: tasks.carry_out(order),
        kept=kept,
        tripwire=tripwire,
    )
