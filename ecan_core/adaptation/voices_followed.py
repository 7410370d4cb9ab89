"""Tell whether an adaptation followed the voices instead of the emotions.

By corpus, utterances of one person lie close together, and an objective that gathers what lies close may end with a
class for each group of voices. Its guesses then agree more than ever, and no vote of networks shows it. But the guesses
tell more of who speaks than those of the received model did.

Source: the mutual information of two labelings, with the correction of Miller (1955) for small samples.
Differs: as a share of log C, so that 1 means that the voice decides the class.
"""

from collections.abc import Sequence

import numpy as np

MAX_RISE = 0.125
"""Rise over the received model from which an adaptation has followed the voices."""
MOST_BEFORE = 0.2
"""Share from which the received model tells voices apart itself: people may be heard in one mood each, where the right
answers tell who speaks."""
MIN_PER_CELL = 2
"""Fewer utterances than this for each pair of a class and a voice tell nothing."""


def followed_voices(before: np.ndarray, after: np.ndarray, voices: Sequence[str | None], num_classes: int) -> bool:
    """Return whether answers tell much more of who speaks than before.

    Args:
        before: classes that the received model answers ``[N]``.
        after: classes that the adapted model answers ``[N]``.
        voices: whose voice is heard ``[N]``; None where unknown, which does not count.
        num_classes: C.
    """
    known = np.array([voice is not None for voice in voices])
    names, whose = np.unique([voice for voice in voices if voice is not None], return_inverse=True)
    if not len(whose) or len(whose) < MIN_PER_CELL * num_classes * len(names):
        return False
    first, then = (told_of_voices(answers[known], whose, num_classes) for answers in (before, after))
    return first < MOST_BEFORE and then - first > MAX_RISE


def told_of_voices(answers: np.ndarray, whose: np.ndarray, num_classes: int) -> float:
    """Measure how much answers tell of who speaks.

    Args:
        answers: answered classes ``[N]``.
        whose: numbers of the voices ``[N]``, from 0 on.
        num_classes: C.

    Returns:
        Mutual information as a share of log C: 0 for answers that have nothing to do with the voices.
    """
    counts = np.zeros((num_classes, whose.max() + 1))
    np.add.at(counts, (answers, whose), 1)
    shares = counts / counts.sum()
    apart = shares.sum(axis=1, keepdims=True) * shares.sum(axis=0, keepdims=True)
    seen = shares > 0
    information = np.sum(shares[seen] * np.log(shares[seen] / apart[seen]))
    by_chance = (num_classes - 1) * (counts.shape[1] - 1) / (2 * len(answers))
    return float((information - by_chance) / np.log(num_classes))
