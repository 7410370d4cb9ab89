"""Draw the report: one self-contained HTML page that an operator can read, print and keep."""

from collections.abc import Mapping
from typing import Any

from target_site.report_content import ReportContent


def render_report(content: ReportContent, evaluation: Mapping[str, Any] | None) -> str:
    """The page as HTML.

    Args:
        content: what the adaptation did.
        evaluation: figures of ``evaluate``; None where no labels were given.
    """
    from html import escape

    return f"<!doctype html><title>{escape(content.verdict)}</title><p>{escape(content.reason)}</p>"
