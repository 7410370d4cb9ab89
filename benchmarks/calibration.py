"""How much a score is worth: confidence against the share of right answers, and what abstaining does.

The default committee on every ordered pair of corpora, in process. The temperature of a run is guessed without its
labels, from the line (`ecan_core.adaptation.calibrate`) that the runs on the *other* target corpora give. The product's
line is drawn through all runs: the last line of output.
"""

import json
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.arena import (
    Answers,
    Job,
    Row,
    adapt_to,
    benchmark_parser,
    in_processes,
    load,
    make_jobs,
    train_source,
)
from benchmarks.record import ROOT, circumstances, write_section
from benchmarks.tables import distinct, markdown, mean, pick, provenance, read_lines
from ecan_core.adaptation.calibrate import log_odds, mean_confidence, soften, temperature_of
from ecan_core.model.abstention import is_uncertain, usual_least

Line = tuple[float, float]


class Run(NamedTuple):
    """One adapted committee: where, its scores ``[N, C]`` and the answers."""

    place: Row
    scores: np.ndarray
    answers: Answers
    views: float | None

    @property
    def confidence(self) -> float:
        """Mean score of the predicted class."""
        return mean_confidence(self.scores)


def main() -> None:
    arguments = benchmark_parser("calibration", __doc__, seeds=3).parse_args()
    if arguments.table:
        every = read_lines(arguments.out)
        write_section(ROOT / "docs" / "method.md", "calibration", table(with_views(every)))
        for lines in (with_views(every), [line for line in every if line["views"] is None]):
            print("line: {:.2f}, {:.2f}".format(*line_through(lines)))
        return
    jobs = make_jobs(load(arguments), arguments)
    runs = [run for several in in_processes(run_job, jobs, arguments.workers) for run in several]
    rows = [
        run.place | {"confidence": run.confidence, "views": run.views, "accuracy": run.answers.accuracy(run.scores)}
        for run in runs
    ]
    rows = [row | figures(run, line_without(row["target"], rows)) for run, row in zip(runs, rows, strict=True)]
    arguments.out.write_text("".join(json.dumps(row | circumstances()) + "\n" for row in rows))


def with_views(lines: Sequence[Row]) -> list[Row]:
    """The runs where two views were asked."""
    return [line for line in lines if line["views"] is not None]


def run_job(job: Job) -> list[Run]:
    """The committee at one target, by every normalization that the source allows."""
    model, (site, answers) = train_source(job), job.target.split(job.classes)
    place = {"pair": job.pair, "target": job.target.name, "seed": job.seed}
    settings = job.settings()
    outcomes = {
        mode: adapt_to(model, site, mode=mode, settings=settings, seed=job.seed, with_views=True) for mode in job.modes
    }
    return [
        Run(place | {"normalization": mode}, outcome.scores, answers, outcome.views)
        for mode, outcome in outcomes.items()
    ]


def line_through(rows: Sequence[Row]) -> Line:
    """Offset and slope of the log-odds of being right by those of the mean confidence, by least squares.

    With two views their agreement counts as much as confidence does, and there is an offset alone.
    """
    if rows[0]["views"] is not None:
        evidence = [log_odds(row["confidence"]) + log_odds(row["views"]) for row in rows]
        return statistics.fmean(log_odds(row["accuracy"]) for row in rows) - statistics.fmean(evidence), 1.0
    confidence, accuracy = ([log_odds(row[key]) for row in rows] for key in ("confidence", "accuracy"))
    slope, offset = np.polyfit(confidence, accuracy, 1)
    return float(offset), float(slope)


def line_without(target: str, rows: Sequence[Row]) -> Line:
    """The line that the runs on all other target corpora give."""
    return line_through([row for row in rows if row["target"] != target])


def figures(run: Run, line: Line) -> Row:
    """What calibration and abstention do at one target."""
    softened = soften(run.scores, temperature_of(run.scores, run.scores, run.views, line))
    num_classes = softened.shape[1]
    sure = ~is_uncertain(softened, np.full(num_classes, usual_least(num_classes)))
    return {
        "off_before": run.answers.calibration_error(run.scores),
        "off_after": run.answers.calibration_error(softened),
        "guessed": mean_confidence(softened),
        "coverage": float(sure.mean()),
        "right_of_sure": run.answers.among(sure).accuracy(softened[sure]) if sure.any() else None,
    }


def table(lines: Sequence[Row]) -> str:
    """One row for each pair, all normalizations and seeds together."""
    rows = [[pair.replace("-", " → "), *cells(pick(lines, pair=pair))] for pair in distinct(lines, "pair")]
    head = ["pair", "right", "confidence", "off", "confidence then", "off then", "answered", "right of those"]
    return markdown(head, [*rows, ["mean", *cells(lines)]], words=1) + (
        "\n\nIn %, mean over three normalizations. *Off*: expected calibration error, ten groups of equal size. "
        f"*Then*: after calibration by the runs on other targets. *Answered*: what it does not "
        "abstain from then. "
        f"`python -m benchmarks.calibration`, {provenance(lines)}"
    )


def cells(lines: Sequence[Row]) -> list[str]:
    """The figures of some runs."""
    keys = ("accuracy", "confidence", "off_before", "guessed", "off_after", "coverage")
    right = [line["right_of_sure"] for line in lines if line["right_of_sure"] is not None]
    of_sure = f"{100 * statistics.fmean(right):.1f}" if right else "-"
    return [*(f"{mean(lines, key):.1f}" for key in keys), of_sure]


if __name__ == "__main__":
    main()
