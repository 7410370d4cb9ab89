import subprocess
import sys
import time

import numpy as np
import pytest

from benchmarks.memory import MemoryWatch

HOLD = "import sys, time; held = bytearray(b'x') * (%d << 20); print('held', flush=True); sys.stdin.read()"
SHARE = """
import os, sys
held = bytearray(b'x') * (100 << 20)
children = []
for _ in range(3):
    child = os.fork()
    if not child:
        sys.stdin.read()
        os._exit(0)
    children.append(child)
print('held', flush=True)
sys.stdin.read()
"""


def watched(program: str) -> float:
    """What a program held that says when it holds it, and ends with its input."""
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        watch = MemoryWatch(process.pid)
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        time.sleep(0.5)
        return watch.stop()


@pytest.mark.parametrize("mib", [20, 120])
def test_what_a_program_holds_is_seen(mib):
    assert mib < watched(HOLD % mib) < mib + 30


def test_what_the_watcher_holds_is_not_the_programs():
    held = np.ones(30 << 20)
    assert watched(HOLD % 1) < 40
    assert held.nbytes > 200 << 20


def test_pages_that_processes_share_count_once():
    assert 100 < watched(SHARE) < 150


def test_children_count_with_their_parent():
    inner = HOLD % 100
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    assert 100 < watched(outer) < 150
