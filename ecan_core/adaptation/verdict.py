"""Judge an adaptation without labels: keep it, doubt it or undo it.

To undo it is to go back to the source model.

The default committee votes. The gain of an adaptation over the source model is estimated by the UAR of both against
that vote. Mere agreement with the vote says little; the difference between the two models says much.
A vote cannot see harm that the whole panel shares, and is no judge where the panel is seldom right. Where a speaker
encoder hears voices, they are a witness that is no network of ours: answers that come to follow them do not follow
emotions. docs/method.md has the measurements.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from ecan_core.adaptation.calibrate import guessed_accuracy_of_panel
from ecan_core.adaptation.health import Health, examine
from ecan_core.adaptation.voices_followed import followed_voices

if TYPE_CHECKING:
    from ecan_core.adaptation.site import SiteAdaptation

PANEL_SEED = 2**31
"""Added to a run's seed for the panel that judges it: no run of a command has such a seed."""
SURE_GAIN = 2.0
"""Estimated gain in points of UAR from which an adaptation counts as improved; below zero it is reverted."""
MIN_RIGHT = 0.45
"""How often a panel must be right, as guessed, for its vote to show an improvement: 0 is by chance, 1 always."""
MIN_BALANCE = 0.8
"""Entropy of the mean score, as a share of log C, below which predictions count as collapsed."""
MIN_SHARE = 0.25
"""Share of a predicted class, in units of 1/C, below which the class counts as lost."""
MIN_AGREEMENT = 0.3
"""Agreement with the source model below which an adaptation has left it behind."""


FOLLOWED = "the answers came to tell who speaks rather than how it sounds: adapt with --normalize voice"
SELDOM_RIGHT = (
    "the networks that say so are right on {:.0%} of the utterances, as far as one can guess: "
    "label fifty of them to know"
)


