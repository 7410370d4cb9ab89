"""Draw the page of a day: one self-contained HTML file for a supervisor."""

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import PurePath
from typing import NamedTuple

import numpy as np

from target_site.report.page import REASONS, environment
from target_site.results.calls import Call
from target_site.results.days import Content, Day
from target_site.results.drift import FEWEST_CALLS, FEWEST_DAYS, LEVEL, WEEKS_BEFORE, Drift
from target_site.results.segments import CALLS, UNCERTAIN

MAX_CALLS = 1000
"""Recordings shown; ``calls.jsonl`` has all."""


class ClassShare(NamedTuple):
    """Hold the share of a class today and before, from 0 to 1.

    ``before`` is None where nothing is known of it.
    """

    name: str
    today: float
    before: float | None


class CallRow(NamedTuple):
    """Hold what the page shows of a recording."""

    name: str
    place: str
    changed_at: str
    utterances: int
    confidence: float | None
    uncertain: float
    not_speech: float
    mostly: str
    reasons: str
    superseded: str | None


class Judgement(NamedTuple):
    """Hold what is said of a day; ``tone`` as in the report's headline."""

    tone: str
    mark: str
    title: str
    meaning: str


def render_day(content: Content, day: Day, before: Mapping[int, np.ndarray]) -> str:
    """Render the page as HTML: no script, nothing fetched.

    Args:
        content: what the day holds.
        day: its figures.
        before: calls of the weeks before by day, ``[calls, C + 1]`` each (`target_site.results.index`).
    """
    page = (
        environment()
        .get_template("day.html")
        .render(
            day=day,
            content=content,
            judgement=_judge(day),
            drift=day.drift,
            shares=_shares(day, before),
            num_days=len(before),
            rows=[_row(call) for call in content.calls[:MAX_CALLS]],
            refusals=_refusals(content),
            kinds=_kinds(content, day),
            weeks=WEEKS_BEFORE,
            fewest_days=FEWEST_DAYS,
            fewest_calls=FEWEST_CALLS,
            level=LEVEL,
            calls_file=CALLS,
            has_superseded=any(call.supersedes for call in content.calls),
        )
    )
    # A file name need not be UTF-8: what cannot be encoded is shown as an escape.
    return page.encode(errors="backslashreplace").decode()


def _judge(day: Day) -> Judgement:
    if day.advice:
        title = "Adapt the model again" if day.advice.startswith("adapt again") else "Nearly everything is uncertain"
        return Judgement("bad", "!", title, day.advice[0].upper() + day.advice[1:] + ".")
    if day.drift is None:
        return Judgement(
            "plain",
            "–",
            "Not compared yet",
            f"That needs {FEWEST_CALLS} recordings with speech, and {FEWEST_DAYS} days within {WEEKS_BEFORE} weeks.",
        )
    if day.drift.is_drift:
        return Judgement(
            "unclear",
            "?",
            "This day differs from the weeks before",
            f"{_moved(day.drift)} One day is no reason to act; the page says so when a week differs.",
        )
    return Judgement("good", "✓", "As in the weeks before", "The classes lie where chance and usual days explain them.")


def _moved(drift: Drift) -> str:
    return f"{drift.moved.capitalize()} went from {100 * drift.share_before:.0f} % to {100 * drift.share:.0f} %."


def _shares(day: Day, before: Mapping[int, np.ndarray]) -> list[ClassShare]:
    """Return the shares of the classes and of what is uncertain."""
    names = (*day.counts, UNCERTAIN)
    today = [*day.counts.values(), day.abstained]
    earlier = sum((calls.sum(axis=0) for calls in before.values()), np.zeros(len(names)))
    total = earlier.sum()
    return [
        ClassShare(name, count / max(day.utterances, 1), float(part / total) if total else None)
        for name, count, part in zip(names, today, earlier, strict=True)
    ]


def _row(call: Call) -> CallRow:
    mostly = Counter(call.predicted).most_common(1)
    return CallRow(
        name=PurePath(call.recording).name,
        place=call.recording,
        changed_at=_time(call.mtime_ns),
        utterances=call.utterances,
        confidence=call.confidence,
        uncertain=call.uncertain_share,
        not_speech=call.not_speech_share,
        mostly=mostly[0][0] if mostly and mostly[0][1] else "",
        reasons=", ".join(sorted({one["reason"] for one in call.refused})) if not call.utterances else "",
        superseded=call.supersedes,
    )


def _time(mtime_ns: int | None) -> str:
    if mtime_ns is None:
        return ""
    return datetime.fromtimestamp(mtime_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M")


def _refusals(content: Content) -> list[tuple[str, int, str]]:
    """Count what was left out by reason, with its meaning."""
    counts = Counter(one["reason"] for call in content.calls for one in call.refused)
    return [(reason, count, REASONS.get(reason, "")) for reason, count in counts.most_common()]


def _kinds(content: Content, day: Day) -> list[tuple[str, float]]:
    """Return the shares of what was no speech in all that was loud."""
    lengths = sum((call.not_speech_ms for call in content.calls), Counter[str]())
    return [(REASONS.get(kind, kind), ms / (day.speech_ms + day.not_speech_ms)) for kind, ms in lengths.most_common()]
