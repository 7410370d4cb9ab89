"""Make what was predicted part of a day, and write its folder."""

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np

from ecan_core.data.forgotten import NOBODY, Forgotten
from protocol.files import make_private_folder, refuse_link, write_atomic
from protocol.ledger.grants import SECONDS_PER_DAY
from target_site.report.day_page import render_day
from target_site.results.calls import Call, format_calls, uncertain_advice
from target_site.results.days import (
    ALL_DAYS,
    Content,
    Day,
    current_day,
    days_of,
    describe,
    folder_of,
    only,
    read_day,
    summarize,
)
from target_site.results.drift import WEEK_DAYS, WEEKS_BEFORE, find_drift, find_weekly_drift
from target_site.results.index import INDEX, Index, told
from target_site.results.parquet import as_parquet, has_parquet
from target_site.results.runs import Run, drop_run, read_run, unfinished, writing_in_turn
from target_site.results.segments import CALLS, PAGE, PARQUET, SUMMARY, write_segments


def finish_runs(out: Path, left_out: Forgotten = NOBODY, *held: Path) -> None:
    """Finish what processes left that were killed after they had predicted.

    Args:
        out: what `predict` writes into.
        left_out: who was forgotten since.
        held: folders of runs that the caller has locked.
    """
    if (out / INDEX).exists():
        Index(out).close()  # a killed command may have left a journal, which a contained process cannot undo
    tomorrow = int(time.time()) // SECONDS_PER_DAY + 1  # the clock may have been set back
    for folder in chain(unfinished(out), held):
        commit(out, folder, left_out, days=range(tomorrow + 1))


def commit(
    out: Path,
    folder: Path,
    left_out: Forgotten = NOBODY,
    *,
    days: range = ALL_DAYS,
    with_parquet: bool = False,
) -> Day | None:
    """Make what a run has predicted part of its day.

    The files of the day are written first, then the index, then the run is removed. A process that is killed in between
    leaves the run, and committing it once more changes nothing.

    Args:
        out: what `predict` writes into.
        folder: of the run.
        left_out: who was forgotten since it began.
        days: on which it may have been, in days since 1970.
        with_parquet: also write the day as Parquet.

    Returns:
        The day; None if the run has not come to its end or found nothing new.

    Raises:
        UsageError: the run is damaged, or says what cannot be.
        FileError: the folder cannot be written.
        StorageError: the index cannot be written.
    """
    run = read_run(folder, days)
    if run is None:
        return None
    with writing_in_turn(out), Index(out) as index:
        day = _add(out, run, _without(run.content, left_out), index, with_parquet)
        drop_run(folder)
    return day


def _add(out: Path, run: Run, new: Content, index: Index, with_parquet: bool) -> Day | None:
    day = None
    if new.calls:
        day = write_day(out, _whole_day(out, new, index), index, with_parquet=with_parquet)
    index.note(
        new.day,
        new.calls,
        model_sha256=new.model_sha256,
        classes=new.classes,
        touched=run.touched,
        facts=None if day is None else day.facts,
        ended_at=int(time.time()) if day is None else day.ended_at,
    )
    return day


def merge(out: Path, folders: Iterable[Path]) -> list[int]:
    """Join what was predicted into several folders, day by day.

    Where two know the same recording, the later day counts.

    Args:
        out: what gets the days; it may have some already.
        folders: what `predict` wrote into.

    Returns:
        The days that were joined, in days since 1970.

    Raises:
        UsageError: a day is damaged.
        FileError: a folder cannot be read or written.
    """
    parts = sorted((day, folder) for folder in folders for day in days_of(folder))
    with writing_in_turn(out), Index(out) as index:
        for day, folder in parts:
            content = current_day(folder, day)
            later = {place for place, known in index.known([c.place for c in content.calls]).items() if known.day > day}
            new = only(content, {call.place for call in content.calls} - later)
            _add(out, Run(content=new), new, index, (folder_of(folder, day) / PARQUET).exists())
    return sorted({day for day, _ in parts})


