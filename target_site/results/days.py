"""Describe what `predict` wrote on one day.

Every day of run has a folder of its own, named after its date (UTC). Days before are never written again, except to
forget somebody. The index (`target_site.results.index`) says which day counts for a recording.
"""

import json
from collections import Counter
from collections.abc import Container, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from ecan_core.errors import StorageError, UsageError
from ecan_core.model.abstention import shown
from protocol.files import read_bounded
from target_site.results.calls import Call, not_speech_ms
from target_site.results.drift import Drift
from target_site.results.index import INDEX, Index
from target_site.results.rows import FAULTS, MAX_BYTES, built, read_rows
from target_site.results.segments import CALLS, JSONL, PREDICTIONS, SUMMARY, Segment

_FIRST = date(1970, 1, 1)
ALL_DAYS = range((date.max - _FIRST).days + 1)
"""All days that have a date, counted from 1970."""
CONTAINMENT = {
    "level": int,
    "walls": str,
    "accepted": str | None,
    "attempts": int,
    "ways_out": dict[str, list[bool]],
}
"""What `protocol.containment.walls.Containment.as_plain` tells."""


@dataclass(frozen=True, kw_only=True)
class Day:
    """Describe the last day on which something was predicted.

    Attributes:
        date: such as ``2026-11-30``.
        folder: where its files are.
        ended_at: when the last run ended, in seconds since 1970; it may have found nothing new.
        recordings: how many were heard or refused.
        refused: of how many nothing could be used.
        lost: how many of those should have been heard.
        utterances: how many were predicted.
        abstained: from how many of them the model abstains.
        speech_ms: their length together.
        not_speech_ms: length of what was no speech.
        counts: utterances of each class, without the uncertain ones.
        model_sha256: digest of the model's weights.
        drift: how far the day lies from the weeks before; None where too little is known.
        week: how far the last seven days lie from the weeks before them; None where too little is known.
        advice: what to do; empty where nothing is to be done.
    """

    date: str
    folder: Path
    ended_at: int
    recordings: int
    refused: int
    lost: int
    utterances: int
    abstained: int
    speech_ms: int
    not_speech_ms: int
    counts: dict[str, int]
    model_sha256: str
    drift: Drift | None
    week: Drift | None
    advice: str

    @property
    def refused_share(self) -> float:
        """Return the share of recordings of which nothing was used."""
        return _share(self.refused, self.recordings)

    @property
    def abstained_share(self) -> float:
        """Return the share of utterances that are uncertain."""
        return _share(self.abstained, self.utterances)

    @property
    def not_speech_share(self) -> float:
        """Return the share of no speech in all that was loud enough."""
        return _share(self.not_speech_ms, self.not_speech_ms + self.speech_ms)

    @property
    def facts(self) -> dict[str, Any]:
        """Return what the index keeps of the day."""
        return asdict(self) | {"folder": self.folder.name}


@dataclass(frozen=True, kw_only=True)
class Content:
    """Hold all that the folder of a day holds.

    Attributes:
        day: in days since 1970.
        calls: its recordings, by their names.
        segments: their utterances, in the same order.
        classes: of the model.
        model_sha256: digest of its weights.
        least_confidence: the model abstains where it is less sure of a class, by class.
        containment: how the process that read the recordings was contained.
        forgotten: utterances that were left out because somebody was forgotten.
    """

    day: int
    calls: tuple[Call, ...]
    segments: tuple[Segment, ...]
    classes: tuple[str, ...]
    model_sha256: str
    least_confidence: dict[str, float]
    containment: Annotated[dict[str, Any], CONTAINMENT]
    forgotten: int

    @property
    def bar(self) -> str:
        """Say below which confidence the model abstains."""
        return shown(np.array(list(self.least_confidence.values())))

    def without(self, recordings: Container[str]) -> "Content":
        """Return the same day without some recordings."""
        return replace(
            self,
            calls=tuple(call for call in self.calls if call.recording not in recordings),
            segments=tuple(one for one in self.segments if one.recording not in recordings),
        )

    def joined(self, earlier: "Content") -> "Content":
        """Return a day of several runs, of which this is the last."""
        rest = earlier.without({call.recording for call in self.calls})
        both = replace(
            self,
            calls=(*rest.calls, *self.calls),
            segments=(*rest.segments, *self.segments),
            classes=tuple(dict.fromkeys((*self.classes, *rest.classes))),
            containment=min((self.containment, rest.containment), key=lambda one: int(one["level"])),
            forgotten=self.forgotten + rest.forgotten,
        )
        return both.in_order()

    def in_order(self) -> "Content":
        """Return the same day in the order of the recordings' names.

        So it makes no difference which of several runs heard which.
        """
        calls = tuple(sorted(self.calls, key=lambda call: call.recording))
        return replace(self, calls=calls, segments=tuple(sorted(self.segments, key=lambda one: one.recording)))


def date_of(day: int) -> str:
    """Return the date of a day since 1970, such as ``2026-11-30``."""
    return (_FIRST + timedelta(days=day)).isoformat()


def folder_of(out: Path, day: int) -> Path:
    """Return the folder of a day."""
    return out / date_of(day)


