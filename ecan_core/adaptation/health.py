"""Examine the health of an adaptation, without labels.

Is the model still spread over the classes, and how far has it moved?
"""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Health:
    """Describe the scores of the whole target corpus after an epoch.

    Attributes:
        class_shares: share of utterances predicted as each class ``[C]``.
        balance: entropy of the mean score as a share of ``log C``; 1 is uniform, 0 is one class alone.
        confidence: mean of the largest score.
        agreement: share of utterances predicted as the source model predicts them.
    """

    class_shares: tuple[float, ...]
    balance: float
    confidence: float
    agreement: float


def examine(scores: np.ndarray, source_scores: np.ndarray) -> Health:
    """Describe scores ``[N, C]`` beside the source model's.

    Both are of the same utterances.
    """
    num_classes = scores.shape[1]
    predicted = scores.argmax(axis=1)
    mean = scores.mean(axis=0).clip(1e-12)
    return Health(
        class_shares=tuple((np.bincount(predicted, minlength=num_classes) / len(scores)).tolist()),
        balance=float(-(mean * np.log(mean)).sum() / math.log(num_classes)),
        confidence=float(scores.max(axis=1).mean()),
        agreement=float((predicted == source_scores.argmax(axis=1)).mean()),
    )
