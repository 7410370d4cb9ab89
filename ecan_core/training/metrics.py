"""Measure recall, its averages and their uncertainty.

All figures come from the confusion matrix `[C, C]`, whose row is the true class and whose column is the
predicted one. A class that nobody spoke has no recall: it is NaN in `recall` and left out of the average in
`uar`, so a figure over five of six classes is an average of five. Utterances wrongly taken for such a class
still count as errors of the class they belong to.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Confusion = NDArray[np.int64]


def confusion(true: ArrayLike, predicted: ArrayLike, num_classes: int) -> Confusion:
    """Count how often each true class was predicted as each class.

    True and predicted classes are `[N]` each.

    Returns:
        Counts `[C, C]`, rows true, columns predicted.

    Raises:
        ValueError: The two differ in length, are empty, or hold a class outside `0 .. C-1`.
    """
    rows, columns = np.asarray(true, dtype=np.int64), np.asarray(predicted, dtype=np.int64)
    if rows.shape != columns.shape or rows.ndim != 1 or rows.size == 0:
        raise ValueError(f"true {rows.shape} and predicted {columns.shape} must be equally long lists of classes")
    both = np.concatenate([rows, columns])
    if both.min() < 0 or both.max() >= num_classes:
        raise ValueError(f"classes must lie in 0 .. {num_classes - 1}")
    cells = np.bincount(rows * num_classes + columns, minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes)


def recall(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Return the recall of each class `[..., C]` of `[..., C, C]`.

    NaN for a class that does not occur.
    """
    spoken = counts.sum(axis=-1)
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    recalls = np.full(spoken.shape, np.nan)
    np.divide(hits, spoken, out=recalls, where=spoken > 0)
    return recalls


def uar(counts: NDArray[Any]) -> float:
    """Return the unweighted average recall over the classes that occur."""
    return float(np.nanmean(recall(counts)))


def war(counts: NDArray[Any]) -> float:
    """Return the weighted average recall: the share recognized."""
    return float(np.trace(counts) / counts.sum())


def favorite(counts: NDArray[Any]) -> tuple[int, float]:
    """Return the class that is answered most `[C, C]`, and its share.

    The share is that of the answers if classes were equally frequent.

    A network that has collapsed answers one class whatever is spoken; the rates of a corpus where that class is
    frequent do not show it, this share does.
    """
    spoken = counts[counts.sum(axis=1) > 0]
    shares = (spoken / spoken.sum(axis=1, keepdims=True)).mean(axis=0)
    return int(shares.argmax()), float(shares.max())


def bootstrap_interval(
    true: ArrayLike, predicted: ArrayLike, num_classes: int, seed: int, num: int = 1000, level: float = 0.95
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the UAR.

    Drawing N utterances with replacement and counting them is one multinomial draw over the cells of the
    confusion matrix, so all `num` resamples are drawn at once. A class that a resample happens to miss is
    left out of that resample's average, as in `uar`.

    Args:
        true: True classes `[N]`.
        predicted: Predicted classes `[N]`.
        num_classes: C.
        seed: Equal seeds give equal intervals.
        num: Number of resamples.
        level: Share of resamples that lie inside.

    Returns:
        Lower and upper end.

    Source: Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    Differs: nothing.
    """
    counts = confusion(true, predicted, num_classes)
    cells = counts.ravel()
    draws = np.random.default_rng(seed).multinomial(cells.sum(), cells / cells.sum(), size=num)
    uars = np.nanmean(recall(draws.reshape(num, num_classes, num_classes)), axis=-1)
    low, high = np.quantile(uars, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def calibration_error(true: ArrayLike, scores: NDArray[Any], num_groups: int = 10) -> float:
    """Return how far confidence lies from the share of right answers.

    The mean is over groups of utterances with similar confidence.

    Args:
        true: True classes `[N]`.
        scores: Scores `[N, C]`; the highest one is the confidence.
        num_groups: Groups of equal size, by confidence.

    Source: Nguyen & O'Connor, EMNLP 2015 (expected calibration error with groups of equal size).
    Differs: nothing.
    """
    return _gap(scores.max(axis=1), scores.argmax(axis=1) == np.asarray(true), num_groups)


def calibration_interval(
    true: ArrayLike, scores: NDArray[Any], seed: int, num: int = 1000, level: float = 0.95
) -> tuple[float, float]:
    """Return the bootstrap interval of the calibration error.

    A resample adds luck to luck, and so looks less calibrated than the sample; its ends are moved by that difference.

    Args:
        true: True classes `[N]`.
        scores: Scores `[N, C]`.
        seed: Equal seeds give equal intervals.
        num: Number of resamples.
        level: Share of resamples that lie inside.
    """
    confidence, right = scores.max(axis=1), scores.argmax(axis=1) == np.asarray(true)
    draws = np.random.default_rng(seed).integers(len(scores), size=(num, len(scores)))
    errors = [_gap(confidence[rows], right[rows]) for rows in draws]
    low, high = np.quantile(errors, [(1 - level) / 2, (1 + level) / 2]) - np.mean(errors) + _gap(confidence, right)
    return max(float(low), 0.0), float(high)


def calibration_error_by_chance(scores: NDArray[Any], seed: int, num: int = 1000) -> float:
    """Return the mean calibration error that perfect confidence would show.

    Of few utterances some are right by luck, so that this is far from zero.

    Args:
        scores: Scores `[N, C]`, taken for the true chances.
        seed: Equal seeds give equal answers.
        num: Number of draws.
    """
    confidence = scores.max(axis=1)
    hits = np.random.default_rng(seed).random((num, len(scores))) < confidence
    return float(np.mean([_gap(confidence, right) for right in hits]))


def _gap(confidence: NDArray[Any], right: NDArray[Any], num_groups: int = 10) -> float:
    groups = np.array_split(np.argsort(confidence, kind="stable"), min(num_groups, len(confidence)))
    gaps = [len(group) * abs(confidence[group].mean() - right[group].mean()) for group in groups]
    return float(sum(gaps) / len(confidence))


def risk_at_coverage(true: ArrayLike, scores: NDArray[Any], coverage: float) -> float:
    """Return the share of errors among the most confident utterances.

    Args:
        true: True classes `[N]`.
        scores: Scores `[N, C]`; the highest one is the confidence. Of equal ones the earlier counts as higher.
        coverage: Share of the utterances that is looked at, in (0, 1]; at least one is.

    Source: Geifman & El-Yaniv, Selective Classification for Deep Neural Networks, 2017.
    Differs: nothing.
    """
    num = max(1, round(coverage * len(scores)))
    surest = np.argsort(-scores.max(axis=1), kind="stable")[:num]
    return float(np.mean(scores[surest].argmax(axis=1) != np.asarray(true)[surest]))
