"""Command lines as processes of their own: how they end, what they say, what they cost.

They are forked from a server process that has imported everything beforehand, so hundreds of them are cheap.
"""

import io
import multiprocessing
import os
import re
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support import processes

MAX_SECONDS = 5.0
"""How long any refusal may take, on a machine that runs other tests at the same time."""
MAX_GROWTH_BYTES = 64 * 2**20
"""How far memory may grow beyond the size of the input."""

SUCCESS = re.compile(
    r"^(verified |exported |granted |the target verified|the grant [0-9a-f]+ is |withdrawn by )", re.MULTILINE
)
"""Lines that only a success has."""

processes.preload(
    "numpy",
    "cryptography.x509",
    "protocol.inspection.listing",
    "source_site.commands.release",
    "source_site.release.grant",
    "source_site.release.revoke",
    "source_site.release.server",
    "target_site.tasks.adapt",
    "target_site.commands.bundle",
    "target_site.commands.model",
    "target_site.receiving.receive",
    "target_site.trust.manual",
    "tests.hostile.command_line",
)


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a command ended.

    Attributes:
        code: exit code; negative for a signal.
        growth_bytes: how far the peak memory grew beyond that at the start.
    """

    code: int
    stdout: str
    stderr: str
    seconds: float
    growth_bytes: int

    @property
    def word(self) -> str:
        """The code word behind the one error line, or nothing."""
        found = re.search(r"\[([A-Z_]+)\]$", self.stderr.strip())
        return found[1] if found else ""


def run(
    program: str,
    *words: object,
    folder: Path,
    environment: dict[str, str] | None = None,
    before: Callable[[], object] | None = None,
) -> Ending:
    """Run ``ecan-source`` or ``ecan-target``.

    Args:
        program: which.
        words: its arguments.
        folder: where to run; nobody else may use it.
        environment: variables to set.
        before: what the process does before the command.
    """
    reader, writer = multiprocessing.Pipe(duplex=False)
    process = processes.start(_run, program, [str(word) for word in words], folder, environment or {}, before, writer)
    writer.close()
    if not reader.poll(processes.PATIENCE_S):
        process.kill()
        raise AssertionError("the command hangs")
    try:
        seconds, growth = reader.recv()
    except EOFError:  # killed by a signal
        seconds, growth = 0.0, 0
    code = processes.ended(process)
    return Ending(
        code=code,
        stdout=(folder / ".stdout").read_text(errors="replace"),
        stderr=(folder / ".stderr").read_text(errors="replace"),
        seconds=seconds,
        growth_bytes=growth,
    )


def check_refused(
    ending: Ending, code: int, word: str = "", *, input_bytes: int = 0, never: Sequence[str] = ()
) -> None:
    """A refusal as it must look: exit code, one sentence, nothing of the attacker's, little time and memory.

    Args:
        ending: how the command ended.
        code: the exit code that the table says.
        word: the code word that the table says; nothing where the fault has none.
        input_bytes: size of the hostile input.
        never: texts of the attacker, which must not come back.
    """
    said = ending.stdout + ending.stderr
    assert ending.code == code, said
    assert ending.word == word, said
    assert ending.stderr.count("error: ") == 1, said
    assert ending.stderr.strip().splitlines()[-1].startswith("error: "), said
    assert "Traceback" not in said
    assert "this is a bug" not in said
    assert not SUCCESS.search(said), said
    for text in never:
        assert text not in said
    assert ending.seconds < MAX_SECONDS
    assert ending.growth_bytes < input_bytes + MAX_GROWTH_BYTES


def _run(
    program: str,
    words: list[str],
    folder: Path,
    environment: dict[str, str],
    before: Callable[[], object] | None,
    writer,
) -> None:
    from ecan_core.command_line.console import run as run_command
    from ecan_core.errors import EcanError
    from protocol.errors import ProtocolError

    if program == "ecan-source":
        from source_site.cli import cli
    else:
        from target_site.cli import cli
    os.chdir(folder)
    os.environ.update(environment)
    for name in ("stdout", "stderr"):
        descriptor = os.open(folder / f".{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        number = {"stdout": 1, "stderr": 2}[name]
        os.dup2(descriptor, number)
        setattr(sys, name, io.TextIOWrapper(os.fdopen(os.dup(number), "wb", buffering=0), write_through=True))
    if before is not None:
        before()
    peak, start = _peak_bytes(), time.monotonic()
    code = 1
    try:
        run_command(cli, prog_name=program, error_types=(EcanError, ProtocolError), args=words)
    except SystemExit as ended:
        code = int(ended.code or 0)
    writer.send((time.monotonic() - start, _peak_bytes() - peak))
    sys.stdout.flush()
    os._exit(code)


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
