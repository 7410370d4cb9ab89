"""How long adaptation takes, and that an epoch's time and memory are linear in the number of utterances.

Random statistics, each case in a process of its own on one thread: the product with all its rounds, members and epochs
on 1,000 utterances; one epoch of one network for ever more utterances; the search for voices. Appends one JSON line per
case; ``--doc`` writes a table of the last run's lines between its marks into docs/benchmarks.md.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.record import RESULTS, ROOT, record, write_section
from benchmarks.tables import NAMES, markdown
from ecan_core.adaptation.registry import METHODS
from ecan_core.adaptation.settings import DEFAULT_METHOD, AdaptSettings, members_of
from ecan_core.adaptation.site import adapt_site, num_epochs
from ecan_core.audio.frontend import FRONT_ENDS
from ecan_core.data.inputs import StatisticsInputs
from ecan_core.model.architectures import ARCHITECTURES, build_network
from ecan_core.model.network import Network
from ecan_core.normalization.voices import find_voices, voice_columns
from ecan_core.runtime.seeding import one_thread

ARCHITECTURE, NUM_CLASSES = ARCHITECTURES["mlp"], 6
FRONT_END = FRONT_ENDS[ARCHITECTURE.front_end]
PRODUCTS = {"product by voice": "voice", "product by corpus": "corpus"}
"""The default method by how the site normalizes; nobody knows who speaks."""
VOICES = "finding voices"
FULL_RUN, FULL_RUN_BAR_S = 1_000, 10.0
SIZES = (1_000, 3_000, 10_000, 30_000, 100_000)
SINGLE_METHODS = ("ecan", "shot-im", "cowa")
CASES = (
    *((work, FULL_RUN) for work in PRODUCTS),
    *((method, size) for method in SINGLE_METHODS for size in SIZES),
    ("ecan", 1_000_000),
    *((VOICES, size) for size in SIZES),
)
"""What is measured, on how many utterances."""
BLOCK = 10_000
RESULTS_FILE = RESULTS / "adaptation.jsonl"
LIMIT_S, LIMIT_BYTES = 900, 16 * 2**30
"""What one case may take, in time and address space; beyond it is stopped and recorded as such."""


class Case(NamedTuple):
    """One of ``PRODUCTS``, ``METHODS`` or ``VOICES``, and a number of utterances."""

    work: str
    utterances: int


def main() -> None:
    arguments = parse()
    if arguments.case:
        print(json.dumps(measure(Case(*arguments.case))))
        return
    if not arguments.table:
        for case in cases(arguments.up_to):
            record(RESULTS_FILE, run_alone(case))
    if arguments.doc or arguments.table:
        write_section(ROOT / "docs" / "benchmarks.md", "adaptation", table())


def cases(up_to: int) -> list[Case]:
    """Every measurement of at most so many utterances."""
    return [Case(work, size) for work, size in CASES if size <= up_to]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--up-to", type=int, default=max(size for _, size in CASES), help="largest number of utterances"
    )
    parser.add_argument("--doc", action="store_true", help="write the table into docs/benchmarks.md")
    parser.add_argument("--table", action="store_true", help="only write the table, of results that are there")
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    return parser.parse_args()


def run_alone(case: Case) -> dict[str, Any]:
    """Measure a case in a process of its own, whose peak memory is then the case's."""
    row = case._asdict()
    command = [sys.executable, "-m", "benchmarks.adaptation", "--case", json.dumps(case)]
    try:
        done = subprocess.run(
            command, cwd=ROOT, stdout=subprocess.PIPE, check=False, timeout=LIMIT_S, preexec_fn=bound_memory
        )
    except subprocess.TimeoutExpired:
        return {**row, "stopped": f"after {LIMIT_S} s"}
    if done.returncode != 0:
        return {**row, "stopped": f"with exit code {done.returncode}, at most {LIMIT_BYTES >> 30} GiB allowed"}
    return {**row, **json.loads(done.stdout)}


def bound_memory() -> None:
    """Let this process have no more than ``LIMIT_BYTES`` of address space."""
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))


def measure(case: Case) -> dict[str, Any]:
    """Time one case and take this process's peak memory.

    Torch loads its optimizers when the first is made, and so does scipy its clustering: a small case before does that,
    timed by itself.
    """
    one_thread()
    settings = AdaptSettings()
    first, _ = timed(case._replace(utterances=settings.batch_size), replace(settings, epochs=1))
    settings = settings if case.work in PRODUCTS else replace(settings, epochs=1)
    wall, busy = timed(case, settings)
    return {
        "epochs": epochs_of(case, settings),
        "wall_s": round(wall, 2),
        "cpu_s": round(busy, 2),
        "first_s": round(first, 2),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        "input_mib": 4 * case.utterances * FRONT_END.dim >> 20,
        "candidates": settings.candidates,
        "torch": torch.__version__,
    }


