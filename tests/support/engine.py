"""Commands that use Flower, on a host of their own whose every packet is seen."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.two_hosts import Host

PATIENCE_S = 800.0
LINK_PORT = 7500
"""Of the coordinator; a host of a test's own has all ports free."""
SILENT = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
"""What the environment of every process has to say."""


@contextmanager
def started(host: Host, program: str, *words: object) -> Iterator["subprocess.Popen[str]"]:
    """A command on a host; it is asked to end with the block."""
    command = [*host.prefix, Path(sys.executable).with_name(program), *map(str, words)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        end(process)


def end(process: "subprocess.Popen[str]") -> str:
    """Ask a command to end, with what it started; returns what it said on stderr."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        return process.communicate(timeout=60)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()[1]
    except ValueError:  # it was read to its end before
        process.wait()
        return ""


def kill_whole(process: "subprocess.Popen[str]") -> None:
    """Kill a command and all that it started, as a power cut would."""
    for child in descendants([process]):
        os.kill(child, signal.SIGKILL)
    process.kill()
    process.communicate()


def descendants(processes: Iterable["subprocess.Popen[str]"]) -> set[int]:
    """Every process below some others."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            children.setdefault(parent, []).append(int(folder.name))
        except OSError:
            continue
    found, waiting = set[int](), [process.pid for process in processes]
    while waiting:
        of_one = children.get(waiting.pop(), [])
        found.update(of_one)
        waiting += of_one
    return found


@contextmanager
def watched(processes: list["subprocess.Popen[str]"]) -> Iterator[dict[int, list[str]]]:
    """The environment of every process that lives below some others at any time in the block, variable by variable."""
    environments: dict[int, list[str]] = {}
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(0.2):
            for process in descendants(processes):
                try:
                    told = Path(f"/proc/{process}/environ").read_bytes().decode(errors="replace").split("\0")
                except OSError:
                    continue
                if told != [""]:  # it has ended
                    environments[process] = told

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield environments
    finally:
        is_over.set()
        watching.join()


def assert_silent(environments: dict[int, list[str]], *, at_least: int) -> None:
    """Flower's telemetry and its search for updates are off in every process."""
    assert len(environments) >= at_least
    for told in environments.values():
        assert all(f"{name}={value}" in told for name, value in SILENT.items())


def is_of_engine(environment: list[str]) -> bool:
    """Whether a process uses Flower; contained ones get none of its environment, and know nobody to call."""
    return any(variable.startswith("FLWR_") for variable in environment)


def wait_for(happened: Callable[[], bool], what: str) -> None:
    """Wait until something has happened."""
    deadline = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.2)
