"""Store the report: its numbers in ``report.json``, and the page.

The page is drawn again from them when figures are added.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from protocol.files import read_bounded, write_atomic
from target_site.model.folder import EVALUATION
from target_site.report.content import ReportContent
from target_site.report.page import render_report

CONTENT, PAGE = "report.json", "report.html"
MAX_BYTES = 1 << 28


def save_report(folder: Path, content: ReportContent) -> None:
    """Write ``report.json`` and the page into a folder for a new model."""
    write_atomic(folder / CONTENT, json.dumps(asdict(content)).encode())
    refresh_page(folder)


def save_evaluation(folder: Path, evaluation: Mapping[str, Any]) -> None:
    """Write ``evaluation.json`` and put its figures into the page."""
    write_atomic(folder / EVALUATION, json.dumps(evaluation, indent=2).encode())
    refresh_page(folder)


def refresh_page(folder: Path) -> None:
    """Draw ``report.html`` from what lies in the folder."""
    content = ReportContent(**json.loads(read_bounded(folder / CONTENT, MAX_BYTES)))
    evaluation = None
    if (folder / EVALUATION).is_file():
        evaluation = json.loads(read_bounded(folder / EVALUATION, MAX_BYTES))
    write_atomic(folder / PAGE, render_report(content, evaluation).encode())
