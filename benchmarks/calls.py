"""Whether what the product says of itself holds on targets that are like calls.

Speech over a noisy telephone, most of it in one mood, some in moods that the model has no class for. Asked is not how
well it recognizes, but whether its words are true: the estimated gain beside the true one, the verdict, confidence, and
how often it is right where it does not abstain. Temperatures come from the line that the runs on the *other* target
corpora gave (results/calibration.jsonl). One JSON line per run; with ``--table`` the table of docs/benchmarks.md.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.arena import (
    PRODUCT,
    Job,
    LabeledSpeech,
    Outcome,
    Row,
    Site,
    adapt_to,
    benchmark_parser,
    cache_folder,
    extended,
    find_corpora,
    hearing_of,
    keep,
    load,
    make_jobs,
    run_jobs,
    train_source,
)
from benchmarks.calibration import Line, line_without, with_views
from benchmarks.record import RESULTS, ROOT, write_section
from benchmarks.robustness import degrade, imbalanced_rows, over_telephone, scaled
from benchmarks.tables import distinct, markdown, mean, pick, provenance, read_lines
from ecan_core.adaptation.calibrate import soften, temperature_of
from ecan_core.adaptation.verdict import Verdict
from ecan_core.audio.waveform import Waveform
from ecan_core.model.abstention import is_uncertain, usual_least
from ecan_core.training.metrics import calibration_error, confusion, uar

SHARE_UNKNOWN = 0.2
"""Share of the utterances in moods that the model has no class for."""
IMBALANCE = 10.0
"""Utterances in the most frequent mood for each in the rarest."""
LINE_NOISE_DB = 20.0
"""Level of the speech above the noise of the line."""
MOST_FREQUENT = "neutral"
UNKNOWN = -1
"""Stands for a true mood that is no class of the model; no answer is right there."""


def main() -> None:
    arguments = benchmark_parser("calls", __doc__, seeds=2).parse_args()
    if arguments.table:
        write_section(ROOT / "docs" / "benchmarks.md", "calls", table(read_lines(arguments.out)))
        return
    with cache_folder(arguments.cache) as cache:
        arguments.cache = cache
        speech = load(arguments)
        corpora, hearing = find_corpora(arguments.corpora), hearing_of(arguments)
        called = {name: degrade(corpora[name], over_line, hearing, cache / f"{name}-line.cache") for name in speech}
    jobs = [extended(CallJob, job, called=called[job.target.name]) for job in make_jobs(speech, arguments)]
    run_jobs(run_job, jobs, arguments.out, arguments.workers)


def over_line(sound: Waveform, rng: np.random.Generator) -> Waveform:
    """A telephone's band with the noise of its line."""
    narrow = over_telephone(sound, rng)
    noise = rng.standard_normal(len(narrow.samples))
    return replace(narrow, samples=narrow.samples + scaled(noise, narrow.samples, LINE_NOISE_DB))


@dataclass(frozen=True, kw_only=True)
class CallJob(Job):
    """A job with all moods of its target.

    Attributes:
        called: the target's corpus over the line, with every mood that it has.
    """

    called: LabeledSpeech


def run_job(job: CallJob) -> list[Row]:
    """One source network and the product's word on every target."""
    model, line = (
        train_source(job),
        line_without(job.target.name, with_views(read_lines(RESULTS / "calibration.jsonl"))),
    )
    rows = []
    for condition, target in conditions(job):
        site, true = Site(target.features, target.speakers, target.heard), true_classes(target, job.classes)
        for mode in job.modes:
            outcome = adapt_to(model, site, mode=mode, settings=job.settings(), seed=job.seed, with_views=True)
            place = {"pair": job.pair, "normalization": mode, "condition": condition, "seed": job.seed}
            rows.append(place | {"method": PRODUCT} | words_and_truth(outcome, true, line))
    return rows


def conditions(job: CallJob) -> list[tuple[str, LabeledSpeech]]:
    """The target in every condition by name, each with what the one before had."""
    rng = np.random.default_rng([job.seed, zlib.crc32(job.pair.encode())])
    called, known = job.called, job.called.restrict(job.classes)
    uneven = known.take(imbalanced_rows(known.indices(job.classes), IMBALANCE, frequent_first(job.classes, rng), rng))
    found = [("as it is", job.target), ("over the line", known), (f"and most of it {MOST_FREQUENT}", uneven)]
    others = [row for row, label in enumerate(called.labels) if label not in job.classes]
    if others:
        num = min(len(others), round(SHARE_UNKNOWN / (1 - SHARE_UNKNOWN) * len(uneven.labels)))
        found.append(("and other moods", joined(uneven, called.take(rng.choice(others, num, replace=False)))))
    return found


