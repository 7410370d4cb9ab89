"""Record what this source has let out.

One row per grant, one line per event, each line chained to the last.

A change is on the disk before anything that follows from it happens: a grant's one digest before it is offered,
the count before the bytes leave, the receipt before the grant is reported as closed. What may follow what is the
business of `protocol.ledger.grants`.

Every line is the canonical record of one event, and its hash covers the hash of the line before it. The rows
follow from the lines alone, so `Ledger.verify` can rebuild and compare them. Two things it cannot see: the
counters of a row (fetches, sent bytes), which change far too often for a line each, and a ledger that was put
back whole to an earlier day or written anew from its start. Against the latter a target keeps a signed
checkpoint and asks for the hash of its line with every receipt, see `Ledger.digest_at` and `Ledger.contains`.
"""

import contextlib
import functools
import hashlib
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NoReturn

from protocol.errors import Code, FileError, RefusedError
from protocol.ledger import replay
from protocol.ledger.grants import (
    CLOCK_SLACK_S,
    MAX_FETCHES,
    NO_BOOK,
    QUOTA_FACTOR,
    SECONDS_PER_DAY,
    WINDOW_S,
    GrantEvent,
    GrantRecord,
    GrantState,
    SealedFacts,
    advance,
    ended_grant,
    read_line,
    write_line,
)
from protocol.ledger.replay import ForeignChangeError, Head
from protocol.locks import locked

_VERSION = 2
_BUSY_S = 10
_COLUMNS = ", ".join(field.name for field in fields(GrantRecord))

