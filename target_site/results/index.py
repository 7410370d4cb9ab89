"""Keep an index of the recordings that were predicted: a line for each.

A run looks up what it lists, so that its cost follows what is new and not what was predicted in a year. The index says
which day counts for a recording; what days before it say of the same one is superseded. Recordings are known by digests
of their places: the index holds no name.
"""

import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ecan_core.errors import StorageError
from ecan_core.runtime.closing import Closing
from protocol.files import refuse_link
from target_site.results.calls import Call

INDEX = "index.sqlite"
_SCHEMA = """
CREATE TABLE models (model INTEGER PRIMARY KEY, sha256 TEXT NOT NULL, classes TEXT NOT NULL, UNIQUE (sha256, classes));
CREATE TABLE recordings (
    place BLOB PRIMARY KEY,
    day INTEGER NOT NULL,
    size_bytes INTEGER,
    mtime_ns INTEGER,
    sha256 BLOB,
    listed BLOB NOT NULL,
    is_lost INTEGER NOT NULL,
    model INTEGER,           -- NULL once its predictions have expired
    counts TEXT              -- utterances of each class, then the uncertain ones
) WITHOUT ROWID;
CREATE INDEX by_day ON recordings (day);
CREATE TABLE days (day INTEGER PRIMARY KEY, facts TEXT NOT NULL);
CREATE TABLE runs (ended_at INTEGER NOT NULL);
INSERT INTO runs VALUES (0)
"""
_APPLICATION_ID = 0x45434449  # "ECDI"; SQLite keeps it in the header of the file
_BUSY_TIMEOUT_S = 120.0
_AT_ONCE = 500
_PUT = "INSERT OR REPLACE INTO recordings VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"


class Known(NamedTuple):
    """Hold what is known of a recording since it was last predicted.

    Attributes:
        day: when it was, in days since 1970.
        size_bytes: of the file then; None where there was none.
        mtime_ns: when the file was last changed then.
        sha256: of its bytes then; None where they could not be read.
        listed: digest of what the list said of it then.
        is_lost: nothing was heard that should have been.
    """

    day: int
    size_bytes: int | None
    mtime_ns: int | None
    sha256: str | None
    listed: str
    is_lost: bool


class Touched(NamedTuple):
    """Describe a file that was written anew with the same bytes."""

    place: str
    size_bytes: int
    mtime_ns: int


