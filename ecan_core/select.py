"""Judge an adaptation without labels: keep it, doubt it, or go back to the source model.

Source: method section 7 (gate against collapse, then information maximization). The thresholds are first values;
measuring how well the verdict predicts a gain is future work (docs/method.md).
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from ecan_core.health import Health, examine

MIN_BALANCE = 0.8
"""Entropy of the mean score, as a share of log C, below which predictions count as collapsed."""
MIN_SHARE = 0.25
"""Share of a predicted class, in units of 1/C, below which the class counts as lost."""
MIN_AGREEMENT = 0.3
"""Agreement with the source model below which an adaptation has left it behind."""


class Verdict(StrEnum):
    """What became of an adaptation."""

    IMPROVED = "improved"
    INCONCLUSIVE = "inconclusive"
    REVERTED = "reverted"


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """A verdict and its reason in one sentence."""

    verdict: Verdict
    reason: str


def judge(source_scores: np.ndarray, adapted_scores: np.ndarray) -> Judgement:
    """Compare the scores ``[N, C]`` of the source and the adapted model on the same utterances.

    A fault that the source model shows already is not held against the adaptation.
    """
    if not np.isfinite(adapted_scores).all():
        return Judgement(verdict=Verdict.REVERTED, reason="the adaptation diverged: lower learning_rate")
    source, adapted = examine(source_scores, source_scores), examine(adapted_scores, source_scores)
    fault = _collapse(adapted, source)
    if fault is not None:
        return Judgement(verdict=Verdict.REVERTED, reason=fault)
    if information(adapted_scores) > information(source_scores):
        return Judgement(
            verdict=Verdict.IMPROVED, reason="predictions are more certain and still spread over the classes"
        )
    return Judgement(verdict=Verdict.INCONCLUSIVE, reason="predictions are no more certain and balanced than before")


def information(scores: np.ndarray) -> float:
    """InfoMax: entropy of the mean score minus mean entropy of the scores ``[N, C]``, in nats."""

    def entropy(rows: np.ndarray) -> np.ndarray:
        clipped = rows.clip(1e-12)
        return np.asarray(-(clipped * np.log(clipped)).sum(axis=-1))

    return float(entropy(scores.mean(axis=0)) - entropy(scores).mean())


def _collapse(adapted: Health, source: Health) -> str | None:
    lost = MIN_SHARE / len(adapted.class_shares)
    if adapted.balance < MIN_BALANCE and adapted.balance < source.balance:
        return "predictions collapsed towards few classes"
    if min(adapted.class_shares) < lost and min(adapted.class_shares) < min(source.class_shares):
        return "a class is hardly predicted any more"
    if adapted.agreement < MIN_AGREEMENT:
        return "the adapted model agrees with the source model on too few utterances"
    return None
