"""What the report says, as plain numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class ReportContent:
    """Everything that the page shows except measured recognition rates, which come from ``evaluate``.

    Attributes:
        verdict: ``improved``, ``inconclusive`` or ``reverted``.
        reason: one sentence.
        classes: class names, C.
        shares: predicted class shares ``before`` and ``after``, each ``[C]``.
        maps: two-dimensional views of the features ``before`` and ``after``, each ``[N][2]``.
        predicted: predicted class indices ``before`` and ``after``, each ``[N]``.
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
    epochs: list[dict[str, Any]]
    refused: list[dict[str, str]]
    crossed: list[dict[str, Any]]
    leakage: list[str]
    containment: Mapping[str, Any]
    facts: Mapping[str, str]