_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS entries (
    seq INTEGER PRIMARY KEY,
    record BLOB NOT NULL,
    hash BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;
CREATE TABLE IF NOT EXISTS releases (
    release INTEGER PRIMARY KEY CHECK (release > 0),
    model BLOB NOT NULL UNIQUE CHECK (length(model) = 32)
) STRICT;
CREATE TABLE IF NOT EXISTS grants (
    issued INTEGER PRIMARY KEY REFERENCES entries,
    grant BLOB NOT NULL UNIQUE CHECK (length(grant) = 16),
    audience BLOB NOT NULL CHECK (length(audience) = 32),
    release INTEGER NOT NULL REFERENCES releases,
    state TEXT NOT NULL CHECK (state IN ('ISSUED', 'RESERVED', 'STREAMING', 'CLOSED', 'DENIED', 'EXPIRED')),
    sealed_sha256 BLOB NOT NULL CHECK (length(sealed_sha256) = 32),
    size INTEGER NOT NULL CHECK (size > 0),
    bundle_sha256 BLOB NOT NULL CHECK (length(bundle_sha256) = 32),
    weights_sha256 BLOB NOT NULL CHECK (length(weights_sha256) = 32),
    book BLOB NOT NULL CHECK (length(book) = 32),
    expires_s INTEGER,
    fetches INTEGER NOT NULL DEFAULT 0 CHECK (fetches BETWEEN 0 AND {MAX_FETCHES}),
    sent_bytes INTEGER NOT NULL DEFAULT 0 CHECK (sent_bytes BETWEEN 0 AND {QUOTA_FACTOR} * size),
    receipt BLOB CHECK ((receipt IS NOT NULL) = (state = 'CLOSED'))
) STRICT;
CREATE TRIGGER IF NOT EXISTS entries_are_only_appended BEFORE INSERT ON entries
WHEN NEW.seq IS NOT (SELECT COALESCE(MAX(seq), 0) + 1 FROM entries)
BEGIN SELECT RAISE(ABORT, 'the entries are append-only'); END;
CREATE TRIGGER IF NOT EXISTS entries_are_never_changed BEFORE UPDATE ON entries
BEGIN SELECT RAISE(ABORT, 'the entries are append-only'); END;
CREATE TRIGGER IF NOT EXISTS entries_are_never_removed BEFORE DELETE ON entries
BEGIN SELECT RAISE(ABORT, 'the entries are append-only'); END;
CREATE TRIGGER IF NOT EXISTS releases_are_never_changed BEFORE UPDATE ON releases
BEGIN SELECT RAISE(ABORT, 'a release belongs to its model for good'); END;
CREATE TRIGGER IF NOT EXISTS releases_are_never_removed BEFORE DELETE ON releases
BEGIN SELECT RAISE(ABORT, 'a release belongs to its model for good'); END;
CREATE TRIGGER IF NOT EXISTS grants_are_bound
BEFORE UPDATE OF issued, grant, audience, release, sealed_sha256, size, bundle_sha256, weights_sha256, book
ON grants
BEGIN SELECT RAISE(ABORT, 'a grant is bound to its bundle for good'); END;
CREATE TRIGGER IF NOT EXISTS grants_are_never_removed BEFORE DELETE ON grants
BEGIN SELECT RAISE(ABORT, 'a grant is bound to its bundle for good'); END;
CREATE TRIGGER IF NOT EXISTS grants_that_ended_never_change BEFORE UPDATE ON grants
WHEN OLD.state IN ('CLOSED', 'DENIED')
BEGIN SELECT RAISE(ABORT, 'the grant has ended'); END;
CREATE TRIGGER IF NOT EXISTS counters_only_rise BEFORE UPDATE ON grants
WHEN NEW.fetches < OLD.fetches OR NEW.sent_bytes < OLD.sent_bytes
BEGIN SELECT RAISE(ABORT, 'the counters only rise'); END;
PRAGMA user_version = {_VERSION};
COMMIT;
"""
_FORMER_INDEX = ("index", "grants_by_audience", "grants", "CREATE INDEX grants_by_audience ON grants (audience)")
"""Ledgers of before have one index more, which nothing reads; it is no change by a stranger."""


class Ledger:
    """Keep the ledger file of a source site.

    Safe to use from several threads and processes, but not across a fork.

    A missing file is an error and never a fresh start: an empty ledger would serve every old grant again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._inode: tuple[int, int] | None = None

    @classmethod
    def create(cls, path: Path) -> "Ledger":
        """Write an empty ledger, readable by its owner only.

        One that is already there stays as it is.

        Raises:
            FileError: it cannot be written.
        """
        try:
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise FileError(
                Code.LEDGER, f"The ledger {path} cannot be created ({error.strerror}); choose another place."
            ) from error
        ledger = cls(path)
        with ledger._explained(), contextlib.closing(_connect(path)) as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(_SCHEMA)
        return ledger

    def issue(
        self, grant: bytes, audience: bytes, model: bytes, seal: Callable[[int], SealedFacts], *, now_s: int
    ) -> GrantRecord:
        """Bind a grant to one sealed bundle for good.

        Args:
            grant: 16 bytes.
            audience: fingerprint of the site, 32 bytes.
            model: SHA-256 of the model's tensor file, 32 bytes; the same model gets the same release number.
            seal: builds and stores the sealed bundle of a release number. No other grant is issued meanwhile, so
                two calls at once cannot seal two bundles, and exports go on meanwhile. It does not run if the
                grant was issued before. If it raises, the grant and the number stay free.
            now_s: seconds since 1970.

        Returns:
            The record; of an earlier call, in whatever state it is by now.
        """
        with self._issuing():
            record = self.find(grant)
            if record is not None:
                return record
            with self._connection() as db:
                release = _release_of(db, model)
            facts = seal(release)
            with self._transaction() as db:
                # Still true is what was found above: all that adds grants and releases holds `_issuing`.
                entry = {"event": GrantEvent.ISSUED, "grant": grant, "day": _day(now_s), "audience": audience}
                entry |= {"model": model, "release": release} | vars(facts)
                record = advance(None, entry)
                seq = _append(db, entry)
                db.execute("INSERT INTO releases VALUES (?, ?) ON CONFLICT (model) DO NOTHING", (release, model))
                db.execute(
                    f"INSERT INTO grants (issued, {_COLUMNS}) VALUES (?{', ?' * len(vars(record))})",
                    (seq, *vars(record).values()),
                )
        return record

    def open(self, grant: bytes, *, now_s: int) -> GrantRecord:
        """Offer a grant to its site; the first time starts the window.

        Raises:
            RefusedError: the grant is unknown, has ended, or its window is over.
        """
        with self._transaction() as db:
            record = _serving(db, grant, now_s)
            if record.expires_s is None:
                record = _move(db, record, GrantEvent.OPENED, now_s, expires_s=now_s + WINDOW_S)
            return record

    def begin_fetch(self, grant: bytes, *, now_s: int) -> GrantRecord:
        """Count one fetch, before its first byte leaves.

        Raises:
            RefusedError: the grant is unknown, was not opened, has ended, or its window or its fetches are used up.
        """
        with self._transaction() as db:
            record = _serving(db, grant, now_s)
            if record.expires_s is None:
                raise RefusedError(Code.PROTOCOL, "The grant was not opened.")
            if record.fetches >= MAX_FETCHES:
                _expire(db, record, now_s, RefusedError(Code.QUOTA, f"The grant's {MAX_FETCHES} fetches are used up."))
            if record.state is GrantState.RESERVED:
                record = _move(db, record, GrantEvent.STARTED, now_s)
            db.execute("UPDATE grants SET fetches = fetches + 1 WHERE grant = ?", (grant,))
            return replace(record, fetches=record.fetches + 1)

    def lease(self, grant: bytes, num_bytes: int, *, now_s: int) -> None:
        """Count bytes that are about to leave; unsent ones stay counted.

        Raises:
            RefusedError: no fetch has begun, the grant has ended, or its window or its quota is over.
        """
        if num_bytes < 1:
            raise ValueError("a lease is for one byte or more")
        with self._transaction() as db:
            record = _serving(db, grant, now_s)
            if record.fetches == 0:
                raise RefusedError(Code.STATE, "No fetch has begun for this grant.")
            if record.sent_bytes + num_bytes > QUOTA_FACTOR * record.size:
                _expire(db, record, now_s, RefusedError(Code.QUOTA, "The grant's quota of bytes is used up."))
            db.execute("UPDATE grants SET sent_bytes = sent_bytes + ? WHERE grant = ?", (num_bytes, grant))

    def carry(self, grant: bytes, *, now_s: int) -> GrantRecord:
        """Note that a file with the bundle is about to be carried by hand.

        It is noted before the file is written. No window starts.

        Raises:
            RefusedError: the grant is unknown, has ended, or its window is over.
        """
        with self._transaction() as db:
            record = _serving(db, grant, now_s)
            return record if record.state is GrantState.STREAMING else _move(db, record, GrantEvent.STARTED, now_s)

    def close(self, grant: bytes, receipt: bytes, *, now_s: int) -> GrantRecord:
        """Close a grant with the site's receipt.

        The caller has checked it. To close a grant again changes nothing.

        Raises:
            RefusedError: the grant is unknown, no byte has left for it yet, or it was denied.
        """
        with self._transaction() as db:
            record = _known(db, grant)
            if record.state in (GrantState.ISSUED, GrantState.RESERVED):
                raise RefusedError(Code.PROTOCOL, "No byte has left for this grant yet; fetch its bundle first.")
            if record.state is GrantState.DENIED:
                raise ended_grant(record.state)
            if record.state is GrantState.CLOSED:
                return record
            return _move(db, record, GrantEvent.CLOSED, now_s, receipt=receipt)

    def deny(self, grant: bytes, *, now_s: int) -> GrantRecord:
        """Deny a grant: no further byte leaves.

        One that is denied or expired stays as it is.

        Raises:
            RefusedError: the grant is unknown, or its bundle was delivered.
        """
        with self._transaction() as db:
            record = _known(db, grant)
            if record.state is GrantState.CLOSED:
                raise RefusedError(
                    Code.STATE, "This grant is closed: its bundle was delivered; revoke its weights instead."
                )
            return record if record.state.has_ended else _move(db, record, GrantEvent.DENIED, now_s)

    def deny_open(self, *, now_s: int, fits: Callable[[GrantRecord], bool] = lambda _: True) -> tuple[GrantRecord, ...]:
        """Deny every open grant that fits.

        It denies them at once, and then one more that was being issued at this moment.

        Whatever keeps further grants from being issued, such as a list of what is withdrawn, must stand before.

        Args:
            now_s: seconds since 1970.
            fits: which grants are meant; all of them if it is not given.

        Returns:
            The grants that were open, as they are now.
        """
        with self._transaction() as db:
            denied = _deny_open(db, fits, now_s)
        with self._issuing(), self._transaction() as db:
            return denied + _deny_open(db, fits, now_s)

    def find(self, grant: bytes) -> GrantRecord | None:
        """Find the record of a grant; None for one that was never issued."""
        with self._connection() as db:
            return _find(db, grant)

    def records(self) -> tuple[GrantRecord, ...]:
        """Return all grants in the order in which they were issued."""
        with self._connection() as db:
            return tuple(map(_record, db.execute(f"SELECT {_COLUMNS} FROM grants ORDER BY issued")))

    def last_days(self) -> dict[GrantEvent, int]:
        """Return the day of each event's last line, in days since 1970."""
        with self._connection() as db:
            lines = [read_line(line) for (line,) in db.execute("SELECT record FROM entries ORDER BY seq")]
        return {line["event"]: line["day"] for line in lines}

    def book(self) -> bytes:
        """Return the digest of the book that counts models by their speech.

        The digest is that of the moment when the last grant was issued.
        """
        with self._connection() as db:
            row = db.execute("SELECT book FROM grants ORDER BY issued DESC LIMIT 1").fetchone()
        return NO_BOOK if row is None else bytes(row[0])

    def head(self) -> Head:
        """Return the last line as it stands; it is not recomputed."""
        with self._connection() as db:
            return _head(db)

    def contains(self, seq: int, head: bytes) -> bool:
        """Return whether an earlier head is still a line of this ledger.

        It tells a whole ledger from one that was cut short, put back to an earlier day or written anew; call
        `verify` before it, for only the stored hash is compared here.
        """
        return head == (replay.EMPTY.digest if seq == 0 else self.digest_at(seq))

    def digest_at(self, seq: int) -> bytes | None:
        """Return the stored hash of a line; None if there is no such line.

        It stands for all lines up to it.
        """
        with self._connection() as db:
            row = db.execute("SELECT hash FROM entries WHERE seq = ?", (seq,)).fetchone()
        return None if row is None else bytes(row[0])

    def verify(self) -> Head:
        """Recompute every line, rebuild every row, and compare.

        Raises:
            FileError: the file was changed by something else than this class; it names the first wrong line.
        """
        with self._transaction("DEFERRED") as db:  # one view of all tables, whoever writes meanwhile
            try:
                _check_tables(db)
                history = replay.replay(db.execute("SELECT seq, record, hash FROM entries ORDER BY seq"))
                replay.compare(history, _rows(db), db.execute("SELECT model, release FROM releases"))
            except ForeignChangeError as error:
                raise FileError(
                    Code.LEDGER,
                    f"The ledger {self._path} was changed from outside: {error}; stop exporting, keep the file for "
                    "an investigation and restore the last copy that holds.",
                ) from error
        return history.head

    @contextlib.contextmanager
    def _issuing(self) -> Iterator[None]:
        """Let only one thread or process issue at a time.

        The lock of a process that dies is released.
        """
        try:
            folder = os.open(self._path.absolute().parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise self._unusable(error.strerror) from error
        with locked(folder):
            yield

    @contextlib.contextmanager
    def _transaction(self, how: str = "IMMEDIATE") -> Iterator[sqlite3.Connection]:
        """Change the ledger once: all on the disk in the end, or nothing.

        It is undone if the block raises.
        """
        with self._connection() as db:
            try:
                db.execute(f"BEGIN {how}")
                yield db
                db.execute("COMMIT")
            finally:
                if db.in_transaction:  # it raised, and neither `_expire` nor a full disk has ended it already
                    db.execute("ROLLBACK")

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """Lend the one connection of this object.

        SQLite has one writer at a time, so threads may as well wait here.
        """
        with self._lock, self._explained():
            status = self._path.stat()
            if self._db is None:
                self._db = _connect(self._path)
                weakref.finalize(self, self._db.close)
                self._inode = (status.st_dev, status.st_ino)
            if self._inode != (status.st_dev, status.st_ino):
                raise self._unusable("another file has taken its place; end all commands that use it")
            yield self._db

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:  # its own words may quote the file
            raise self._unusable(getattr(error, "sqlite_errorname", type(error).__name__)) from error
        except OSError as error:
            raise self._unusable(error.strerror) from error

    def _unusable(self, why: object) -> FileError:
        return FileError(
            Code.LEDGER,
            f"The ledger {self._path} cannot be used ({why}); make room or restore it from a backup, "
            "for a new one would forget which grants were served.",
        )


def _connect(path: Path) -> sqlite3.Connection:
    address = f"{path.absolute().as_uri()}?mode=rw"
    db = sqlite3.connect(address, uri=True, isolation_level=None, timeout=_BUSY_S, check_same_thread=False)
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA foreign_keys = ON")
    db.execute("PRAGMA trusted_schema = OFF")
    return db


def _find(db: sqlite3.Connection, grant: bytes) -> GrantRecord | None:
    row = db.execute(f"SELECT {_COLUMNS} FROM grants WHERE grant = ?", (grant,)).fetchone()
    return None if row is None else _record(row)


def _rows(db: sqlite3.Connection) -> Iterator[tuple[int, GrantRecord]]:
    """Yield every grant after the line that issued it.

    Grants come in the order of these lines.
    """
    for issued, *row in db.execute(f"SELECT issued, {_COLUMNS} FROM grants ORDER BY issued"):
        yield issued, _record(row)


def _record(row: Sequence[Any]) -> GrantRecord:
    values = dict(zip(_COLUMNS.split(", "), row, strict=True))
    return GrantRecord(**values | {"state": GrantState(values["state"])})


def _known(db: sqlite3.Connection, grant: bytes) -> GrantRecord:
    record = _find(db, grant)
    if record is None:
        raise RefusedError(Code.GRANT, "This grant is not in the ledger; issue it first.")
    return record


def _serving(db: sqlite3.Connection, grant: bytes, now_s: int) -> GrantRecord:
    """Return the record of a grant for which something may leave now."""
    record = _known(db, grant)
    if record.state.has_ended:
        raise ended_grant(record.state)
    if record.expires_s is not None:
        opened_s = record.expires_s - WINDOW_S
        if not opened_s - CLOCK_SLACK_S <= now_s < record.expires_s:
            _expire(db, record, now_s, ended_grant(GrantState.EXPIRED))
    return record


def _expire(db: sqlite3.Connection, record: GrantRecord, now_s: int, refusal: RefusedError) -> NoReturn:
    """Expire a grant on the disk, then refuse it.

    A clock that is set back thus cannot open it again.
    """
    _move(db, record, GrantEvent.EXPIRED, now_s)
    db.execute("COMMIT")
    raise refusal


def _move(
    db: sqlite3.Connection,
    record: GrantRecord,
    event: GrantEvent,
    now_s: int,
    *,
    expires_s: int | None = None,
    receipt: bytes | None = None,
) -> GrantRecord:
    entry: dict[str, Any] = {"event": event, "grant": record.grant, "day": _day(now_s)}
    if expires_s is not None:
        entry["expires_s"] = expires_s
    if receipt is not None:
        entry["receipt_sha256"] = hashlib.sha256(receipt).digest()
    moved = replace(advance(record, entry), receipt=receipt)
    _append(db, entry)
    db.execute(
        "UPDATE grants SET state = ?, expires_s = ?, receipt = ? WHERE grant = ?",
        (moved.state, moved.expires_s, moved.receipt, moved.grant),
    )
    return moved


def _deny_open(db: sqlite3.Connection, fits: Callable[[GrantRecord], bool], now_s: int) -> tuple[GrantRecord, ...]:
    open_ones = [record for _, record in _rows(db) if not record.state.has_ended and fits(record)]
    return tuple(_move(db, record, GrantEvent.DENIED, now_s) for record in open_ones)


def _release_of(db: sqlite3.Connection, model: bytes) -> int:
    row = db.execute("SELECT release FROM releases WHERE model = ?", (model,)).fetchone()
    if row is None:
        row = db.execute("SELECT COALESCE(MAX(release), 0) + 1 FROM releases").fetchone()
    return int(row[0])


def _append(db: sqlite3.Connection, entry: dict[str, Any]) -> int:
    line = write_line(entry)
    head = _head(db).then(line)
    db.execute("INSERT INTO entries VALUES (?, ?, ?)", (head.seq, line, head.digest))
    return head.seq


def _head(db: sqlite3.Connection) -> Head:
    row = db.execute("SELECT seq, hash FROM entries ORDER BY seq DESC LIMIT 1").fetchone()
    return replay.EMPTY if row is None else Head(seq=row[0], digest=row[1])


def _day(now_s: int) -> int:
    return now_s // SECONDS_PER_DAY


def _check_tables(db: sqlite3.Connection) -> None:
    (verdict,) = db.execute("PRAGMA integrity_check(1)").fetchone()
    if verdict != "ok":
        raise ForeignChangeError(f"the file is damaged ({verdict})")
    if _tables(db) != _fresh_tables():
        raise ForeignChangeError("its tables, constraints or triggers are not those that were made")


def _tables(db: sqlite3.Connection) -> list[tuple[object, ...]]:
    made = db.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name").fetchall()
    return [one for one in made if one != _FORMER_INDEX] + db.execute("PRAGMA user_version").fetchall()


@functools.cache
def _fresh_tables() -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        db.executescript(_SCHEMA)
        return _tables(db)