def latest_day(out: Path) -> Day | None:
    """Return the last day with predictions; None where there is none.

    Reads the index alone.

    Args:
        out: folder that `predict` writes into.

    Raises:
        StorageError: the index cannot be read.
    """
    with Index(out, is_read_only=True) as index:
        facts, ended_at = index.latest_facts(), index.ended_at
    try:
        return None if facts is None else _day_of(out, facts | {"ended_at": ended_at})
    except FAULTS as fault:
        raise StorageError(f"{out / INDEX} is damaged or of another version; predict into a new folder.") from fault


def _day_of(out: Path, facts: Mapping[str, Any]) -> Day:
    drifts = {name: facts[name] and Drift(**facts[name]) for name in ("drift", "week")}
    return built(Day, {**facts, **drifts, "folder": out / facts["folder"]})


def describe(content: Content, folder: Path, *, ended_at: int) -> Day:
    """Count what a day holds; it is not compared with others yet."""
    told = sum((Counter(call.predicted) for call in content.calls), Counter[str]())
    return Day(
        date=date_of(content.day),
        folder=folder,
        ended_at=ended_at,
        recordings=len(content.calls),
        refused=sum(not call.utterances for call in content.calls),
        lost=sum(call.is_lost for call in content.calls),
        utterances=sum(call.utterances for call in content.calls),
        abstained=sum(call.abstained for call in content.calls),
        speech_ms=sum(call.speech_ms for call in content.calls),
        not_speech_ms=sum(call.not_speech_ms.total() for call in content.calls),
        counts={name: told[name] for name in content.classes},
        model_sha256=content.model_sha256,
        drift=None,
        week=None,
        advice="",
    )


def summarize(content: Content, day: Day) -> dict[str, Any]:
    """Return what ``summary.json`` says of a day."""
    refused = [{"file": call.recording, **one} for call in content.calls for one in call.refused]
    loud = day.speech_ms + day.not_speech_ms
    kinds = not_speech_ms(refused)
    return {
        "day": day.date,
        "ended_at": datetime.fromtimestamp(day.ended_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "recordings": day.recordings,
        "lost": day.lost,
        "utterances": day.utterances,
        "abstained": day.abstained,
        "clipped": [call.recording for call in content.calls for _ in range(call.clipped)],
        "predicted": day.counts,
        "refused": refused,
        "refused_by_reason": dict(Counter(one["reason"] for one in refused)),
        "not_speech": {kind: round(length / loud, 4) for kind, length in kinds.most_common()},
        "superseded": {call.recording: call.supersedes for call in content.calls if call.supersedes is not None},
        "forgotten": content.forgotten,
        "model_sha256": content.model_sha256,
        "classes": list(content.classes),
        "least_confidence": content.least_confidence,
        "containment": content.containment,
        "drift": None if day.drift is None else asdict(day.drift),
        "week": None if day.week is None else asdict(day.week),
        "advice": day.advice,
    }


def read_day(folder: Path) -> Content:
    """Read the folder of a day.

    Raises:
        UsageError: a file is damaged or of another version.
        FileError: a file cannot be read.
        MalformedError: it is too long, or no file.
    """
    calls, segments = read_rows(folder / CALLS, Call), read_rows(folder / JSONL, Segment)
    try:
        said = json.loads(read_bounded(folder / SUMMARY, MAX_BYTES))
        return Content(
            day=(date.fromisoformat(said["day"]) - _FIRST).days,
            calls=tuple(calls),
            segments=tuple(segments),
            classes=tuple(said["classes"]),
            model_sha256=said["model_sha256"],
            least_confidence=said["least_confidence"],
            containment=said["containment"],
            forgotten=said["forgotten"],
        )
    except FAULTS as fault:
        raise UsageError(f"{folder / SUMMARY} is damaged or of another version; predict into a new folder") from fault


def current_segments(folder: Path) -> list[Segment]:
    """Read what counts of all days, or of one.

    Args:
        folder: what `predict` wrote into, or the folder of a day.

    Raises:
        UsageError, FileError, MalformedError: see `read_day`.
    """
    if not (folder / INDEX).exists():
        return read_rows(folder / JSONL, Segment)
    return [one for day in days_of(folder) for one in current_day(folder, day).segments]


def days_kept(out: Path, index: Index) -> list[int]:
    """Return the days with predictions or a line in the index, in order.

    A merge that was killed leaves a folder that the index does not know.
    """
    days = set(index.days())
    for folder in (path for path in out.glob("????-??-??") if any((path / name).exists() for name in PREDICTIONS)):
        with suppress(ValueError):
            days.add((date.fromisoformat(folder.name) - _FIRST).days)
    return sorted(days)


def days_of(out: Path) -> list[int]:
    """Return the days that a folder has predictions of, in order.

    Raises:
        UsageError: nothing was predicted into it.
    """
    if not (out / INDEX).exists():
        raise UsageError(f"{out} holds no predictions; name a folder that `ecan-target predict` wrote into")
    with Index(out, is_read_only=True) as index:
        return index.days()


def current_day(out: Path, day: int) -> Content:
    """Read a day without recordings that a later one has superseded."""
    with Index(out, is_read_only=True) as index:
        return only(read_day(folder_of(out, day)), index.places_of(day))


def only(content: Content, places: Container[str]) -> Content:
    """Return a day with those recordings alone for which it counts."""
    return content.without({call.recording for call in content.calls if call.place not in places})


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
