"""Measure a model on this site's labelled recordings.

No other target module reads a label.
"""

from typing import Any

import numpy as np

from ecan_core.adaptation.calibrate import soften
from ecan_core.command_line.console import Narrator
from ecan_core.corpora import read_corpus
from ecan_core.data.cache import FeatureCache
from ecan_core.data.features import extract_features
from ecan_core.data.labeled import unused
from ecan_core.data.unlabeled import list_utterances
from ecan_core.errors import AudioError
from ecan_core.model.abstention import is_uncertain, shown
from ecan_core.training.metrics import (
    bootstrap_interval,
    calibration_error,
    calibration_error_by_chance,
    calibration_interval,
    confusion,
    recall,
    risk_at_coverage,
    uar,
    war,
)
from protocol.containment.walls import Containment
from target_site.containment.orders import EvaluateOrder
from target_site.model.adapted import load_adapted
from target_site.report.files import save_evaluation
from target_site.results.handed_labels import learned_labels, place_of
from target_site.results.predictions import score_table
from target_site.tasks.recordings import hear_voices, keep_remembered

INTERVAL_SEED = 0
COVERAGES = (0.25, 0.5, 0.75, 1.0)
"""Shares of the utterances, the most confident first, among which errors are counted."""


def carry_out(order: EvaluateOrder, containment: Containment, narrator: Narrator) -> dict[str, Any]:
    """Score the adapted and the received model on labelled utterances.

    Writes ``evaluation.json`` into the model's folder and adds the figures to its report.

    Args:
        order: the model and the labelled list.
        containment: how this process is contained.
        narrator: tells a person what is skipped and how far the work has come.

    Returns:
        UAR, WAR, recalls, confusion (rows: true, columns: predicted), the share of errors by coverage and the 95 %
        bootstrap interval of the UAR; how far confidence is off, with its interval and what it would be off by chance;
        what abstaining does. Recognition of the model as received stands under ``before``, and what labels counted as
        under ``relabel``.

    Raises:
        AudioError: no utterance of the model's classes can be used.
    """
    model, labels = load_adapted(order.model), order.labels
    classes = model.card.classes
    labeled = read_corpus("csv", labels, order.relabel)
    if warning := unused(order.relabel, [labeled]):
        narrator.say(warning)
    corpus, other_classes = labeled.restrict(classes)
    for reason, count in sorted({**labeled.left_out, **other_classes}.items()):
        narrator.say(f"left out {count} utterances that the model has no class for ({reason})")
    if not corpus.utterances:
        raise AudioError(f"none of the labels is a class of this model: it knows {', '.join(classes)}")
    learned = {label.place for label in learned_labels(model.provenance)}
    unseen = [item for item in corpus.utterances if place_of(item.utterance) not in learned]
    if len(unseen) < len(corpus.utterances):
        narrator.say(f"left out {len(corpus.utterances) - len(unseen)} utterances whose labels the model learned from")
    if not unseen:
        raise AudioError("the model learned from all of these labels; label other utterances to measure it by")
    label_of = {item.utterance.id: classes.index(item.label) for item in unseen}
    # All of the list is predicted, exactly as `predict` would, and only then the labels decide what is counted.
    utterances = keep_remembered(list_utterances(labels).utterances, order.left_out, narrator).kept
    with FeatureCache(order.cache) as cache, narrator.progress("features") as tick:
        table = extract_features(utterances, model.card.front_end(order.encoders), cache, on_progress=tick)
    if table.refusals:
        narrator.say(f"skipped unusable utterances: {table.skipped}")
    voices = hear_voices(table.utterances, order.encoders, narrator) if model.preparation.guessing else None
    after = soften(score_table(model.networks(), model.preparation, table, voices), model.temperature)
    before = score_table((model.received_network(),), model.unadapted, table)
    counted = [row for row, utterance in enumerate(table.utterances) if utterance.id in label_of]
    if not counted:
        raise AudioError("none of the labelled utterances can be used: check the files of the list")
    true = np.array([label_of[table.utterances[row].id] for row in counted])
    for index in sorted(set(range(len(classes))) - set(true.tolist())):
        narrator.say(f"no utterance is labelled {classes[index]}: the UAR is an average over the other classes")
    least = model.abstention.by_class(classes)
    evaluation = _figures(true, after[counted], classes) | {
        "calibration_error": calibration_error(true, after[counted]),
        "calibration_interval": list(calibration_interval(true, after[counted], INTERVAL_SEED)),
        "calibration_error_by_chance": calibration_error_by_chance(after[counted], INTERVAL_SEED),
        "abstention": _abstention(true, after[counted], least),
        "before": _figures(true, before[counted], classes),
        "containment": containment.as_plain(),
        "relabel": order.relabel,
    }
    save_evaluation(order.model, evaluation)
    return evaluation


def _abstention(true: np.ndarray, scores: np.ndarray, least: np.ndarray) -> dict[str, object]:
    """Measure how many utterances are answered, and how often wrongly."""
    answered = ~is_uncertain(scores, least)
    wrong = scores[answered].argmax(axis=1) != true[answered]
    return {
        "least_confidence": shown(least),
        "coverage": float(answered.mean()),
        "risk": float(wrong.mean()) if answered.any() else None,
    }


def _figures(true: np.ndarray, scores: np.ndarray, classes: tuple[str, ...]) -> dict[str, Any]:
    predicted = scores.argmax(axis=1)
    counts = confusion(true, predicted, len(classes))
    recalls = [None if np.isnan(value) else float(value) for value in recall(counts)]
    return {
        "uar": uar(counts),
        "war": war(counts),
        "n": len(true),
        "classes": list(classes),
        "recall": dict(zip(classes, recalls, strict=True)),
        "confusion": counts.tolist(),
        "risk": {f"{coverage:g}": risk_at_coverage(true, scores, coverage) for coverage in COVERAGES},
        "uar_interval": list(bootstrap_interval(true, predicted, len(classes), INTERVAL_SEED)),
    }
