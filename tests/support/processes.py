"""Real processes that are killed, or run out of disk, at a moment that a test chooses.

They are forked from a server process that has imported everything beforehand, so each starts in milliseconds.
"""

import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

PATIENCE_S = 20.0

_WRITES = {"os.rename", "os.remove", "os.truncate", "os.mkdir", "sqlite3.connect"}
_context = multiprocessing.get_context("forkserver")
_preloaded: list[str] = []


def preload(*modules: str) -> None:
    """Name what the processes will need, before the first one starts; adds to what others have named."""
    _preloaded.extend(modules)
    _context.set_forkserver_preload(_preloaded)


def start(work: Callable[..., object], *arguments: object) -> BaseProcess:
    """Start a process; it ends with the exit code of the error that `work` raises."""
    process = _context.Process(target=_run, args=(work, arguments), daemon=True)
    process.start()
    return process


def run(work: Callable[..., object], *arguments: object) -> int:
    """Run a process to its end and return its exit code; -9 means killed."""
    return ended(start(work, *arguments))


def ended(process: BaseProcess) -> int:
    """Wait for the end of a process."""
    process.join(PATIENCE_S)
    assert process.exitcode is not None, "the process hangs"
    return process.exitcode


def killed_at(step: int, folder: Path, work: Callable[..., object], *arguments: object) -> None:
    """Do the work, but die by SIGKILL right before the n-th change in a folder, counted from zero."""
    steps = iter(range(step))

    def watch(event: str, details: tuple[object, ...]) -> None:
        if _changes_a_file(event, details, folder) and next(steps, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    work(*arguments)


def with_file_size_limit(max_bytes: int, work: Callable[..., object], *arguments: object) -> None:
    """Do the work where no file can become larger than this: a disk that is full at that byte."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, resource.RLIM_INFINITY))
    work(*arguments)


def _run(work: Callable[..., object], arguments: tuple[object, ...]) -> None:
    try:
        work(*arguments)
    except Exception as error:
        sys.exit(getattr(error, "exit_code", 1))


def _changes_a_file(event: str, details: tuple[object, ...], folder: Path) -> bool:
    """Whether an audit event is a write access to something in the folder."""
    if event == "open":
        path, _, flags = details
        writes = isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        return writes and str(folder) in str(path)
    return event in _WRITES and str(folder) in str(details[0])
