"""ECAN taken apart: its terms one by one, certainty, the frozen head, and the rival forms of its losses.

Every variant is ECAN at the default settings but for what its name says, adapts one network, and is judged by the
product's committee, which has a row of its own. One JSON line per run; with ``--table`` the table of
docs/method.md from such lines.
"""

from collections.abc import Sequence
from typing import Any

from benchmarks.arena import (
    PRODUCT,
    SINGLE_SEED,
    Job,
    Row,
    adapt_to,
    benchmark_parser,
    figures,
    load,
    make_jobs,
    run_jobs,
    train_source,
)
from benchmarks.record import ROOT, write_section
from benchmarks.tables import NAMES, distinct, markdown, mean, over_seeds, pick, provenance, read_lines, written
from ecan_core.adaptation.settings import NEIGHBOR_FORMS, PSEUDO_LABELS, SUPERVISED_FORMS, AdaptSettings

NORMALIZATIONS = ("speaker", "corpus")
DEFAULT = "ECAN as it is"
TERMS: dict[str, dict[str, Any]] = {
    "diversity": {"neighbor_weight": 0.0, "supervised_weight": 0.0},
    "diversity + neighbor": {"supervised_weight": 0.0},
    "diversity + supervised": {"neighbor_weight": 0.0},
    "all three": {},
}
CERTAINTY = {"": {"certainty_weight": 0.0}, ", certainty": {"certainty_weight": 1.0}}
FORMS: dict[str, dict[str, Any]] = {
    # Forms in feature space are means over neighbors at a temperature, as E7 is written, and take its lambda of 1;
    # forms on scores are sums of products and keep the default's weight, with AaD's dispersion where it belongs.
    "ncl-1": {"neighbor_weight": 1.0},
    "ncl-2": {"neighbor_weight": 1.0},
    "ncl-3": {},
    "ncl-4": {"neighbor_weight": 1.0},
    "ncl-5": {"dispersion": 1.0},
    "scl-1": {},
    "scl-2": {},
}
"""What a rival form needs besides its name."""


def variants() -> dict[str, dict[str, Any]]:
    """Changes of the default settings by name of the variant."""
    found: dict[str, dict[str, Any]] = {DEFAULT: {}}
    for terms, weights in TERMS.items():
        for certainty, weight in CERTAINTY.items():
            found[terms + certainty] = weights | weight
    found["all three, head frozen"] = {"train_head": False}
    found["all three, certainty, head frozen"] = {"certainty_weight": 1.0, "train_head": False}
    for form in NEIGHBOR_FORMS:
        found[form] = {"neighbor_form": form} | FORMS[form]
    for form in SUPERVISED_FORMS:
        found[form] = {"supervised_form": form} | FORMS[form]
    for labels in PSEUDO_LABELS:
        found[f"pseudo-labels: {labels}"] = {"pseudo_labels": labels}
    return found


def main() -> None:
    arguments = benchmark_parser("ablation", __doc__, seeds=5).parse_args()
    if arguments.table:
        write_section(ROOT / "docs" / "method.md", "ablation", table(read_lines(arguments.out)))
        return
    run_jobs(run_job, make_jobs(load(arguments), arguments), arguments.out, arguments.workers)


def run_job(job: Job) -> list[Row]:
    """One source network and every variant on it; variants that are the same settings are run once."""
    model, (site, answers) = train_source(job), job.target.split(job.classes)
    mode, seed = job.normalization, SINGLE_SEED + job.seed
    place = {"pair": job.pair, "normalization": mode, "seed": job.seed}
    panel = adapt_to(model, site, mode=mode, settings=job.settings(), seed=job.seed)
    rows = [place | {"variant": PRODUCT} | figures(panel, answers, panel)]
    done: dict[AdaptSettings, Row] = {}
    for name, changes in variants().items():
        settings = job.settings(**changes)
        if settings not in done:
            outcome = adapt_to(model, site, mode=mode, method="ecan", settings=settings, seed=seed)
            done[settings] = figures(outcome, answers, panel)
        rows.append(place | {"variant": name} | done[settings])
    return rows


def table(lines: Sequence[Row]) -> str:
    """UAR of every variant: last epoch and after the verdict, for both normalizations."""
    rows = []
    for variant in distinct(lines, "variant"):
        cells = []
        for normalization in NORMALIZATIONS:
            its = pick(lines, variant=variant, normalization=normalization)
            cells += [written(*over_seeds(its, "uar")), f"{mean(its, 'uar_selected'):.1f}"] if its else ["-", "-"]
        rows.append([NAMES.get(variant, variant), *cells])
    received = ", ".join(
        f"{mean(pick(lines, variant=DEFAULT, normalization=normalization), 'uar_source'):.1f} by {normalization}"
        for normalization in distinct(lines, "normalization")
    )
    head = ["variant", *(f"{name}{what}" for name in NORMALIZATIONS for what in ("", ", after the verdict"))]
    return markdown(head, rows, words=1) + (
        f"\n\nUAR in %, last epoch, mean over {len(distinct(lines, 'pair'))} pairs with Student's 95 % interval over "
        f"the seeds; the received model has {received}. `make bench-ablation`, {provenance(lines)}"
    )


if __name__ == "__main__":
    main()
