"""What the report says, as plain numbers in ``report.json``: the page is drawn from it again when figures are added."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from protocol.files import read_bounded, write_atomic

CONTENT, PAGE, EVALUATION = "report.json", "report.html", "evaluation.json"
MAX_BYTES = 1 << 28


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
        epochs: one entry per epoch: ``losses`` by name, ``balance``, ``confidence``, ``agreement``.
        refused: file and reason of every utterance that could not be used.
        crossed: one row per run of bytes of the bundle (``field``, ``type``, ``shape``, ``bytes``, ``sha256``,
            ``class``).
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
    facts: Mapping[str, str]


def save_report(folder: Path, content: ReportContent) -> None:
    """Write ``report.json`` and the page; figures of an earlier model are removed."""
    (folder / EVALUATION).unlink(missing_ok=True)
    write_atomic(folder / CONTENT, json.dumps(asdict(content)).encode())
    refresh_page(folder)


def save_evaluation(folder: Path, evaluation: Mapping[str, Any]) -> None:
    """Write ``evaluation.json`` and put its figures into the page."""
    write_atomic(folder / EVALUATION, json.dumps(evaluation, indent=2).encode())
    refresh_page(folder)


def refresh_page(folder: Path) -> None:
    """Draw ``report.html`` from what lies in the folder."""
    from target_site.report import render_report

    content = ReportContent(**json.loads(read_bounded(folder / CONTENT, MAX_BYTES)))
    evaluation = None
    if (folder / EVALUATION).is_file():
        evaluation = json.loads(read_bounded(folder / EVALUATION, MAX_BYTES))
    write_atomic(folder / PAGE, render_report(content, evaluation).encode())