def epochs_of(case: Case, settings: AdaptSettings) -> int | None:
    """Epochs of all rounds and members together; None where nothing is trained."""
    if case.work == VOICES:
        return None
    if case.work in PRODUCTS:
        return num_epochs(PRODUCTS[case.work], case.utterances, members_of(DEFAULT_METHOD), settings)
    return settings.epochs


def timed(case: Case, settings: AdaptSettings) -> tuple[float, float]:
    """Seconds and CPU seconds of a case, from its statistics in memory."""
    values = statistics(case.utterances)
    scores = np.random.default_rng(1).dirichlet(np.ones(NUM_CLASSES), size=len(values)).astype(np.float32)
    started, busy = time.perf_counter(), time.process_time()
    if case.work in PRODUCTS:
        adapt_site(
            fresh_network,
            list(values),
            [None] * len(values),
            FRONT_END.feature_names,
            mode=PRODUCTS[case.work],
            methods=members_of(DEFAULT_METHOD),
            settings=settings,
            seed=0,
        )
    elif case.work == VOICES:
        find_voices(values, scores, voice_columns(FRONT_END.feature_names), seed=0).names(values, scores)
    else:
        METHODS[case.work](fresh_network(), StatisticsInputs(values), settings, seed=0)
    return time.perf_counter() - started, time.process_time() - busy


def fresh_network() -> Network:
    """The default network, not trained."""
    return build_network(ARCHITECTURE, input_dim=FRONT_END.dim, num_classes=NUM_CLASSES, normalization="corpus", seed=0)


def statistics(utterances: int) -> np.ndarray:
    """Normal numbers ``[N, S]`` around one center per class, made block by block."""
    draw = np.random.default_rng(0)
    centers = draw.standard_normal((NUM_CLASSES, FRONT_END.dim), dtype=np.float32)
    values = np.empty((utterances, FRONT_END.dim), dtype=np.float32)
    for start in range(0, utterances, BLOCK):
        block = values[start : start + BLOCK]
        draw.standard_normal(out=block, dtype=np.float32)
        block += centers[draw.integers(NUM_CLASSES, size=len(block))]
    return values


def table() -> str:
    """The latest line of every case that was measured at the last line's commit."""
    lines = [json.loads(line) for line in RESULTS_FILE.read_text().splitlines()]
    last = lines[-1]
    latest = {
        Case(line["work"], line["utterances"]): line
        for line in lines
        if line["commit"] == last["commit"] and "work" in line
    }
    head = ["", "utterances", "epochs", "seconds", "CPU seconds", "CPU ms per utterance, epoch", "peak MiB"]
    rows = [cells(latest[Case(*case)]) for case in CASES if Case(*case) in latest]
    return markdown([*head, "inputs MiB"], rows, words=1) + (
        f"\n\nRandom statistics of {FRONT_END.dim} columns, {NUM_CLASSES} classes, one thread; time and peak memory of "
        "the process that adapts, from inputs in memory, after a small case that makes torch and scipy load what they "
        f"load late. The product is a committee of {members()} that nobody told who speaks; its epochs are those of "
        f"all rounds and members together, and the bar for {FULL_RUN:,} utterances is {FULL_RUN_BAR_S:.0f} seconds. "
        "The others are one epoch of one network. Growth is linear where CPU per utterance and epoch stays the same as "
        f"utterances grow: from {AdaptSettings().candidates} on, ECAN searches neighbors among as many, and the number "
        f"of voices has reached its cap. Commit {last['commit']}, {last['day']}, {last['machine']}."
    )


def members() -> str:
    """The methods of the product's committee, by name."""
    return ", ".join(NAMES[method] for method in members_of(DEFAULT_METHOD))


def cells(line: dict[str, Any]) -> list[str]:
    """One row of the table."""
    start = [NAMES.get(line["work"], line["work"]), f"{line['utterances']:,}"]
    if "stopped" in line:
        return [*start, "", f"stopped {line['stopped']}", "", "", "", ""]
    share = 1000 * line["cpu_s"] / (line["utterances"] * (line["epochs"] or 1))
    epochs = "-" if line["epochs"] is None else str(line["epochs"])
    measured = [f"{line['wall_s']:.1f}", f"{line['cpu_s']:.1f}", f"{share:.3f}"]
    return [*start, epochs, *measured, str(line["peak_mib"]), str(line["input_mib"])]


if __name__ == "__main__":
    main()
