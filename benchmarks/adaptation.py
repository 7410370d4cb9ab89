"""How long adaptation takes, and that an epoch's time and memory are linear in the number of utterances.

Adapts the default network to random statistics, each case in a process of its own on one thread: 1,000 utterances by
several methods for the full number of epochs, then one epoch of the default for ever more utterances. Appends one JSON
line per case; ``--doc`` writes a table of the latest lines between its marks into docs/benchmarks.md.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from benchmarks.record import RESULTS, ROOT, record, write_section
from ecan_core.adapt import AdaptSettings
from ecan_core.data.inputs import StatisticsInputs
from ecan_core.methods import METHODS
from ecan_core.model.architectures import ARCHITECTURES, build_network
from ecan_core.seeding import one_thread

INPUT_DIM, NUM_CLASSES = 423, 6
FULL_RUN, FULL_RUN_BAR_S = 1_000, 10.0
FULL_RUN_METHODS = ("ecan", "shot-im", "aad")
SIZES = (1_000, 3_000, 10_000, 30_000, 100_000, 1_000_000)
BLOCK = 10_000
RESULTS_FILE = RESULTS / "adaptation.jsonl"
LIMIT_S, LIMIT_BYTES = 600, 16 * 2**30
"""What one case may take; beyond it is stopped and recorded as such."""


def main() -> None:
    arguments = parse()
    if arguments.case:
        print(json.dumps(measure(*arguments.case)))
        return
    if not arguments.table:
        for case in cases(arguments.up_to):
            record(RESULTS_FILE, run_alone(*case))
    if arguments.doc or arguments.table:
        write_section(ROOT / "docs" / "benchmarks.md", "adaptation", table())


def cases(up_to: int) -> list[tuple[str, int, int]]:
    """Method, number of utterances and of epochs of every measurement."""
    full_runs = [(method, FULL_RUN, AdaptSettings().epochs) for method in FULL_RUN_METHODS]
    return full_runs + [("ecan", size, 1) for size in SIZES if size <= up_to]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--up-to", type=int, default=SIZES[-1], help="largest number of utterances")
    parser.add_argument("--doc", action="store_true", help="write the table into docs/benchmarks.md")
    parser.add_argument("--table", action="store_true", help="only write the table, of results that are there")
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    return parser.parse_args()


def run_alone(method: str, utterances: int, epochs: int) -> dict[str, Any]:
    """Measure a case in a process of its own, whose peak memory is then the case's."""
    case = {"method": method, "utterances": utterances, "epochs": epochs}
    command = [sys.executable, "-m", "benchmarks.adaptation", "--case", json.dumps(list(case.values()))]
    try:
        done = subprocess.run(
            command, cwd=ROOT, stdout=subprocess.PIPE, check=False, timeout=LIMIT_S, preexec_fn=bound_memory
        )
    except subprocess.TimeoutExpired:
        return {**case, "stopped": f"after {LIMIT_S} s"}
    if done.returncode != 0:
        return {**case, "stopped": f"with exit code {done.returncode}, at most {LIMIT_BYTES >> 30} GiB allowed"}
    return {**case, **json.loads(done.stdout)}


def bound_memory() -> None:
    """Let this process have no more than ``LIMIT_BYTES`` of address space."""
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))


def measure(method: str, utterances: int, epochs: int) -> dict[str, Any]:
    """Time one adaptation and take this process's peak memory.

    Torch loads its optimizers when the first is made: a small adaptation before does that, timed by itself.
    """
    one_thread()
    settings = replace(AdaptSettings(), epochs=epochs)
    first, _ = timed(method, StatisticsInputs(statistics(settings.batch_size)), replace(settings, epochs=1))
    wall, busy = timed(method, StatisticsInputs(statistics(utterances)), settings)
    return {
        "wall_s": round(wall, 2),
        "cpu_s": round(busy, 2),
        "first_s": round(first, 2),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        "input_mib": 4 * utterances * INPUT_DIM >> 20,
        "candidates": settings.candidates,
        "torch": torch.__version__,
    }


def timed(method: str, inputs: StatisticsInputs, settings: AdaptSettings) -> tuple[float, float]:
    """Seconds and CPU seconds that it takes to adapt a fresh network."""
    network = build_network(
        ARCHITECTURES["mlp"], input_dim=INPUT_DIM, num_classes=NUM_CLASSES, normalization="corpus", seed=0
    )
    started, busy = time.perf_counter(), time.process_time()
    METHODS[method](network, inputs, settings, seed=0)
    return time.perf_counter() - started, time.process_time() - busy


def statistics(utterances: int) -> np.ndarray:
    """Normal numbers ``[N, 423]`` around one center per class, made block by block."""
    draw = np.random.default_rng(0)
    centers = draw.standard_normal((NUM_CLASSES, INPUT_DIM), dtype=np.float32)
    values = np.empty((utterances, INPUT_DIM), dtype=np.float32)
    for start in range(0, utterances, BLOCK):
        block = values[start : start + BLOCK]
        draw.standard_normal(out=block, dtype=np.float32)
        block += centers[draw.integers(NUM_CLASSES, size=len(block))]
    return values


def table() -> str:
    """The latest line of every case that was measured."""
    lines = [json.loads(line) for line in RESULTS_FILE.read_text().splitlines()]
    latest = {(line["method"], line["utterances"], line["epochs"]): line for line in lines}
    rows = [
        "| method | utterances | epochs | seconds | CPU seconds | CPU ms per utterance, epoch | peak MiB | inputs MiB |"
    ]
    rows += ["|---|---:|---:|---:|---:|---:|---:|---:|"]
    rows += [row(latest[case]) for case in cases(SIZES[-1]) if case in latest]
    last = next(line for line in reversed(lines) if "stopped" not in line)
    return "\n".join(rows) + (
        f"\n\nRandom statistics of {INPUT_DIM} columns, {NUM_CLASSES} classes, one thread; time and peak memory of the "
        f"process that adapts, from inputs in memory, after a small one that makes torch load its optimizers (last: "
        f"{last['first_s']:.1f} s). The bar for {FULL_RUN} utterances is {FULL_RUN_BAR_S:.0f} seconds. From "
        f"{AdaptSettings().candidates} utterances on, neighbors are searched among as many. "
        f"Commit {last['commit']}, {last['day']}, {last['machine']}."
    )


def row(line: dict[str, Any]) -> str:
    start = f"| {line['method']} | {line['utterances']} | {line['epochs']} |"
    if "stopped" in line:
        return f"{start} stopped {line['stopped']} | | | | |"
    share = 1000 * line["cpu_s"] / (line["utterances"] * line["epochs"])
    return (
        f"{start} {line['wall_s']:.1f} | {line['cpu_s']:.1f} | {share:.3f} | {line['peak_mib']} | {line['input_mib']} |"
    )


if __name__ == "__main__":
    main()
