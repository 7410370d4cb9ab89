"""Flower, kept from calling anybody whom it was not told of."""

import subprocess
import sys
from pathlib import Path

import pytest

from protocol.federation.quiet import QUIET

pytest.importorskip("flwr")
ROOT = Path(__file__).resolve().parents[3]
TALKATIVE = dict.fromkeys(QUIET, "1") | {"FLWR_DISABLE_UPDATE_CHECK": "0"}
KEPT = """
import os
from pathlib import Path
from protocol.federation.quiet import QUIET, keep_quiet, require_quiet
{first}
keep_quiet(Path({home!r}))
require_quiet()
assert {{name: os.environ[name] for name in QUIET}} == QUIET
from flwr.supercore import telemetry
print(telemetry.FLWR_TELEMETRY_ENABLED)
"""


def tried(home: Path, first: str = "") -> subprocess.CompletedProcess[str]:
    """Use Flower in a process whose environment asks for telemetry."""
    code = KEPT.format(first=first, home=str(home))
    environment = {**TALKATIVE, "PATH": "/usr/bin:/bin", "HOME": str(home)}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )


def test_telemetry_is_off_whatever_the_environment_says(tmp_path):
    done = tried(tmp_path)
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr


def test_where_it_cannot_be_switched_off_any_more_nothing_is_done(tmp_path):
    done = tried(tmp_path, first="from flwr.supercore import telemetry")
    assert done.returncode == 1
    assert "Flower's telemetry is not off" in done.stderr
