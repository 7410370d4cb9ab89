"""Hand over what a contained process has predicted.

It writes into a folder of its own, ``run.json`` last. Until that file is there, nothing was predicted; from then on the
process that started it makes the predictions part of a day, or the next one does if that was killed.
"""

import contextlib
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecan_core.errors import UsageError
from protocol.errors import Code, FileError
from protocol.files import make_private_folder, read_bounded, refuse_link, remove_folder, write_atomic
from protocol.locks import FOLDER_LOCK, alone
from target_site.results.calls import Call, format_calls
from target_site.results.days import ALL_DAYS, Content
from target_site.results.index import Touched
from target_site.results.rows import FAULTS, MAX_BYTES, built, read_rows
from target_site.results.segments import CALLS, JSONL, Segment, as_jsonl
from target_site.results.shards import Shard

RUNS = ".heard"
RUN = "run.json"
CACHE = "cache/features.cache"
"""Where a run keeps features, so that it goes on if it was killed; gone once it has ended well."""
PATIENCE_S = 600.0
"""How long a run waits for others that make theirs part of a day."""
_PAUSE_S = 0.05
_WORD = re.compile("[a-z][a-z0-9_-]*")


@dataclass(frozen=True, kw_only=True)
class Run:
    """Hold what one run has predicted.

    Attributes:
        content: what it adds to its day.
        touched: recordings that are known and whose files were written anew with the same bytes.
    """

    content: Content
    touched: tuple[Touched, ...] = ()


def run_folder(out: Path, shard: Shard) -> Path:
    """Return where a run over a share of the recordings writes."""
    return out / RUNS / shard.name


@contextlib.contextmanager
def hearing_alone(out: Path, shard: Shard) -> Iterator[Path]:
    """Hear a share of the recordings as the only process.

    Others may hear other shares at the same time.

    Yields:
        The folder of the run.

    Raises:
        FileError: another process is at it, or the folder is a link or cannot be written.
    """
    folder = run_folder(out, shard)
    refuse_link(folder.parent)
    refuse_link(folder)
    make_private_folder(folder)
    busy = f"Another command is writing into {out}; wait for it, or choose another folder."
    try:
        with alone(_lock(folder), busy):
            try:
                yield folder
            finally:  # while it is still ours
                _remove_empty(folder / "cache", folder)
    finally:
        _remove_empty(folder.parent, out)


def unfinished(out: Path) -> Iterator[Path]:
    """Yield the folders of runs that no process is at any longer.

    Each is locked while the caller deals with it. One that is still running is passed over.

    Raises:
        FileError: one is a link.
    """
    refuse_link(out / RUNS)
    for folder in sorted((out / RUNS).glob("*-of-*/")):
        refuse_link(folder)
        with contextlib.ExitStack() as stack:
            if _take(stack, _lock(folder)):
                yield folder


@contextlib.contextmanager
def writing_in_turn(out: Path) -> Iterator[None]:
    """Write into a folder of days as the only command, once others are done.

    Raises:
        FileError: others are not done after `PATIENCE_S`, or the folder cannot be written.
    """
    make_private_folder(out)
    end = time.monotonic() + PATIENCE_S
    with contextlib.ExitStack() as stack:
        while not _take(stack, out / FOLDER_LOCK):
            if time.monotonic() > end:
                raise FileError(Code.LOCKED, f"Others are writing into {out} for very long; find out what they do.")
            time.sleep(_PAUSE_S)
        yield


def write_run(folder: Path, run: Run) -> None:
    """Write what was predicted, ``run.json`` last.

    Raises:
        FileError: the folder cannot be written.
    """
    facts = {field: value for field, value in vars(run.content).items() if field not in ("calls", "segments")}
    write_atomic(folder / CALLS, format_calls(run.content.calls).encode())
    write_atomic(folder / JSONL, as_jsonl(run.content.segments).encode())
    write_atomic(folder / RUN, json.dumps(facts | {"touched": run.touched}).encode())


def read_run(folder: Path, days: range = ALL_DAYS) -> Run | None:
    """Read what a run has predicted; None if it has not come to its end.

    A contained process wrote it, which a recording may have taken over: nothing is believed without a look
    (`target_site.results.rows`).

    Args:
        folder: of the run.
        days: on which it may have been, in days since 1970.

    Raises:
        UsageError: a file is damaged or of another version.
        FileError: a file cannot be read.
        MalformedError: it is too long, or no file.
    """
    if not (folder / RUN).exists():
        return None
    calls, segments = read_rows(folder / CALLS, Call), read_rows(folder / JSONL, Segment)
    try:
        facts = json.loads(read_bounded(folder / RUN, MAX_BYTES))
        touched = tuple(_touched(one) for one in facts.pop("touched"))
        facts |= {"calls": tuple(calls), "segments": tuple(segments), "classes": tuple(facts["classes"])}
        content = built(Content, facts)
        _refuse_unlike(content, days)
        return Run(content=content, touched=touched)
    except FAULTS as fault:
        raise UsageError(f"{folder} is damaged or of another version; remove it, and predict again") from fault


def _touched(values: Any) -> Touched:
    """Return a touched file, from values that may be anything."""
    touched = built(Touched, dict(zip(Touched._fields, values, strict=True)))
    bytes.fromhex(touched.place)
    return touched


def _refuse_unlike(content: Content, days: range) -> None:
    """Refuse what no run predicts.

    Raises:
        ValueError: it is of another day, names recordings or classes that it does not have, or a class is no word.
    """
    bytes.fromhex(content.model_sha256)
    classes, recordings = set(content.classes), {call.recording for call in content.calls}
    told = {name for one in content.segments for name in (one.label, *one.scores)}
    if not (
        content.day in days
        and content.least_confidence.keys() == classes
        and all(map(_WORD.fullmatch, content.classes))
        and classes >= told.union(*(call.predicted for call in content.calls))
        and recordings.issuperset(one.recording for one in content.segments)
        and len(recordings) == len(content.calls)
    ):
        raise ValueError("no run predicts that")


def drop_run(folder: Path) -> None:
    """Remove the folder of a run, if there is one.

    Raises:
        FileError: it cannot be removed.
    """
    remove_folder(folder, first=RUN)  # without it, what is left counts for nothing


def _take(stack: contextlib.ExitStack, lock: Path) -> bool:
    """Lock a file for as long as the stack is open, if nobody has."""
    try:
        stack.enter_context(alone(lock, "it is locked"))
    except FileError as fault:
        if fault.code is not Code.LOCKED:
            raise
        return False
    return True


def _remove_empty(*folders: Path) -> None:
    """Remove folders that are empty, in this order."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _lock(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")