class Verdict(StrEnum):
    """Name what became of an adaptation."""

    IMPROVED = "improved"
    INCONCLUSIVE = "inconclusive"
    REVERTED = "reverted"


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Hold a verdict and its reason in one sentence."""

    verdict: Verdict
    reason: str


NOT_ADAPTED = Judgement(verdict=Verdict.INCONCLUSIVE, reason="no adaptation was asked for")


def judge_site(
    site: "SiteAdaptation",
    panel: "SiteAdaptation | None",
    received: np.ndarray,
    adapted: np.ndarray,
    others: slice | np.ndarray = slice(None),
    voices: Sequence[str | None] | None = None,
    views: float | None = None,
) -> Judgement:
    """Judge the adaptation by its gain and by the voices.

    The panel estimates the gain; the voices are those that were heard. Where the panel itself was adapted, each of its
    members is judged by the others.

    Args:
        site: what became of the model.
        panel: what judges that; None where nothing was adapted, which judges itself.
        received: scores of the model as it was received, of the rows that count ``[M, C]``.
        adapted: scores of the adapted model, of the same rows.
        others: the M rows that count: those whose labels nobody handed over.
        voices: whose voice a speaker encoder heard, of each utterance ``[N]``; None where none was asked.
        views: how often two views tell the panel's answers alike (`ecan_core.adaptation.views`); None without them.
    """
    if panel is None:
        return NOT_ADAPTED
    counted = panel.scores[others]
    if panel is site:
        gain = estimated_gain_of_panel(received, [member.scores[others] for member in site.members])
    else:
        gain = estimated_gain(received, adapted, counted)
    heard = None if voices is None else np.array(voices, dtype=object)[others].tolist()
    right = guessed_accuracy_of_panel(counted, views) if np.isfinite(counted).all() else None
    return judge(received, adapted, gain, heard, right)


def judge(
    source_scores: np.ndarray,
    adapted_scores: np.ndarray,
    gain: float,
    voices: Sequence[str | None] | None = None,
    right: float | None = None,
) -> Judgement:
    """Judge the adapted model against the source model by their scores.

    Both are ``[N, C]``, of the same utterances.

    A fault that the source model shows already is not held against the adaptation.

    Args:
        source_scores: scores of the model as it was received.
        adapted_scores: scores of the adapted model.
        gain: gain in UAR points, by `estimated_gain` or `estimated_gain_of_panel`.
        voices: whose voice a speaker encoder heard, of each utterance; None where none was asked.
        right: how often the panel is right, as guessed, from 0 to 1; None where nobody asked.
    """
    if not np.isfinite(adapted_scores).all():
        return Judgement(verdict=Verdict.REVERTED, reason="the adaptation diverged: lower learning_rate")
    source, adapted = examine(source_scores, source_scores), examine(adapted_scores, source_scores)
    fault = _collapse(adapted, source)
    if fault is not None:
        return Judgement(verdict=Verdict.REVERTED, reason=fault)
    answers = source_scores.argmax(axis=1), adapted_scores.argmax(axis=1)
    if voices is not None and followed_voices(*answers, voices, source_scores.shape[1]):
        return Judgement(verdict=Verdict.REVERTED, reason=FOLLOWED)
    if not np.isfinite(gain):
        return Judgement(verdict=Verdict.INCONCLUSIVE, reason="the panel that judges it diverged")
    estimate = f"by an estimate without labels the recognition rate changes by {gain:+.1f} points"
    if gain < 0:
        return Judgement(verdict=Verdict.REVERTED, reason=estimate)
    if gain < SURE_GAIN:
        return Judgement(verdict=Verdict.INCONCLUSIVE, reason=f"{estimate}, which is too little to be sure")
    if right is not None and _above_chance(right, source_scores.shape[1]) < MIN_RIGHT:
        return Judgement(verdict=Verdict.INCONCLUSIVE, reason=f"{estimate}, but {SELDOM_RIGHT.format(right)}")
    return Judgement(verdict=Verdict.IMPROVED, reason=estimate)


def estimated_gain(source_scores: np.ndarray, adapted_scores: np.ndarray, panel_scores: np.ndarray) -> float:
    """Estimate the gain in UAR points, taking the panel for the truth.

    UAR of the adapted model minus that of the source model.

    All scores are ``[N, C]``; the panel must not hold the run that is judged, nor share its seed.
    """
    return _soft_uar(adapted_scores, panel_scores) - _soft_uar(source_scores, panel_scores)


def estimated_gain_of_panel(source_scores: np.ndarray, member_scores: Sequence[np.ndarray]) -> float:
    """Estimate the gain of a panel's members, each judged by the others.

    Two members at least; the result is the mean of `estimated_gain`.
    """
    gains = [
        estimated_gain(source_scores, own, np.mean([*member_scores[:index], *member_scores[index + 1 :]], axis=0))
        for index, own in enumerate(member_scores)
    ]
    return float(np.mean(gains))


def _soft_uar(scores: np.ndarray, panel_scores: np.ndarray) -> float:
    """Return the UAR in % against the panel's scores as soft labels.

    The mean over classes of the share of the panel's belief in a class that falls on utterances predicted as that
    class.
    """
    belief = panel_scores.sum(axis=0)
    called = scores.argmax(axis=1)
    found = [panel_scores[called == index, index].sum() for index in range(len(belief))]
    return float(100 * np.mean(np.array(found) / belief.clip(1e-12)))


def _above_chance(share: float, num_classes: int) -> float:
    """Return a share of right answers as 0 by chance and 1 at best."""
    return (share * num_classes - 1) / (num_classes - 1)


def _collapse(adapted: Health, source: Health) -> str | None:
    lost = MIN_SHARE / len(adapted.class_shares)
    if adapted.balance < MIN_BALANCE and adapted.balance < source.balance:
        return "predictions collapsed towards few classes"
    if min(adapted.class_shares) < lost and min(adapted.class_shares) < min(source.class_shares):
        return "a class is hardly predicted any more"
    if adapted.agreement < MIN_AGREEMENT:
        return "the adapted model agrees with the source model on too few utterances"
    return None
