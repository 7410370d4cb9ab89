"""Pooled, federated, alone: one network for several source sites, tested on a corpus that none of them has.

Each corpus in turn is left out; each of the others is shared out among sites by speakers. The federated rows run the
product with all sites in one process. Appends JSON lines to ``--out``; ``--table`` writes the table
of docs/federation.md. Labels of the corpus that is left out are opened by the measurement alone.
"""

import argparse
import csv
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.record import RESULTS, ROOT, record, write_section
from benchmarks.tables import distinct, markdown, mean, over_seeds, pick, provenance, read_lines, written
from ecan_core.command_line.console import Narrator
from ecan_core.model.network import Network
from ecan_core.model.predict import predict_scores
from ecan_core.model.weights import load_arrays
from ecan_core.runtime.seeding import one_thread
from ecan_core.training.metrics import confusion, uar
from source_site.federation.member import speech_of
from source_site.federation.orders import Site
from source_site.federation.plan import ConsortiumPlan, fresh_network
from source_site.federation.trial import federate_here
from source_site.training.material import Material, Recipe, fit_network, read_material

CORPORA = ("emodb", "ravdess", "nemo")
CLASSES = ("anger", "fear", "happiness", "neutral", "sadness")
PLAN = ConsortiumPlan(classes=CLASSES, estimate=False)
PLANS = {
    "federated, FedAvg": replace(PLAN, strategy="fedavg"),
    "federated, FedProx": PLAN,
    "federated, FedProx, masked": replace(PLAN, secure=True, min_sites=3),
    "federated, epsilon 8": replace(PLAN, epsilon=8.0),
    "federated, epsilon 2": replace(PLAN, epsilon=2.0),
}
"""What federated rows are trained by."""
POOLED, ALONE = "pooled", "best single site"
"""The others. The best site is chosen by the corpus that is left out: no site could know it is the best."""


def main() -> None:
    arguments = parse()
    if arguments.table:
        write_section(ROOT / "docs" / "federation.md", "federation", table(read_lines(arguments.out)))
        return
    one_thread()
    arguments.out.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        caches = arguments.cache or Path(folder)
        for seed in range(arguments.seeds):
            for left_out in CORPORA:
                test = material([arguments.corpora / left_out / "labels.csv"], caches)
                for per_corpus in (1, 2):
                    others = [name for name in CORPORA if name != left_out]
                    sites = [
                        listing
                        for name in others
                        for listing in shares(arguments.corpora / name / "labels.csv", per_corpus, Path(folder))
                    ]
                    for name, networks in trained(sites, caches, seed, per_corpus, arguments.only):
                        began = time.monotonic()
                        rates = [rate(network, test) for network in networks()]
                        row = {"model": name, "sites": len(sites), "left_out": left_out, "seed": seed}
                        record(arguments.out, row | {"uar": max(rates), "seconds": round(time.monotonic() - began, 1)})


def trained(
    sites: Sequence[Path], caches: Path, seed: int, per_corpus: int, only: str
) -> Iterator[tuple[str, Callable[[], list[Network]]]]:
    """Every model by its name, and how to train it."""
    if per_corpus == 1:
        yield POOLED, lambda: [fit(material(sites, caches), seed)]
    yield ALONE, lambda: [fit(material([site], caches), seed) for site in sites]
    for name, plan in PLANS.items():
        if only in name and len(sites) >= plan.min_sites:
            yield name, partial(one_network, replace(plan, seed=seed), sites, caches)


def one_network(plan: ConsortiumPlan, sites: Sequence[Path], caches: Path) -> list[Network]:
    return [network_of(plan, sites, caches)]


def network_of(plan: ConsortiumPlan, sites: Sequence[Path], caches: Path) -> Network:
    cache = caches / "federation.cache"
    described = [Site(recipe="csv", path=site, cache=cache, speech=speech_of("csv", site)) for site in sites]
    outcome = federate_here(described, plan)
    network = fresh_network(plan, len(CLASSES)).eval()
    load_arrays(network, outcome.arrays)
    return network


def fit(pooled: Material, seed: int) -> Network:
    return fit_network(pooled, np.arange(len(pooled)), Recipe(), seed=seed).eval()


def rate(network: Network, test: Material) -> float:
    with torch.no_grad():
        predicted = predict_scores(network.eval(), test.inputs()).argmax(axis=1)
    return round(uar(confusion(test.labels, predicted, len(CLASSES))), 4)


def material(listings: Sequence[Path], caches: Path) -> Material:
    return read_material(
        [("csv", listing) for listing in listings],
        classes=CLASSES,
        normalization="speaker",
        encoder="mlp",
        cache_path=caches / "federation.cache",
        narrator=Narrator(quiet=True),
    )


def shares(labels: Path, count: int, folder: Path) -> list[Path]:
    """Share a corpus out among sites by speakers, each to one; returns their lists."""
    with labels.open() as file:
        rows = list(csv.DictReader(file))
    speakers = sorted({row["speaker"] for row in rows})
    listings = []
    for site in range(count):
        listing = folder / f"{labels.parent.name}-{site}of{count}.csv"
        lines = [
            f"{labels.parent.resolve() / row['path']},{row['label']},{row['speaker']}\n"
            for row in rows
            if speakers.index(row["speaker"]) % count == site
        ]
        listing.write_text("file,label,speaker\n" + "".join(lines))
        listings.append(listing)
    return listings


def table(lines: list[dict[str, object]]) -> str:
    rows = []
    pooled = mean(pick(lines, model=POOLED), "uar")
    for model in (POOLED, *PLANS, ALONE):
        for sites in sorted(distinct(pick(lines, model=model), "sites")):
            here = pick(lines, model=model, sites=sites)
            rates = [f"{mean(pick(here, left_out=name), 'uar'):.1f}" for name in CORPORA]
            overall = written(*over_seeds(here, "uar"))
            difference = f"{mean(here, 'uar') - pooled:+.1f}"
            rows.append([model, str(sites) if model != POOLED else "-", *rates, overall, difference])
    head = ["model", "sites", *(f"→ {name}" for name in CORPORA), "mean (95 %)", "against pooled"]
    note = (
        "UAR in % on the corpus that was left out, without adaptation, five classes. Two sites: a corpus each. Four: "
        "each corpus shared out by speakers. The best single site is chosen by the result. The interval is Student's "
        f"over the seeds' means. `make bench-federation`, {provenance(lines)}"
    )
    return f"{markdown(head, rows, words=2)}\n\n{note}"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpora", type=Path, default=ROOT.parent / "shared" / "corpora")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cache", type=Path, help="folder that keeps features between runs")
    parser.add_argument("--only", default="", help="federated rows whose name holds this")
    parser.add_argument("--table", action="store_true", help="write the table of docs/federation.md")
    parser.add_argument("--out", type=Path, default=RESULTS / "federation.jsonl")
    return parser.parse_args()


if __name__ == "__main__":
    main()