def frequent_first(classes: Sequence[str], rng: np.random.Generator) -> np.ndarray:
    """The classes from the most to the least frequent; but for the first they are drawn."""
    order = rng.permutation(len(classes)).tolist()
    return np.array(sorted(order, key=lambda index: classes[index] != MOST_FREQUENT))


def joined(one: LabeledSpeech, other: LabeledSpeech) -> LabeledSpeech:
    """The utterances of both."""
    heard = None if one.heard is None or other.heard is None else one.heard + other.heard
    return replace(
        one,
        features=one.features + other.features,
        speakers=one.speakers + other.speakers,
        labels=one.labels + other.labels,
        heard=heard,
    )


def true_classes(target: LabeledSpeech, classes: Sequence[str]) -> np.ndarray:
    """The class of each utterance, `UNKNOWN` for another mood ``[N]``."""
    return np.array([classes.index(label) if label in classes else UNKNOWN for label in target.labels])


def words_and_truth(outcome: Outcome, true: np.ndarray, line: Line) -> Row:
    """What the product says of an adaptation, and what is so; the labels are opened here."""
    kept = keep(outcome, outcome)
    scores = soften(kept.scores, temperature_of(kept.scores, outcome.scores, outcome.views, line))
    told = ~is_uncertain(scores, np.full(scores.shape[1], usual_least(scores.shape[1])))
    right = scores.argmax(axis=1) == true
    received, adapted = (known_uar(one, true) for one in (outcome.source_scores, outcome.scores))
    return {
        "uar_source": received,
        "uar": adapted,
        "gain": round(adapted - received, 5),
        "gain_estimated": round(kept.gain / 100, 5),
        "verdict": kept.verdict.value,
        "off": calibration_error(true, scores),
        "answered": float(told.mean()),
        "right": float(right.mean()),
        "right_of_answered": float(right[told].mean()) if told.any() else None,
    }


def known_uar(scores: np.ndarray, true: np.ndarray) -> float:
    """UAR over the utterances whose mood is a class."""
    known = true != UNKNOWN
    return round(uar(confusion(true[known], scores[known].argmax(axis=1), scores.shape[1])), 5)


def table(lines: Sequence[Row]) -> str:
    """A row for each condition, and what became of the verdicts."""
    rows = []
    for condition in distinct(lines, "condition"):
        its = pick(lines, condition=condition)
        off = mean([{"off": abs(line["gain_estimated"] - line["gain"])} for line in its], "off")
        better = pick(its, verdict=Verdict.IMPROVED.value)
        true = sum(line["gain"] > 0 for line in better)
        of_answered = [line for line in its if line["right_of_answered"] is not None]
        cells = [f"{mean(its, key):.1f}" for key in ("uar_source", "uar")]
        cells += [f"{mean(its, key):+.1f}" for key in ("gain", "gain_estimated")]
        cells += [f"{off:.1f}", f"{len(better)} of {len(its)}", f"{true} of {len(better)}"]
        cells += [f"{mean(its, key):.1f}" for key in ("off", "answered", "right")]
        rows.append([condition, *cells, f"{mean(of_answered, 'right_of_answered'):.1f}"])
    head = ["target", "received", "adapted", "gain", "estimated", "apart by", "called improved", "of these better"]
    head += ["confidence off", "answered", "right", "right of answered"]
    return markdown(head, rows, words=1) + (
        f"\n\nThe product; means over {len(distinct(lines, 'pair'))} pairs and three normalizations. *Received*, "
        "*adapted*: UAR in % over the moods that the model has a class for. *Gain*: the difference, and what was "
        "estimated without labels; *apart by*: how far these two lie apart in one run. *Confidence off*: expected "
        "calibration error. *Answered*: not abstained from; *right*: of all and of the answered, in %, where any "
        "answer to an utterance in another mood is wrong. Each condition has what the one before had. *Line*: 300-3400 "
        f"Hz, 8 kHz, G.711, noise at {LINE_NOISE_DB:.0f} dB. *Most of it {MOST_FREQUENT}*: counts fall "
        f"{IMBALANCE:.0f} to 1. *Other moods*: {SHARE_UNKNOWN:.0%} of the utterances, where the corpus has them. "
        f"`python -m benchmarks.calls`, {provenance(lines)}"
    )


if __name__ == "__main__":
    main()
