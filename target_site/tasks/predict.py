"""Predict emotions of a site's audio with an adapted model."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ecan_core.adaptation.calibrate import soften
from ecan_core.adaptation.site import Preparation
from ecan_core.audio.frontend import FrontEnd
from ecan_core.command_line.narrator import Narrator
from ecan_core.data.cache import FeatureCache
from ecan_core.data.calls import Parties, cut_recordings
from ecan_core.data.features import FeatureTable, extract_features, nothing_usable
from ecan_core.data.unlabeled import list_utterances
from ecan_core.errors import AudioError
from ecan_core.model.network import Network
from ecan_core.model.predict import committee_scores
from ecan_core.utterance import Utterance
from protocol.containment.walls import Containment
from protocol.files import write_atomic
from target_site.containment.orders import PredictOrder
from target_site.model.adapted import load_adapted
from target_site.model.folder import weights_digest
from target_site.results.segments import SUMMARY, segments_of, write_segments


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Hold what a model makes of the usable utterances.

    Attributes:
        table: the utterances.
        scores: of each ``[N, C]``, in the order of ``table.utterances``.
        temperature: at which they were taken.
        least_confidence: the model abstains where its best score is lower.
    """

    table: FeatureTable
    scores: np.ndarray
    temperature: float = 1.0
    least_confidence: float = 0.0

    def at(self, temperature: float, least_confidence: float) -> "Predictions":
        """Return the predictions calibrated, abstaining where unsure."""
        scores = soften(self.scores, temperature)
        return replace(self, scores=scores, temperature=temperature, least_confidence=least_confidence)

    @property
    def uncertain(self) -> np.ndarray:
        """Mark where the model abstains, bool ``[N]``."""
        return np.asarray(self.scores.max(axis=1) < self.least_confidence)

    @property
    def abstained(self) -> int:
        """Count the utterances that the model abstains from."""
        return int(self.uncertain.sum())

    def write(self, folder: Path, classes: Sequence[str]) -> None:
        """Write every usable utterance with its scores by class.

        See `target_site.results.segments`.
        """
        write_segments(folder, segments_of(self.table, self.scores, self.uncertain, classes), classes)


def read_utterances(
    listed: Sequence[Utterance],
    front_end: FrontEnd,
    cache: FeatureCache,
    *,
    parties: Parties | None,
    narrator: Narrator,
) -> FeatureTable:
    """Cut what is listed into utterances and compute their features.

    What is left out is among the refusals.

    Raises:
        AudioError: nothing can be used.
    """
    with narrator.progress("recordings") as tick:
        cut = cut_recordings(listed, parties, on_progress=tick)
    if cut.num_discarded:
        narrator.say(f"discarded {cut.num_discarded} channels whose role nobody may listen to")
    if not cut.utterances and (cut.refusals or cut.num_discarded):
        raise AudioError(nothing_usable(cut.refusals, num_discarded=cut.num_discarded))
    with narrator.progress("features") as tick:
        table = extract_features(cut.utterances, front_end, cache, on_progress=tick)
    if table.copies:
        narrator.say(f"{len(table.copies)} utterances are copies of others, to the byte")
    if table.clipped:
        narrator.say(f"recorded too loud (clipped), so that their scores are worth less: {len(table.clipped)}")
    return replace(table, refusals=(*cut.refusals, *table.refusals))


def score_table(networks: Sequence[Network], preparation: Preparation, table: FeatureTable) -> np.ndarray:
    """Return the scores ``[N, C]`` of extracted utterances."""
    speakers = [utterance.speaker for utterance in table.utterances]
    return committee_scores(networks, preparation.inputs(table.features, speakers))


def carry_out(order: PredictOrder, containment: Containment, narrator: Narrator) -> dict[str, object]:
    """Predict recordings and write segments and a summary.

    ``segments.csv``, ``.jsonl`` and ``.rttm``, and ``summary.json``.

    Args:
        order: what to predict, and with which model.
        containment: how this process is contained, for the summary.
        narrator: tells a person what is skipped and how far the work has come.

    Returns:
        The summary: counts per class, refusals with reasons.
    """
    model = load_adapted(order.model)
    listing = list_utterances(order.audio)
    say_ignored(listing.ignored_columns, narrator)
    with FeatureCache(order.cache) as cache:
        table = read_utterances(
            listing.utterances, model.card.front_end(), cache, parties=order.parties, narrator=narrator
        )
    scores = score_table(model.networks(), model.preparation, table)
    predictions = Predictions(table=table, scores=scores).at(model.temperature, order.least_confidence)
    summary = summarize(predictions, model.card.classes)
    summary |= {"model_sha256": weights_digest(order.model).hex(), "containment": containment.as_plain()}
    predictions.write(order.out, model.card.classes)
    write_atomic(order.out / SUMMARY, json.dumps(summary, indent=2).encode())
    return summary


def say_ignored(columns: tuple[str, ...], narrator: Narrator) -> None:
    """Tell which columns of a list were not read.

    A label column is never read.
    """
    if columns:
        narrator.say(f"the list's column(s) {', '.join(columns)} were not read: nothing here looks at labels")


def summarize(predictions: Predictions, classes: tuple[str, ...]) -> dict[str, object]:
    """Count predicted classes, abstentions, and refusals by reason."""
    told = predictions.scores[~predictions.uncertain].argmax(axis=1)
    predicted = np.bincount(told, minlength=len(classes))
    return {
        "utterances": len(predictions.scores),
        "abstained": predictions.abstained,
        "clipped": [str(predictions.table.utterances[row].path) for row in predictions.table.clipped],
        "predicted": dict(zip(classes, predicted.tolist(), strict=True)),
        "refused": [{"file": str(r.utterance.path), "reason": r.reason} for r in predictions.table.refusals],
        "refused_by_reason": dict(Counter(r.reason for r in predictions.table.refusals)),
    }
