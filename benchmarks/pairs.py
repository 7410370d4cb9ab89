"""The default method on every ordered pair through the real command lines: train, export, receive, adapt, evaluate.

Writes one JSON line per adapted model and, with ``--table``, a table for docs/benchmarks.md that sets these figures
beside those of `benchmarks/tasks.py`, which runs the same in process. Target labels are opened by ``evaluate`` alone.
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.arena import (
    PRODUCT,
    SOURCE_NORMALIZATION,
    Row,
    benchmark_parser,
    cache_folder,
    find_corpora,
    ordered_pairs,
)
from benchmarks.classes import CLASSES, without_other_classes
from benchmarks.crossing import Keys, hand_over, make_keys, source, target
from benchmarks.record import RESULTS, ROOT, circumstances, write_section
from benchmarks.tables import distinct, markdown, mean, pick, provenance, read_lines


def main() -> None:
    arguments = benchmark_parser("pairs", __doc__, seeds=1).parse_args()
    if arguments.table:
        lines, in_process = read_lines(arguments.out), read_lines(RESULTS / "tasks.jsonl")
        write_section(ROOT / "docs" / "benchmarks.md", "pairs", table(lines, in_process))
        return
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    pairs = [
        pair for pair in ordered_pairs(find_corpora(arguments.corpora), arguments.pair) if frozenset(pair) in CLASSES
    ]
    with (
        cache_folder(arguments.cache) as caches,
        tempfile.TemporaryDirectory() as folder,
        ThreadPoolExecutor(arguments.workers) as pool,
    ):
        work = Path(folder)
        settings = ["--config", short_settings(work, arguments.epochs)] if arguments.epochs else []
        rules = ["--config", short_rules(work, arguments.epochs)] if arguments.epochs else []
        keys = make_keys(work)
        warm_caches(work, caches, arguments.corpora, sorted({name for pair in pairs for name in pair}))
        jobs = [
            (pair, normalization, seed)
            for seed in range(arguments.seeds)
            for normalization in dict.fromkeys(SOURCE_NORMALIZATION.values())
            for pair in pairs
        ]
        done = pool.map(lambda job: run_job(work, keys, arguments.corpora, caches, settings, rules, *job), jobs)
        with arguments.out.open("w") as out:
            for number, rows in enumerate(done, start=1):
                out.writelines(json.dumps(row) + "\n" for row in rows)
                out.flush()
                print(f"{number}/{len(jobs)} {rows[0]['pair']} {rows[0]['normalization']}", file=sys.stderr)


def short_settings(work: Path, epochs: int) -> Path:
    """Settings of so few epochs for training."""
    config = work / f"{epochs}-epochs.yaml"
    config.write_text(f"epochs: {epochs}\n")
    return config


def short_rules(work: Path, epochs: int) -> Path:
    """A target site's rules with so few epochs."""
    config = work / f"{epochs}-epochs-site.yaml"
    config.write_text(f"purpose: research\nsubjects: volunteer\nadaptation:\n  epochs: {epochs}\n")
    return config


def warm_caches(work: Path, caches: Path, corpora: Path, names: Sequence[str]) -> None:
    """Compute the features of every corpus once; each run then finds them in its cache."""
    settings = short_settings(work, 1)
    for name in names:
        source(
            work,
            *("train", "--corpus", f"csv={corpora / name / 'labels.csv'}", "--config", settings),
            *("--cache", caches / name / "features.cache", "--out", work / f"warm-{name}"),
        )


def run_job(
    work: Path,
    keys: Keys,
    corpora: Path,
    caches: Path,
    settings: Sequence[object],
    rules: Sequence[object],
    pair: tuple[str, str],
    normalization: str,
    seed: int,
) -> list[Row]:
    """One crossing, and an adaptation for every normalization that the target may take beside it."""
    name = f"{pair[0]}-{pair[1]}-{normalization}-{seed}"
    run, bundle = work / f"run-{name}", work / f"{name}.ecan"
    labels, cache = corpora / pair[1] / "labels.csv", caches / pair[1] / "features.cache"
    classes = CLASSES[frozenset(pair)]
    stages = [
        source(
            work,
            *("train", "--corpus", f"csv={corpora / pair[0] / 'labels.csv'}", "--classes", classes),
            *(
                "--normalize",
                normalization,
                "--seed",
                seed,
                "--cache",
                caches / pair[0] / "features.cache",
                "--out",
                run,
            ),
            *settings,
        )
    ]
    # Every job is a target site of its own.
    stages += hand_over(work, replace(keys, target=work / f"keys-{name}"), run, bundle)
    audio = without_other_classes(work / f"{name}.csv", labels, classes.split(","))
    rows = []
    for mode in [mode for mode, of_source in SOURCE_NORMALIZATION.items() if of_source == normalization]:
        adapted = work / f"{name}-{mode}"
        adaptation = target(
            work,
            *("adapt", "--bundle", bundle, "--audio", audio, "--normalize", mode, "--seed", seed),
            *("--cache", cache, "--out", adapted, *rules),
            expect=None,
        )
        figures = target(
            work, "evaluate", "--model", adapted, "--labels", labels, "--cache", cache, "--format", "json"
        ).json()
        row = {"pair": "-".join(pair), "normalization": mode, "method": PRODUCT, "seed": seed}
        row |= {"exit": adaptation.code, "uar_source": figures["before"]["uar"], **brief(figures)}
        rows.append(row | {"bundle_bytes": bundle.stat().st_size, "adapt_s": round(adaptation.wall_s, 2)})
    rows[-1]["stages"] = {stage.name: [round(stage.wall_s, 2), round(stage.peak_mib)] for stage in stages}
    return [row | circumstances() for row in rows]


def brief(figures: dict[str, Any]) -> dict[str, Any]:
    return {key: figures[key] for key in ("uar", "war", "n", "uar_interval")}


def table(lines: Sequence[Row], in_process: Sequence[Row]) -> str:
    """What the command lines keep, beside what the same runs keep in process."""
    rows = []
    for normalization in SOURCE_NORMALIZATION:
        for pair in distinct(lines, "pair"):
            here = pick(lines, normalization=normalization, pair=pair)
            same = [
                twin
                for line in here
                for twin in pick(in_process, **{key: line[key] for key in ("normalization", "pair", "method", "seed")})
            ]
            cells = [f"{mean(here, 'uar_source'):.1f}", f"{mean(here, 'uar'):.1f}", "-", "-"]
            if len(same) == len(here):
                other = mean(same, "uar_selected")
                cells[2:] = [f"{other:.1f}", f"{mean(here, 'uar') - other:+.2f}"]
            rows.append([normalization, pair.replace("-", " → "), *cells])
    head = ["normalized by", "pair", "as received", "kept after adaptation", "the same in process", "difference"]
    return markdown(head, rows, words=2) + (
        f"\n\nUAR in % of the default method through the commands as separate processes. `make bench`, "
        f"{provenance(lines)}"
    )


if __name__ == "__main__":
    main()
