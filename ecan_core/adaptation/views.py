"""Ask two views of the same utterances whether they tell alike.

One view is the statistics, the other what a public encoder hears beside them. From each alone a linear model learns the
guesses on four fifths of the utterances and tells the rest. Where guesses follow emotions, both views can tell them;
where they follow something else, each view tells its own story. A network that is sure of itself does not show that.

Source: Blum & Mitchell, COLT 1998 (two views that are enough each); Dasgupta, Littman & McAllester, NIPS 2001, who
bound the error by the views' agreement.
Differs: ridge regression, and the agreement is a hint for `ecan_core.adaptation.calibrate` instead of a bound.
"""

from collections.abc import Sequence

import numpy as np

from ecan_core.adaptation.site import SiteAdaptation
from ecan_core.data.inputs import matrix_of

ENCODERS = ("whisper.", "ssl.")
"""How the names of an encoder's numbers begin."""
FOLDS = 5
RIDGE = 300.0
MOST = 4096
"""So many utterances, drawn at random from a larger corpus, are enough."""


def encoder_columns(feature_names: Sequence[str]) -> np.ndarray | None:
    """Mark the numbers that an encoder heard, bool ``[S]``.

    None if there are none.
    """
    heard = np.array([name.startswith(ENCODERS) for name in feature_names])
    return heard if heard.any() else None


def views_of(
    site: SiteAdaptation,
    features: Sequence[np.ndarray],
    speakers: Sequence[str | None],
    feature_names: Sequence[str],
) -> float | None:
    """Measure how often two views tell a committee's answers alike.

    Args:
        site: the committee, as it was adapted.
        features: front-end output per utterance ``[S]``, N of them.
        speakers: as its preparation asks for them.
        feature_names: what each of the S numbers is.

    Returns:
        A share of the utterances; None where there is one view, or the committee diverged.
    """
    columns = encoder_columns(feature_names)
    if columns is None or not np.isfinite(site.scores).all():
        return None
    rows = matrix_of(site.preparation.inputs(features, speakers))
    return agreement_of_views(rows, columns, site.scores.argmax(axis=1), seed=0)


def agreement_of_views(rows: np.ndarray, columns: np.ndarray, guesses: np.ndarray, *, seed: int) -> float | None:
    """Measure how often two views tell the same emotion.

    Args:
        rows: normalized features ``[N, S]``.
        columns: which of them are the second view, bool ``[S]``.
        guesses: guessed classes ``[N]``.
        seed: seed of the draw and of the folds.

    Returns:
        A share of the utterances, 0 to 1; None for fewer than two in each fold.
    """
    order = np.random.default_rng(seed).permutation(len(rows))[:MOST]
    if len(order) < 2 * FOLDS:
        return None
    kinds, targets = np.unique(guesses[order], return_inverse=True)
    known = np.eye(len(kinds))[targets]
    first, second = (_told(rows[order][:, view].astype(np.float64), known) for view in (~columns, columns))
    return float(np.mean(first == second))


def _told(rows: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Tell the class of each by a model that has not seen it ``[N]``."""
    told = np.empty(len(rows), dtype=np.int64)
    for fold in range(FOLDS):
        held = np.arange(len(rows)) % FOLDS == fold
        center, share = rows[~held].mean(axis=0), known[~held].mean(axis=0)
        learned = rows[~held] - center
        gram = learned.T @ learned + RIDGE * np.eye(rows.shape[1])
        weights = np.linalg.solve(gram, learned.T @ (known[~held] - share))
        told[held] = ((rows[held] - center) @ weights + share).argmax(axis=1)
    return told
