"""Stand in for a source site's contained process: read the file of an order, and try what it must not do.

What comes of it is written into the order's folder, so that it is seen even where the launcher raises an alarm.
"""

import errno
import json
import os
import signal
import socket
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import click

from ecan_core.command_line.console import Narrator, run
from ecan_core.errors import EcanError, SettingsError
from protocol.containment.contained_process import Work, carry_out_order, reserve_channel
from protocol.containment.walls import Containment
from protocol.errors import ProtocolError
from protocol.sandbox.confine import code_paths


def main() -> NoReturn:
    reserve_channel()
    contained = click.Command("contained", callback=lambda: carry_out_order(load))
    run(contained, prog_name="ecan-source", error_types=(EcanError, ProtocolError), args=[])


def load(command: str, values: Mapping[str, Any], quiet: bool) -> Work:
    corpus, other, out = (Path(values[name]) for name in ("corpus", "other", "out"))
    attempts = {
        "read": {
            "its corpus": corpus.read_bytes,
            "another file": other.read_bytes,
            "its folder": lambda: (out / "new").touch(),
            "another folder": lambda: (other.parent / "new").touch(),
        },
        "call": {"a socket": socket.socket},
        "fail": {"nothing": fail},
        "die": {"nothing": lambda: os.kill(os.getpid(), signal.SIGABRT)},
    }
    return Work(
        readable=[*code_paths("source_site", "ecan_core"), corpus],
        writable=[out],
        announce=Narrator(quiet=quiet).say,
        carry_out=partial(try_all, attempts[command], out),
    )


def try_all(attempts: Mapping[str, Callable[[], object]], out: Path, containment: Containment) -> dict[str, Any]:
    outcomes = {name: outcome(attempt) for name, attempt in attempts.items()}
    (out / "outcomes.json").write_text(json.dumps(outcomes))
    return outcomes | {"level": containment.level}


def outcome(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "ok"


def fail() -> None:
    raise SettingsError("the order asks for too much; ask for less")
