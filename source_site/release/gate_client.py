"""Start the gate, hand it a model, read its answer."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from threading import Timer

from protocol.bundle.egress import EgressError
from protocol.errors import Code, ProtocolError, TimedOutError
from source_site.release.gate import DAMAGED, EGRESS, FAULTS, MAX_ANSWER_BYTES, SEALED, Answer, Task
from source_site.training.run_folder import damaged_run

GATE_TIMEOUT_S = 60.0


def run_gate(task: Task, run_dir: Path, *, timeout_s: float = GATE_TIMEOUT_S) -> Answer:
    """Have the gate seal a bundle in a process of its own.

    It shares nothing with this one but two pipes.

    Args:
        task: what it is to do.
        run_dir: where the weights are from, for messages.
        timeout_s: how long it may take.

    Returns:
        The bundle, plain and sealed; nothing about it is believed yet.

    Raises:
        EgressError: the model breaks a rule; all are listed.
        ModelError: the weights are damaged.
        TimedOutError: the gate took too long.
        ProtocolError: whatever else the gate says.
    """
    said = _talk_to_gate(task.to_bytes(), timeout_s)
    try:
        answer = Answer.from_bytes(said)
    except (ProtocolError, ValueError) as error:
        raise failed_gate() from error
    if answer.kind == SEALED:
        return answer
    if answer.kind == EGRESS:
        raise EgressError(answer.violations)
    if answer.kind == DAMAGED:
        raise damaged_run(run_dir, "the weights are not what a training writes")
    for fault in FAULTS:
        if answer.kind == fault.__name__ and answer.code and answer.message:
            raise fault(Code(answer.code), answer.message)
    raise failed_gate()


def _talk_to_gate(frame: bytes, timeout_s: float) -> bytes:
    """Start a gate, write one frame and read one of bounded length."""
    gate = subprocess.Popen(
        [sys.executable, "-I", "-m", "source_site.release.gate"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
        # One thread, so that the walls hold for all of it; and nothing else of this process's surroundings.
        env={"PATH": os.defpath, "LANG": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
    )
    timer = Timer(timeout_s, gate.kill)
    timer.start()
    assert gate.stdin is not None
    assert gate.stdout is not None
    try:
        with contextlib.suppress(BrokenPipeError), gate.stdin:  # it reads all before it writes, or has ended
            gate.stdin.write(frame)
        with gate.stdout:
            return gate.stdout.read(MAX_ANSWER_BYTES + 1)
    finally:
        in_time = timer.is_alive()
        timer.cancel()
        gate.kill()
        gate.wait()
        if not in_time:
            raise TimedOutError(
                Code.DEADLINE, f"The gate did not answer within {timeout_s:g} s; run the command again."
            )


def failed_gate() -> ProtocolError:
    """Return the fault of a gate that gave no answer."""
    return ProtocolError(
        Code.INTERNAL, "The gate failed without a finding, and nothing was granted; report it with the model's facts."
    )
