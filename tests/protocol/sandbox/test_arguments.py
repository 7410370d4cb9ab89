"""The command line that every user of the machine can read."""

import subprocess
import sys
from pathlib import Path

import pytest

from protocol.sandbox.landlock import landlock_abi
from tests.protocol.sandbox.behind_walls import PRELUDE, ROOT

pytestmark = pytest.mark.skipif(landlock_abi() == 0, reason="this kernel has no Landlock")
SHOWING = """
from protocol.sandbox.arguments import hide_arguments
words = ctypes.cast(ctypes.c_char_p.in_dll(ctypes.CDLL(None), "program_invocation_name"), ctypes.c_void_p)
def show(): ctypes.memmove(words, b"LEAKED", 6)
def say(word): print(word, flush=True); sys.stdin.readline()
"""


def seen(code: str, place: Path) -> list[bytes]:
    """Return what others read of a process whenever it says something."""
    with subprocess.Popen(
        [sys.executable, "-c", PRELUDE + SHOWING + code, str(place)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        found = []
        for word in process.stdout:
            who = int(word) if word.strip().isdigit() else process.pid
            found.append(Path(f"/proc/{who}/cmdline").read_bytes()[:6])
            process.stdin.write("\n")
            process.stdin.flush()
    assert process.returncode == 0
    return found


def test_what_is_written_into_it_is_seen_before_and_nothing_afterwards(place):
    code = "show(); say('before'); hide_arguments() or say('no'); show(); say('after')"
    assert seen(code, place) == [b"LEAKED", b""]


def test_it_stays_hidden_behind_the_walls_and_in_forks(place):
    code = """
confine(network=Network.NONE, **folders)
show(); say('after'); say(hide_arguments())
if os.fork() == 0:
    show(); say(os.getpid()); os._exit(0)
os.wait()
"""
    assert seen(code, place) == [b""] * 3
