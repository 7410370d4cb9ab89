"""Run a command line in this process and see what a person and a machine would see."""

import contextlib
import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from ecan_core.command_line.console import run
from ecan_core.errors import EcanError
from protocol.errors import ProtocolError


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str

    def json(self) -> Any:
        return json.loads(self.stdout)

    def refusal(self) -> str:
        """The one line that a refused command leaves on stderr, after what it said before."""
        assert self.code != 0
        assert "Traceback" not in self.stderr
        last = self.stderr.strip().splitlines()[-1]
        assert last.startswith("error: ")
        assert self.stderr.count("error: ") == 1
        return last.removeprefix("error: ")


def source(*words: object) -> Result:
    """Run ``ecan-source``."""
    from source_site.cli import cli

    return _run(cli, "ecan-source", words)


def target(*words: object) -> Result:
    """Run ``ecan-target``."""
    from target_site.cli import cli

    return _run(cli, "ecan-target", words)


def approve(bundle: object, keys: object) -> Result:
    """Put somebody's name to a bundle."""
    return target("approve", "--bundle", bundle, "--keys", keys, "--by", "Ada Byron", "--purpose", "research")


def site_rules(path: Path, adaptation: str = "", rules: str = "") -> Path:
    """Write a site's rules; what is adapted how stands in lines of its own."""
    lines = [f"  {line}\n" for line in adaptation.splitlines()]
    adapting = f"adaptation:\n{''.join(lines)}" if lines else ""
    path.write_text(f"purpose: research\nsubjects: volunteer\n{rules}{adapting}")
    return path


@contextlib.contextmanager
def _staying_this_process() -> Iterator[None]:
    """Keep a command from becoming another program, which would take the tests with it."""

    def refuse(*_: object) -> NoReturn:
        raise AssertionError("this command becomes another program: start it as a process of its own")

    execve = os.execve
    os.execve = refuse
    try:
        yield
    finally:
        os.execve = execve


def _run(group, program: str, words: tuple[object, ...]) -> Result:
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _staying_this_process():
        try:
            run(group, prog_name=program, error_types=(EcanError, ProtocolError), args=[str(word) for word in words])
        except SystemExit as ended:
            code = int(ended.code or 0)
    return Result(code=code, stdout=out.getvalue(), stderr=err.getvalue())
