"""Hold the predictions of a model and write them for people and programs."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ecan_core.adaptation.calibrate import soften
from ecan_core.adaptation.site import Preparation
from ecan_core.data.features import FeatureTable
from ecan_core.model.abstention import is_uncertain, shown
from ecan_core.model.network import Network
from ecan_core.model.predict import committee_scores
from target_site.results.calls import NOT_SPEECH, uncertain_advice
from target_site.results.segments import segments_of, write_segments


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Hold what a model makes of the usable utterances.

    Attributes:
        table: the utterances.
        scores: of each ``[N, C]``, in the order of ``table.utterances``.
        least_confidence: the model abstains where its score of the class it predicts is lower ``[C]``.
        temperature: at which the scores were taken.
    """

    table: FeatureTable
    scores: np.ndarray
    least_confidence: np.ndarray
    temperature: float = 1.0

    def at(self, temperature: float, least_confidence: np.ndarray) -> "Predictions":
        """Return the predictions calibrated, abstaining where unsure."""
        scores = soften(self.scores, temperature)
        return replace(self, scores=scores, temperature=temperature, least_confidence=least_confidence)

    @property
    def uncertain(self) -> np.ndarray:
        """Mark where the model abstains, bool ``[N]``."""
        return is_uncertain(self.scores, self.least_confidence)

    @property
    def abstained(self) -> int:
        """Count the utterances that the model abstains from."""
        return int(self.uncertain.sum())

    @property
    def advice(self) -> str:
        """Say what to do where nearly everything is uncertain; else empty."""
        return uncertain_advice(self.abstained, len(self.scores), shown(self.least_confidence))

    def write(self, folder: Path, classes: Sequence[str]) -> None:
        """Write every usable utterance with its scores by class.

        See `target_site.results.segments`.
        """
        write_segments(folder, segments_of(self.table, self.scores, self.uncertain, classes), classes)


def score_table(
    networks: Sequence[Network],
    preparation: Preparation,
    table: FeatureTable,
    voices: Sequence[str | None] | None = None,
) -> np.ndarray:
    """Return the scores ``[N, C]`` of extracted utterances.

    ``voices`` are those that a speaker encoder heard, where the model asks for them.
    """
    speakers = [utterance.speaker for utterance in table.utterances] if voices is None else voices
    return committee_scores(networks, preparation.inputs(table.features, speakers))


def not_speech(table: FeatureTable) -> dict[str, float]:
    """Return how much was no speech: the share of each kind.

    It is the share in all that was loud enough to be speech. What is left out for other reasons does not count.
    """
    seconds: Counter[str] = Counter()
    for refusal in table.refusals:
        place = refusal.utterance
        if refusal.reason in NOT_SPEECH and place.start_s is not None and place.end_s is not None:
            seconds[refusal.reason] += round(1000 * (place.end_s - place.start_s))
    total = sum(seconds.values()) + 1000 * sum(table.durations_s)
    return {reason: round(count / total, 4) for reason, count in seconds.most_common()}
