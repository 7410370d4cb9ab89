"""Carry out this site's orders in the contained process.

It alone opens recordings (docs/containment.md).
"""

from collections.abc import Mapping
from functools import partial
from importlib import import_module
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

_SYSTEM = (
    *("/usr/share/fonts", "/usr/local/share/fonts"),
    *("/proc/cpuinfo", "/sys/devices/system/cpu", "/sys/bus/pci/devices"),
)
"""What the libraries look at once they compute and draw."""
_CARRIED_OUT_BY = {
    "adapt": "target_site.tasks.adapt:carry_out",
    "predict": "target_site.tasks.predict:carry_out",
    "evaluate": "target_site.tasks.evaluate:carry_out",
    "onnx": "target_site.tasks.onnx:carry_out",
    "round": "target_site.tasks.shared_round:carry_out_round",
    "conclude": "target_site.tasks.shared_round:carry_out_end",
}


def main() -> NoReturn:
    """Carry out the order on standard input; started by `ecan-target`."""
    reserve_channel()
    contained = click.Command("contained", callback=lambda: carry_out_order(_load))
    run(contained, prog_name="ecan-target", error_types=(EcanError, ProtocolError), args=[])


def _load(command: str, values: Mapping[str, Any], quiet: bool) -> Work:
    """Import what the order needs, while all files are within reach.

    Args:
        command: a name in ``ORDERS``.
        values: the fields of the order.
        quiet: say nothing but errors.
    """
    tripwire = Tripwire()
    bring(confine_to_computing)
    kept = start_makers(cores(), partial(enclose_maker, tripwire))

    from ecan_core.runtime.seeding import one_thread  # all that follows is large
    from target_site.containment.orders import ORDERS

    order = parse_settings(ORDERS[command], values, "order")
    module, _, name = _CARRIED_OUT_BY[command].partition(":")
    carry_out = getattr(import_module(module), name)
    import_module("matplotlib.font_manager")  # looks for fonts all over the system
    one_thread()
    narrator = Narrator(quiet=quiet)
    return Work(
        readable=[*code_paths("target_site", "ecan_core"), *order.readable, *map(Path, _SYSTEM)],
        writable=order.writable,
        announce=narrator.say,
        listable=getattr(order, "listable", ()),
        kept=kept,
        tripwire=tripwire,
        carry_out=partial(carry_out, order, narrator=narrator),
    )
