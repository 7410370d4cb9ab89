"""Every ordered pair of corpora through the real command lines: train, export, receive, adapt, evaluate.

Writes one JSON line per evaluated model and, with ``--table``, the table of the README from such lines. Settings are
the product's defaults for all pairs; the last epoch counts; target labels are opened by ``evaluate`` alone.
"""

import argparse
import json
import math
import statistics
import sys
import tempfile
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

from benchmarks.crossing import Keys, hand_over, make_keys, source, target
from benchmarks.record import ROOT, circumstances, write_section

CLASSES = {
    frozenset({"emodb", "nemo"}): "anger,fear,happiness,neutral,sadness",
    frozenset({"emodb", "ravdess"}): "anger,fear,happiness,neutral,sadness",
    frozenset({"ravdess", "nemo"}): "anger,fear,happiness,neutral,sadness,surprise",
}
METHODS = ("ecan", "shot-im", "aad")
NORMALIZATIONS = ("speaker", "corpus")


def main() -> None:
    arguments = parse()
    if arguments.table:
        lines = [json.loads(line) for line in arguments.out.read_text().splitlines()]
        write_section(ROOT / "README.md", "pairs", table(lines))
        return
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    jobs = [
        (pair, normalization, seed)
        for seed in range(arguments.seeds)
        for normalization in NORMALIZATIONS
        for pair in permutations(("emodb", "ravdess", "nemo"), 2)
    ]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(arguments.workers) as pool:
        work = Path(folder)
        keys = make_keys(work)
        warm_caches(work, arguments.corpora)
        done = pool.map(lambda job: run_job(work, keys, arguments.corpora, *job), jobs)
        with arguments.out.open("w") as out:
            for number, rows in enumerate(done, start=1):
                for row in rows:
                    out.write(json.dumps(row) + "\n")
                out.flush()
                print(f"{number}/{len(jobs)} {rows[0]['pair']} {rows[0]['normalization']}", file=sys.stderr)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpora", type=Path, default=ROOT.parent / "shared" / "corpora")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2, help="pairs that run at the same time")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "pairs.jsonl")
    parser.add_argument("--table", action="store_true", help="only rewrite the table of the README from --out")
    return parser.parse_args()


def warm_caches(work: Path, corpora: Path) -> None:
    """Compute the features of every corpus once; each run then finds them in its cache."""
    for name in ("emodb", "ravdess", "nemo"):
        out = work / f"warm-{name}"
        config = work / "short.yaml"
        config.write_text("epochs: 1\n")
        source(
            work,
            *("train", "--corpus", f"csv={corpora / name / 'labels.csv'}", "--config", config),
            *("--cache", work / f"{name}.cache", "--out", out),
        )


def run_job(
    work: Path, keys: Keys, corpora: Path, pair: tuple[str, str], normalization: str, seed: int
) -> list[dict[str, Any]]:
    """One crossing and the evaluation of every method on it."""
    name = f"{pair[0]}-{pair[1]}-{normalization}-{seed}"
    run, bundle = work / f"run-{name}", work / f"{name}.ecan"
    labels = corpora / pair[1] / "labels.csv"
    stages = [
        source(
            work,
            *("train", "--corpus", f"csv={corpora / pair[0] / 'labels.csv'}", "--classes", CLASSES[frozenset(pair)]),
            *("--normalize", normalization, "--seed", seed, "--cache", work / f"{pair[0]}.cache", "--out", run),
        )
    ]
    # Every job is a target site of its own.
    stages += hand_over(work, replace(keys, target=work / f"keys-{name}"), run, bundle)
    audio = without_other_classes(work / f"{name}.csv", labels, CLASSES[frozenset(pair)].split(","))
    rows = []
    for method in METHODS:
        adapted = work / f"{name}-{method}"
        cache = work / f"{pair[1]}.cache"
        adaptation = target(
            work,
            *("adapt", "--bundle", bundle, "--audio", audio, "--normalize", normalization, "--method", method),
            *("--seed", seed, "--cache", cache, "--out", adapted),
            expect=None,
        )
        figures = target(
            work, "evaluate", "--model", adapted, "--labels", labels, "--cache", cache, "--format", "json"
        ).json()
        common = {"pair": "-".join(pair), "normalization": normalization, "seed": seed, **circumstances()}
        if method == METHODS[0]:
            rows.append({**common, "method": "none", **brief(figures["before"]), "bundle_bytes": bundle.stat().st_size})
        rows.append({**common, "method": method, "exit": adaptation.code, **brief(figures)})
    rows[-1]["stages"] = {stage.name: [round(stage.wall_s, 2), round(stage.peak_mib)] for stage in stages}
    return rows


def without_other_classes(listing: Path, labels: Path, classes: list[str]) -> Path:
    """A target list of the utterances whose class the pair shares, **without** their labels.

    The task is closed-set, as in the literature: which utterances take part is part of the task.
    """
    header, *lines = labels.read_text().splitlines()
    columns = header.split(",")
    path, label, speaker = (columns.index(name) for name in ("path", "label", "speaker"))
    rows = ["file,speaker"]
    for fields in (line.split(",") for line in lines):
        if fields[label] in classes:
            rows.append(f"{labels.parent.resolve() / fields[path]},{fields[speaker]}")
    listing.write_text("\n".join(rows) + "\n")
    return listing


def brief(figures: dict[str, Any]) -> dict[str, Any]:
    return {key: figures[key] for key in ("uar", "war", "n", "uar_interval")}


def table(lines: list[dict[str, Any]]) -> str:
    """UAR per method and pair: mean over seeds; the last column with its 95 % interval over pairs and seeds."""
    cells: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        cells[line["normalization"], line["method"]][line["pair"]].append(100 * line["uar"])
    pairs = list(dict.fromkeys(line["pair"] for line in lines))
    head = ["normalized by", "method", *(pair.replace("-", " → ") for pair in pairs), "mean (95 %)"]
    rows = [head, ["---"] * 2 + ["---:"] * (len(pairs) + 1)]
    for normalization in NORMALIZATIONS:
        for method in ("none", *METHODS):
            by_pair = cells[normalization, method]
            means = [statistics.fmean(by_pair[pair]) for pair in pairs]
            name = {"none": "no adaptation", "ecan": "**ECAN** (default)", "shot-im": "SHOT-IM", "aad": "AaD"}[method]
            rows.append([normalization, name, *(f"{mean:.1f}" for mean in means), interval(by_pair)])
    seeds = len({line["seed"] for line in lines})
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + (
        f"\n\n{seeds} seeds, last epoch, one setting for all pairs; UAR in %, mean over seeds per pair. The interval "
        f"is Student's over the {seeds} seeds' means of the six pairs: it says how much the seed matters, not how much "
        f"another corpus would. `make bench`, commit {lines[0]['commit']}, {lines[0]['day']}, {lines[0]['machine']}."
    )


def interval(by_pair: dict[str, list[float]]) -> str:
    """Mean over pairs and seeds with Student's 95 % interval over the seeds."""
    by_seed = [statistics.fmean(values) for values in zip(*by_pair.values(), strict=True)]
    mean = statistics.fmean(by_seed)
    if len(by_seed) < 2:
        return f"{mean:.1f}"
    quantile = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}.get(len(by_seed), 2.0)
    return f"**{mean:.1f}** ± {quantile * statistics.stdev(by_seed) / math.sqrt(len(by_seed)):.1f}"


if __name__ == "__main__":
    main()
