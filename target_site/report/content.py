"""Hold what the report says, as plain numbers."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

MAX_GROUPS = 100
"""Speakers shown, the most talkative first: a call centre has thousands."""


@dataclass(frozen=True, kw_only=True)
class ReportContent:
    """Hold everything that the page shows except measured rates.

    Measured recognition rates come from ``evaluate``.

    Attributes:
        verdict: ``improved``, ``inconclusive`` or ``reverted``.
        reason: one sentence.
        classes: class names, C.
        shares: predicted class shares ``before`` and ``after``, each ``[C]``.
        maps: two-dimensional views of the features ``before`` and ``after``, each ``[N][2]``.
        predicted: predicted class indices ``before`` and ``after``, each ``[N]``.
        abstained: from how many utterances the model that is kept abstains.
        least_confidence: below which it does, in words.
        temperature: at which its scores are calibrated; 1 where they are not.
        groups: by ``channel`` and by ``speaker``, where those are known: its name, number of utterances and shares
            ``[C]`` as the model that is kept predicts them; the largest `MAX_GROUPS` alone.
        epochs: one entry per epoch of the committee's first member in the last round: ``losses`` by name,
            ``balance``, ``confidence``, ``agreement``.
        refused: file and reason of every utterance that could not be used.
        crossed: one row per run of bytes of the bundle (``field``, ``type``, ``shape``, ``bytes``, ``sha256``,
            ``class``).
        leakage: what the source states about leakage, sentence by sentence; its own word.
        containment: how the process that read the recordings was shut in (`Containment.as_plain`).
        facts: what the model was made from and how, in the order shown.
    """

    verdict: str
    reason: str
    classes: list[str]
    shares: Mapping[str, list[float]]
    maps: Mapping[str, list[list[float]]]
    predicted: Mapping[str, list[int]]
    abstained: int
    least_confidence: str
    temperature: float
    groups: Mapping[str, list[dict[str, Any]]]
    epochs: list[dict[str, Any]]
    refused: list[dict[str, str]]
    crossed: list[dict[str, Any]]
    leakage: list[str]
    containment: Mapping[str, Any]
    facts: Mapping[str, str]


def class_shares(predicted: np.ndarray, num_classes: int) -> list[float]:
    """Return the share of each class ``[C]`` among predictions ``[N]``.

    Predictions are class indices.
    """
    shares: list[float] = (np.bincount(predicted, minlength=num_classes) / len(predicted)).tolist()
    return shares


def shares_by_group(names: Sequence[str | None], predicted: np.ndarray, num_classes: int) -> list[dict[str, Any]]:
    """Return the class shares of every group of utterances.

    Args:
        names: whose each of the N utterances is; None where that is unknown.
        predicted: class indices ``[N]``.
        num_classes: C.

    Returns:
        Name, number of utterances and shares ``[C]`` of each group, the largest first; nothing where no name is known.
    """
    of_whom = np.array([name or "" for name in names])
    largest = Counter(name for name in names if name).most_common(MAX_GROUPS)
    return [
        {"name": name, "utterances": count, "shares": class_shares(predicted[of_whom == name], num_classes)}
        for name, count in largest
    ]
