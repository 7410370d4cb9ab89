"""Both sites as real processes on this machine: run their commands, time them, hand a bundle over."""

import json
import os
import re
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.memory import MemoryWatch
from target_site.results.days import latest_day

PATIENCE_S = 600
LISTENING = re.compile(r"listening on \S+:(\d+)")


class StageFailedError(Exception):
    """A command ended with an exit code that was not expected."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One finished command.

    Attributes:
        name: the command's name.
        code: its exit code.
        wall_s: how long it took.
        cpu_s: computing time of all its processes.
        peak_mib: the most memory that it and its processes held at once.
        stdout: what it told machines.
        stderr: what it told people.
    """

    name: str
    code: int
    wall_s: float
    cpu_s: float
    peak_mib: float
    stdout: str
    stderr: str

    def json(self) -> Any:
        """Its stdout as JSON."""
        return json.loads(self.stdout)


class Command:
    """A command that runs in the background, its output in two files of the work folder."""

    def __init__(self, work: Path, program: str, *arguments: object) -> None:
        self.name = str(arguments[0])
        stem = work / f".{self.name}-{time.monotonic_ns()}"
        self._stdout, self._stderr = stem.with_suffix(".out"), stem.with_suffix(".err")
        self._started = time.monotonic()
        script = Path(sysconfig.get_path("scripts")) / program
        with self._stdout.open("wb") as out, self._stderr.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, str(script), *map(str, arguments)],
                stdout=out,
                stderr=err,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        self._memory = MemoryWatch(self.process.pid)

    def wait(self, *, expect: int | None = 0) -> Stage:
        """Wait for its end; any exit code but ``expect`` is a failure, None accepts all."""
        _, status, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        stage = Stage(
            name=self.name,
            code=self.process.returncode,
            wall_s=time.monotonic() - self._started,
            cpu_s=usage.ru_utime + usage.ru_stime,
            peak_mib=self._memory.stop(),
            stdout=self._stdout.read_text(),
            stderr=self._stderr.read_text(),
        )
        self._stdout.unlink()
        self._stderr.unlink()
        if expect is not None and stage.code != expect:
            raise StageFailedError(f"{self.name} ended with {stage.code}, not {expect}: {stage.stderr.strip()}")
        return stage

    def port(self) -> int:
        """Wait until it says on which port it listens."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            found = LISTENING.search(self._stderr.read_text())
            if found:
                return int(found[1])
            if self.process.poll() is not None:
                raise StageFailedError(f"{self.name} ended early: {self._stderr.read_text().strip()}")
            time.sleep(0.02)
        raise StageFailedError(f"{self.name} does not listen")


def source(work: Path, *arguments: object, expect: int | None = 0) -> Stage:
    """Run one ``ecan-source`` command to its end."""
    return Command(work, "ecan-source", *arguments).wait(expect=expect)


def target(work: Path, *arguments: object, expect: int | None = 0) -> Stage:
    """Run one ``ecan-target`` command to its end."""
    return Command(work, "ecan-target", *arguments).wait(expect=expect)


@dataclass(frozen=True, kw_only=True)
class Keys:
    """The keys of both sites and the source's fingerprint, as its operator reads it out."""

    source: Path
    target: Path
    fingerprint: str


def predicted_day(predictions: Path) -> Path:
    """The folder of the last day in a folder of predictions."""
    day = latest_day(predictions)
    if day is None:
        raise StageFailedError(f"nothing was predicted into {predictions}")
    return day.folder


def make_keys(work: Path) -> Keys:
    """Create the source's keys; the target makes its own with its first request."""
    made = source(work, "keys", "init", "--out", work / "source-keys")
    return Keys(source=work / "source-keys", target=work / "target-keys", fingerprint=made.stdout.strip())


def hand_over(work: Path, keys: Keys, run: Path, bundle: Path) -> list[Stage]:
    """One crossing over mutual TLS on loopback: request, export, receive, approve.

    Returns:
        The stages in the order they ended.
    """
    request = bundle.with_suffix(".request")
    requested = target(work, "request", "--keys", keys.target, "--out", request)
    exporting = Command(
        work,
        "ecan-source",
        *("export", "--model", run, "--keys", keys.source, "--request", request, "--listen", "127.0.0.1:0"),
    )
    received = target(
        work,
        *("receive", "--keys", keys.target, "--from", f"127.0.0.1:{exporting.port()}"),
        *("--trust", keys.fingerprint, "--out", bundle),
    )
    exported = exporting.wait()
    approval = ("--by", "a benchmark", "--purpose", "research")
    approved = target(work, "approve", "--bundle", bundle, "--keys", keys.target, *approval)
    return [requested, received, exported, approved]