def _without(content: Content, left_out: Forgotten) -> Content:
    """Return what was predicted without those who were forgotten meanwhile."""
    return content.without(recordings_of(content, left_out)) if left_out.marks else content


def recordings_of(content: Content, who: Forgotten) -> frozenset[str]:
    """Return the recordings in which somebody is heard."""
    named = {one.recording for one in content.segments if who.covers(Path(one.recording), one.speaker)}
    return frozenset(named.union(call.recording for call in content.calls if _is_of(call, who)))


def _is_of(call: Call, who: Forgotten) -> bool:
    return who.covers(Path(call.recording), None) or who.covers_sound(call.sha256, None)


def _whole_day(out: Path, new: Content, index: Index) -> Content:
    """Return a day with what earlier runs have added to it.

    What the index does not know is of a run that was killed, and comes once more.
    """
    folder = folder_of(out, new.day)
    if not (folder / SUMMARY).exists():
        return new.in_order()
    return new.joined(only(read_day(folder), index.places_of(new.day)))


def write_day(out: Path, content: Content, index: Index, *, with_parquet: bool = False) -> Day:
    """Write all files of a day, each whole or not at all.

    One as Parquet is written where it is asked for or was there.

    Raises:
        FileError: the folder is a link, or a file cannot be written.
    """
    folder = folder_of(out, content.day)
    refuse_link(folder)
    make_private_folder(folder)
    earlier = _earlier(content, index)
    day = _compared(content, folder, earlier)
    write_segments(folder, content.segments, content.classes)
    if with_parquet or (folder / PARQUET).exists():
        _write_parquet(folder, content)
    write_atomic(folder / CALLS, format_calls(content.calls).encode())
    write_atomic(folder / SUMMARY, json.dumps(summarize(content, day), indent=2).encode())
    write_atomic(folder / PAGE, render_day(content, day, _weeks_before(content.day, earlier)).encode())
    return day


def _write_parquet(folder: Path, content: Content) -> None:
    """Write ``segments.parquet``; without pyarrow, remove an old one."""
    if has_parquet():
        write_atomic(folder / PARQUET, as_parquet(content.segments, content.classes))
    else:
        (folder / PARQUET).unlink(missing_ok=True)


def _earlier(content: Content, index: Index) -> dict[int, np.ndarray]:
    """Return the calls by day that a day or its week is compared with.

    Those of its own model alone count.
    """
    first = content.day - WEEK_DAYS * (1 + WEEKS_BEFORE) + 1
    return index.counts_of(content.model_sha256, content.classes, first, content.day - 1)


def _weeks_before(day: int, earlier: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
    """Return the calls of the four weeks before a day."""
    return {before: calls for before, calls in earlier.items() if before >= day - WEEK_DAYS * WEEKS_BEFORE}


def _compared(content: Content, folder: Path, earlier: Mapping[int, np.ndarray]) -> Day:
    """Count a day, compare it with the weeks before, and say what to do."""
    calls = np.array([told(call, content.classes) for call in content.calls if call.utterances])
    day = describe(content, folder, ended_at=int(time.time()))
    if len(calls):
        drift = find_drift(calls, _weeks_before(content.day, earlier), content.classes)
        week = find_weekly_drift({**earlier, content.day: calls}, content.day, content.classes)
        day = replace(day, drift=drift, week=week)
    return replace(day, advice=_advice(day, content.bar))


def _advice(day: Day, bar: str) -> str:
    """Say what to do about a day; empty where nothing is to be done."""
    if day.week is None or not day.week.is_drift:
        return uncertain_advice(day.abstained, day.utterances, bar)
    return (
        "adapt again: the classes of the last 7 days lie further from the four weeks before than chance explains; "
        f"{day.week.moved} went from {100 * day.week.share_before:.0f} % to {100 * day.week.share:.0f} %"
    )