class Index(Closing):
    """Look up and note what was predicted.

    A change is there whole or not at all.
    """

    def __init__(self, folder: Path, *, is_read_only: bool = False) -> None:
        """Open the index of a folder.

        Args:
            folder: where it lies, or will.
            is_read_only: change nothing; where there is no index, look into an empty one.

        Raises:
            StorageError: it cannot be used.
            FileError: it is a link.
        """
        self._path = folder / INDEX
        refuse_link(self._path)
        try:
            self._connection = self._connected(is_read_only)
        except (OSError, sqlite3.Error) as error:
            raise self._fault(error) from error

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def known(self, places: Sequence[str]) -> dict[str, Known]:
        """Return what is known of those recordings that were predicted."""
        found = {}
        for first in range(0, len(places), _AT_ONCE):
            some = [bytes.fromhex(place) for place in places[first : first + _AT_ONCE]]
            marks = ", ".join("?" * len(some))
            columns = "place, day, size_bytes, mtime_ns, lower(hex(sha256)), lower(hex(listed)), is_lost"
            for place, day, size, mtime, sha256, listed, is_lost in self._run(
                f"SELECT {columns} FROM recordings WHERE place IN ({marks})", *some
            ):
                found[place.hex()] = Known(day, size, mtime, sha256 or None, listed, bool(is_lost))
        return found

    def places_of(self, day: int) -> frozenset[str]:
        """Return the recordings for which a day counts."""
        return frozenset(place.hex() for (place,) in self._run("SELECT place FROM recordings WHERE day = ?", day))

    def counts_of(self, model_sha256: str, classes: Sequence[str], first: int, last: int) -> dict[int, np.ndarray]:
        """Return what a model told of the recordings of some days.

        Args:
            model_sha256: digest of its weights.
            classes: its classes, C.
            first: the first day that counts.
            last: the last one.

        Returns:
            By day ``[calls, C + 1]``: utterances of each class, then the uncertain ones, of every recording with any.
        """
        question = (
            "SELECT day, counts FROM recordings JOIN models USING (model) "
            "WHERE models.sha256 = ? AND models.classes = ? AND day BETWEEN ? AND ? ORDER BY day, place"
        )
        by_day: dict[int, list[list[int]]] = {}
        for day, counts in self._run(question, model_sha256, json.dumps(list(classes)), first, last):
            if any(told := json.loads(counts)):
                by_day.setdefault(day, []).append(told)
        return {day: np.array(rows) for day, rows in by_day.items()}

    def note(
        self,
        day: int,
        calls: Iterable[Call],
        *,
        model_sha256: str,
        classes: Sequence[str],
        touched: Iterable[Touched],
        facts: Mapping[str, Any] | None,
        ended_at: int,
    ) -> None:
        """Note what a run has predicted, all of it or nothing.

        Args:
            day: in days since 1970.
            calls: the recordings for which this day counts from now on.
            model_sha256: digest of the model's weights.
            classes: its classes.
            touched: files that are known and were written anew.
            facts: what `latest_facts` shall say of the day; None where nothing was new.
            ended_at: when the run ended, in seconds since 1970.
        """
        with self._changing():
            words = (model_sha256, json.dumps(list(classes)))
            self._run("INSERT OR IGNORE INTO models (sha256, classes) VALUES (?, ?)", *words)
            ((model,),) = self._run("SELECT model FROM models WHERE sha256 = ? AND classes = ?", *words)
            self._connection.executemany(_PUT, (_row(call, day, model, classes) for call in calls))
            for place, size, mtime in touched:
                changed = "UPDATE recordings SET size_bytes = ?, mtime_ns = ? WHERE place = ?"
                self._run(changed, size, mtime, bytes.fromhex(place))
            if facts is not None:
                self._run("INSERT OR REPLACE INTO days VALUES (?, ?)", day, json.dumps(facts))
            self._run("UPDATE runs SET ended_at = ?", ended_at)

    def days(self) -> list[int]:
        """Return the days that have predictions, the first one first."""
        return [day for (day,) in self._run("SELECT day FROM days ORDER BY day")]

    def latest_facts(self) -> dict[str, Any] | None:
        """Return the facts of the last day that has predictions."""
        found = self._run("SELECT facts FROM days ORDER BY day DESC LIMIT 1")
        return dict(json.loads(found[0][0])) if found else None

    @property
    def ended_at(self) -> int:
        """Return when the last run ended, in seconds since 1970."""
        ((ended_at,),) = self._run("SELECT ended_at FROM runs")
        return int(ended_at)

    def forget(self, places: Iterable[str], day: int, facts: Mapping[str, Any] | None) -> None:
        """Forget recordings of a day, as if they had never been heard.

        ``facts`` are those of what is left of the day; None where nothing is.
        """
        with self._changing():
            for place in places:
                self._run("DELETE FROM recordings WHERE place = ? AND day = ?", bytes.fromhex(place), day)
            self._run("DELETE FROM days WHERE day = ?", day)
            if facts is not None:
                self._run("INSERT INTO days VALUES (?, ?)", day, json.dumps(facts))

    def forget_sounds(self, is_theirs: Callable[[str], bool]) -> None:
        """Forget recordings by their bytes, also of days that expired.

        ``is_theirs`` is asked for each SHA-256, in hexadecimal.
        """
        with self._changing():
            for place, sha256 in self._run("SELECT place, sha256 FROM recordings WHERE sha256 IS NOT NULL"):
                if is_theirs(sha256.hex()):
                    self._run("DELETE FROM recordings WHERE place = ?", place)

    def expire(self, day: int) -> None:
        """Drop what was predicted on a day.

        Its recordings stay known, lest they are predicted again.
        """
        with self._changing():
            self._run("UPDATE recordings SET model = NULL, counts = NULL WHERE day = ?", day)
            self._run("DELETE FROM days WHERE day = ?", day)

    def _connected(self, is_read_only: bool) -> sqlite3.Connection:
        if is_read_only and not self._path.exists():
            return _with_tables(sqlite3.connect(":memory:", isolation_level=None))
        mode = "ro" if is_read_only else "rwc"
        address = f"{self._path.absolute().as_uri()}?mode={mode}"
        connection = sqlite3.connect(address, uri=True, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
        ((owner, num_tables),) = connection.execute(
            "SELECT application_id, (SELECT count(*) FROM sqlite_master) FROM pragma_application_id"
        )
        if owner != _APPLICATION_ID and (num_tables or is_read_only):
            connection.close()
            raise StorageError(f"{self._path} is no index of this version; predict into a new folder.")
        return connection if num_tables else _with_tables(connection)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Open a transaction; what fails within it has never been."""
        self._run("PRAGMA secure_delete = ON")
        self._run("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._run("ROLLBACK")
            raise
        self._run("COMMIT")

    def _run(self, statement: str, *values: object) -> list[Any]:
        try:
            return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._fault(error) from error

    def _fault(self, error: Exception) -> StorageError:
        return StorageError(
            f"The index {self._path} cannot be used ({error}); free disk space and check that its folder is writable, "
            "or predict into a new folder."
        )


def _with_tables(connection: sqlite3.Connection) -> sqlite3.Connection:
    # One transaction: no process ever sees tables without their owner.
    connection.executescript(f"BEGIN IMMEDIATE; PRAGMA application_id={_APPLICATION_ID}; {_SCHEMA}; COMMIT")
    return connection


def _row(call: Call, day: int, model: int, classes: Sequence[str]) -> tuple[object, ...]:
    """Return the columns of a recording."""
    sha256 = None if call.sha256 is None else bytes.fromhex(call.sha256)
    file = (call.size_bytes, call.mtime_ns, sha256, bytes.fromhex(call.listed), call.is_lost)
    return (bytes.fromhex(call.place), day, *file, model, json.dumps(told(call, classes), separators=(",", ":")))


def told(call: Call, classes: Sequence[str]) -> list[int]:
    """Return the utterances of each class, then the uncertain ones."""
    return [*(call.predicted.get(name, 0) for name in classes), call.abstained]
