"""Have a task carried out in a contained process, and watch over it.

This process holds what the contained one must not: keys, a network. It opens no recording.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from protocol.announce import is_journal
from protocol.containment.contained_process import Instructions
from protocol.containment.hearing import pass_on, told_on
from protocol.containment.probes import Listeners
from protocol.containment.walls import Conditions, Level
from protocol.errors import Code, ContainmentError, ProtocolError

BANNER_EVERY_S = 60.0
_START = (
    "import sys; root = sys.argv.pop(); root in sys.path or sys.path.insert(0, root); "
    "from importlib import import_module; import_module(sys.argv.pop()).main()"
)
"""Run by an isolated interpreter, which finds this very code and nothing that the environment names."""
_ROOT = str(Path(__file__).resolve().parents[2])
_PASSED_ON = frozenset(
    {
        *("PATH", "HOME", "TMPDIR", "LANG", "LANGUAGE", "TZ", "TERM", "COLUMNS", "LINES", "NO_COLOR", "ECAN_DEBUG"),
        *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "XDG_CACHE_HOME", "MPLCONFIGDIR"),
    }
)
_STEERING = ("LD_", "GLIBC_TUNABLES", "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP")
"""How the names of variables begin that change what a process runs."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """Describe what a site wants to have done behind walls.

    Attributes:
        program: the site's module, by its dotted name, whose ``main`` is the contained process; it calls
            `contained_process.carry_out_order`.
        command: what kind of order it is, in the site's words.
        order: what is to be done, as JSON values and paths.
        private: keys, rules and the like, which it must not be able to reach.
    """

    program: str
    command: str
    order: Mapping[str, Any]
    private: Sequence[Path] = ()


def carry_out_contained(
    task: Task, *, conditions: Conditions, announce: Callable[[str], None], quiet: bool
) -> dict[str, Any]:
    """Carry out a task in a process that has no way out.

    Args:
        task: what is to be done; all that it names is readable to this process's user.
        conditions: what is demanded of the containment.
        announce: tells a person.
        quiet: whether the contained process says nothing but errors.

    Returns:
        What the site's program says of the outcome.

    Raises:
        ContainmentError: something got out, or tried to: what was made is kept and says so.
        ProtocolError: the process was killed.
        click.exceptions.Exit: it failed, and has said why.
    """
    surroundings, dropped = surroundings_of(os.environ)
    if dropped:
        announce(f"not passed on to the process that reads recordings: {', '.join(dropped)}")
    with (
        closing(Listeners()) as control,
        closing(Listeners()) as listeners,
        TemporaryDirectory(prefix="ecan-") as scratch,
    ):
        instructions = Instructions(
            parent=os.getpid(),
            command=task.command,
            order=task.order,
            quiet=quiet,
            scratch=Path(scratch),
            conditions=conditions,
            control=control.plant,
            plant=listeners.plant,
            private=task.private,
        )
        told = _run(task.program, instructions, surroundings, announce)
        if (heard := listeners.heard()) and told["containment"]["level"] > Level.NONE:
            raise ContainmentError(
                Code.PROBE,
                f"The walls do not hold: the contained process reached {', '.join(heard)}; stop using this machine for "
                "recordings, and report it with the kernel's version.",
            )
    if told["attempts"]:
        raise ContainmentError(
            Code.CONTAINMENT,
            f"{told['attempts']} attempts to reach a network or to start a program were blocked while recordings were "
            "open; the result is kept and says so, find out which package did it (`pip list`) before you use it.",
        )
    return dict(told["outcome"])


def isolated(program: str) -> list[str]:
    """Return the command that runs a module's ``main`` in isolation."""
    return [sys.executable, "-I", "-c", _START, program, _ROOT]


def surroundings_of(environment: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Split an environment into what is passed on and what is not.

    Args:
        environment: the variables of this process.

    Returns:
        The variables that a contained process gets, and the names of dangerous ones that it does not get.
    """
    passed_on = {
        name: value for name, value in environment.items() if name in _PASSED_ON or name.startswith(("LC_", "ECAN_"))
    }
    dropped = sorted(
        name
        for name in environment.keys() - passed_on.keys()
        if name.startswith(_STEERING) or name.lower().endswith("_proxy")
    )
    return passed_on, dropped


def _run(
    program: str, instructions: Instructions, surroundings: Mapping[str, str], announce: Callable[[str], None]
) -> dict[str, Any]:
    """Start the contained process and gather what it tells."""
    told: dict[str, Any] = {}
    with _started(program, surroundings) as process, _reminded(told, announce):
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError), process.stdin as channel:
            channel.write(json.dumps(asdict(instructions), default=str).encode())
        for message in told_on(process.stdout):
            told |= message
    if process.returncode < 0:
        name = signal.Signals(-process.returncode).name
        raise ProtocolError(
            Code.INTERNAL,
            f"The process that reads recordings was ended by {name}, perhaps for want of memory; "
            "run the same command again to go on.",
        )
    if process.returncode:
        raise click.exceptions.Exit(process.returncode)
    return told


@contextmanager
def _started(program: str, surroundings: Mapping[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    """Start a fresh interpreter that ends with the block.

    However that is left. What it says is shown. It has no terminal of its own: it could steer one, or type into it.
    """
    process = subprocess.Popen(
        isolated(program),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(surroundings),
        process_group=0,  # Ctrl-C is this process's to answer
    )
    with process:
        tasks = ((_end_forks, process.pid), (pass_on, process.stderr, _show))
        others = [threading.Thread(target=task, args=words, daemon=True) for task, *words in tasks]
        for other in others:
            other.start()
        try:
            yield process
        except BaseException:
            process.kill()
            raise
        finally:
            for other in others:
                other.join()


def _end_forks(process: int) -> None:
    """Wait for the process, and end the forks that it leaves behind.

    They could hold its pipes open for ever.
    """
    os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)  # its number is not given away before it is asked for
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process, signal.SIGKILL)


def _show(line: str) -> None:
    with suppress(OSError, ValueError):
        mark = "<3>" if line.startswith("error: ") and is_journal(sys.stderr) else ""
        print(f"{mark}{line}", file=sys.stderr, flush=True)


@contextmanager
def _reminded(told: Mapping[str, Any], announce: Callable[[str], None]) -> Iterator[None]:
    """Warn repeatedly while recordings are read without containment."""
    is_over = threading.Event()

    def remind() -> None:
        while not is_over.wait(BANNER_EVERY_S):
            if reason := told.get("containment", {}).get("accepted"):
                announce(f"UNCONTAINED: recordings are being read by a process that could reach others ({reason})")

    reminding = threading.Thread(target=remind, daemon=True)
    reminding.start()
    try:
        yield
    finally:
        is_over.set()
        reminding.join()
