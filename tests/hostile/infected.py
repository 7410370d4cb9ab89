"""Code of an attacker in the contained process, as an exploit or a poisoned package would run there."""

import textwrap

from protocol.containment import launcher
from tests.support import cli

INFECTED = """
import sys
root = sys.argv[-1]
root in sys.path or sys.path.insert(0, root)
from protocol.sandbox import confine as sandbox
from protocol.sandbox import probes as wall_probes
from dataclasses import replace
from target_site.containment import contained
{before}
load = contained._load
def infected_load(command, values, quiet):
    work = load(command, values, quiet)
    def infected(containment):
        import ctypes, errno, os, resource, socket, subprocess, threading
        def outcome(attempt):
            try:
                attempt()
            except OSError as error:
                return errno.errorcode.get(error.errno, "OSError")
            return "ok"
{attack}
        return work.carry_out(containment)
    return replace(work, carry_out=infected)
contained._load = infected_load
"""


def infect(monkeypatch, attack: str = "", before: str = "") -> None:
    """Run code in the contained process: before its walls are built, and while recordings are open."""
    code = INFECTED.format(before=before, attack=textwrap.indent(textwrap.dedent(attack) or "pass", " " * 8))
    monkeypatch.setattr(launcher, "_START", f"exec({code!r})\n{launcher._START}")


def said_by_attack(result: cli.Result) -> str:
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("attack: "))
    return line.removeprefix("attack: ")
