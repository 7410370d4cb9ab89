"""Calibrate scores so that they read as chances, without labels.

How often the model is right is guessed from how sure it is.

Networks that were adapted without labels are far too sure. On the development corpora the default committee's mean
confidence predicts how often it is right: a straight line relates the two as log-odds. Where an encoder hears beside
the statistics, confidence and how often these two views tell the same emotion predict it better together. One
temperature for all scores then lowers the mean confidence to that share. docs/method.md says how large the error is on
a corpus that was not used to find the line.

Source: Guo et al., ICML 2017, arXiv 1706.04599 (temperature scaling).
Differs: the temperature is fitted to a guessed share of right answers, not to labels.
"""

import math

import numpy as np

Line = tuple[float, float]
LINE: Line = (-3.48, 2.05)
"""Log-odds of being right at even confidence, and what each unit of confidence in log-odds adds: the line that
benchmarks/calibration.py draws through its runs."""
WITH_VIEWS = -2.74
"""The same offset where two views are asked: then the log-odds of confidence and of the views' agreement are added."""
ABOVE_CHANCE = 0.02
"""Nothing is guessed to be right less often than this above chance: no temperature makes a score smaller."""
_EXTREME = 1e-6
_COLDEST, _HOTTEST = 0.05, 50.0


def temperature_of(
    scores: np.ndarray, panel_scores: np.ndarray, views: float | None = None, line: Line | None = None
) -> float:
    """Return the temperature at which a model is as sure as it is right.

    How often it is right is guessed, on average over the utterances.

    Args:
        scores: scores of the model ``[N, C]``.
        panel_scores: scores of the default committee on the same utterances; the model may be that committee.
        views: how often two views tell the panel's answers alike (`ecan_core.adaptation.views`); None without them.
        line: offset and slope; None takes those of the product.

    Returns:
        The temperature: above 1 for a model that is too sure; 1 where the panel diverged.
    """
    if not (np.isfinite(scores).all() and np.isfinite(panel_scores).all()):
        return 1.0
    wanted = guessed_accuracy(scores, panel_scores, views, line)
    low, high = _COLDEST, _HOTTEST
    for _ in range(60):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if mean_confidence(soften(scores, middle)) > wanted else (low, middle)
    return round(math.sqrt(low * high), 4)


def guessed_accuracy(
    scores: np.ndarray, panel_scores: np.ndarray, views: float | None = None, line: Line | None = None
) -> float:
    """Guess how often a model is right.

    The guess is the panel's own where both agree. Where they differ, the panel's errors are spread evenly.

    Args:
        scores: scores of the model ``[N, C]``.
        panel_scores: scores of the panel on the same utterances.
        views: how often two views tell the panel's answers alike; None without them.
        line: offset and slope; None takes those of the product.
    """
    others: int = scores.shape[1] - 1
    of_panel = guessed_accuracy_of_panel(panel_scores, views, line)
    agreement = float(np.mean(scores.argmax(axis=1) == panel_scores.argmax(axis=1)))
    return max(of_panel * agreement + (1 - of_panel) * (1 - agreement) / others, _least(1 + others))


def guessed_accuracy_of_panel(panel_scores: np.ndarray, views: float | None = None, line: Line | None = None) -> float:
    """Guess how often the default committee is right.

    Args:
        panel_scores: its scores ``[N, C]``.
        views: how often two views tell its answers alike; None without them.
        line: offset and slope; None takes those of the product.
    """
    offset, slope = line or (LINE if views is None else (WITH_VIEWS, 1.0))
    evidence = 0.0 if views is None else log_odds(views)
    guess = 1 / (1 + math.exp(-(offset + evidence + slope * log_odds(mean_confidence(panel_scores)))))
    return max(guess, _least(panel_scores.shape[1]))


def _least(num_classes: int) -> float:
    """Return the least that is guessed to be right."""
    return 1 / num_classes + ABOVE_CHANCE


def soften(scores: np.ndarray, temperature: float) -> np.ndarray:
    """Rescale scores ``[N, C]`` to another temperature.

    The order of the classes stays.
    """
    # In logarithms and by the largest of a row, so that no power of a small score is lost.
    logits = np.log(scores.clip(np.finfo(np.float32).tiny)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    softened: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return softened


def mean_confidence(scores: np.ndarray) -> float:
    """Return the mean score of the predicted class."""
    return float(scores.max(axis=1).mean())


def log_odds(share: float) -> float:
    """Return the log odds of a share, kept away from 0 and 1."""
    share = min(max(share, _EXTREME), 1 - _EXTREME)
    return math.log(share / (1 - share))
