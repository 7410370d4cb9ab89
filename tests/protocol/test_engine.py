"""How a command ends that runs a process of Flower's engine."""

import signal
import subprocess
import sys
from pathlib import Path

COMMAND = """
import sys
from pathlib import Path
import click
from ecan_core.console import run
from protocol.engine import engine_process

@click.command()
def wait():
    with engine_process(["sleep", "60"], Path(sys.argv[1])) as process:
        print(process.pid, flush=True)
        process.wait()

run(wait, prog_name="ecan-test", error_types=(), args=[])
"""


def test_a_stop_from_outside_ends_with_143_one_sentence_and_nothing_left_running(tmp_path):
    command = [sys.executable, "-c", COMMAND, tmp_path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        child = int(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 143
    assert said == "error: ended from outside; run the same command again when it is wanted.\n"
    assert not Path(f"/proc/{child}").exists()
