"""What this source has let out: one row per grant, one line per thing that happened, each line chained to the last.

    (absent) --issue--> ISSUED --open--> RESERVED --begin_fetch--> STREAMING --close--> CLOSED
                           `--------------carry-----------------------^
    ISSUED, RESERVED, STREAMING --deny--> DENIED
    RESERVED, STREAMING --window or quota is over--> EXPIRED --close: the delivery is proved later--> CLOSED

A change is on the disk before anything that follows from it happens: a grant's one digest before it is offered,
the count before the bytes leave, the receipt before the grant is reported as closed. States only move right.

Every line is the canonical record of one event, and its hash covers the hash of the line before it. The rows
follow from the lines alone, so `Ledger.verify` can rebuild and compare them. Two things it cannot see: the
counters of a row (fetches, sent bytes), which change far too often for a line each, and a ledger that was put
back whole to an earlier day or written anew from its start. Against the latter a target keeps a signed
checkpoint, see `Ledger.contains`.
"""

import contextlib
import fcntl
import functools
import hashlib
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from itertools import zip_longest
from pathlib import Path
from typing import Any, NoReturn

from protocol import canonical
from protocol.errors import Code, ProtocolError, Refused, StorageFault

WINDOW_S = 86_400
"""How long a grant is served after it was first opened, in seconds."""
CLOCK_SLACK_S = 3_600
"""How far the clock may be set back within a window, in seconds; further back is outside of it as well."""
QUOTA_FACTOR = 3
"""How often the bytes of one bundle may leave for its grant."""
MAX_FETCHES = 64
"""How many fetches one grant allows."""

_VERSION = 1
_BUSY_S = 10
_SECONDS_PER_DAY = 86_400
_MAX_RECORD_BYTES = 1024
_WHAT = "line"
_START = hashlib.sha256(b"ecan/ledger/v1").digest()

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
    expires_s INTEGER,
    fetches INTEGER NOT NULL DEFAULT 0 CHECK (fetches BETWEEN 0 AND {MAX_FETCHES}),
    sent_bytes INTEGER NOT NULL DEFAULT 0 CHECK (sent_bytes BETWEEN 0 AND {QUOTA_FACTOR} * size),
    receipt BLOB CHECK ((receipt IS NOT NULL) = (state = 'CLOSED'))
) STRICT;
CREATE INDEX IF NOT EXISTS grants_by_audience ON grants (audience);
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
BEFORE UPDATE OF issued, grant, audience, release, sealed_sha256, size, bundle_sha256, weights_sha256 ON grants
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


class GrantState(StrEnum):
    """How far a grant has come."""

    ISSUED = "ISSUED"
    """Bound to one sealed bundle; its site has not asked for it yet."""
    RESERVED = "RESERVED"
    """Offered to its site; no byte of it has left, and the window is running."""
    STREAMING = "STREAMING"
    """Bytes of its bundle may have left."""
    CLOSED = "CLOSED"
    """The site's receipt is here; nothing leaves for this grant any more."""
    DENIED = "DENIED"
    """The source's officer took it back; nothing leaves for this grant any more."""
    EXPIRED = "EXPIRED"
    """Its window or its quota is over; nothing leaves for this grant any more, but a receipt is still taken."""

    @property
    def has_ended(self) -> bool:
        """Whether nothing may leave any more."""
        return self in (GrantState.CLOSED, GrantState.DENIED, GrantState.EXPIRED)


class _Event(StrEnum):
    ISSUED = "ISSUED"
    OPENED = "OPENED"
    STARTED = "STARTED"
    EXPIRED = "EXPIRED"
    DENIED = "DENIED"
    CLOSED = "CLOSED"


_ISSUED, _RESERVED, _STREAMING = GrantState.ISSUED, GrantState.RESERVED, GrantState.STREAMING

_BEFORE = {
    _Event.OPENED: {_ISSUED, _STREAMING},
    _Event.STARTED: {_ISSUED, _RESERVED},
    _Event.EXPIRED: {_RESERVED, _STREAMING},
    _Event.DENIED: {_ISSUED, _RESERVED, _STREAMING},
    _Event.CLOSED: {_STREAMING, GrantState.EXPIRED},
}

_COMMON: canonical.Schema = {
    "event": canonical.OneOf(tuple(_Event)),
    "grant": canonical.Hex(16),
    "day": canonical.Int(0, 10**9),
}

_FACTS: dict[_Event, canonical.Schema] = {
    _Event.ISSUED: {
        "audience": canonical.Hex(32),
        "model": canonical.Hex(32),
        "release": canonical.Int(1, 10**9),
        "sealed_sha256": canonical.Hex(32),
        "size": canonical.Int(1, 10**15 - 1),
        "bundle_sha256": canonical.Hex(32),
        "weights_sha256": canonical.Hex(32),
    },
    _Event.OPENED: {"expires_s": canonical.Int(0, 10**15 - 1)},
    _Event.CLOSED: {"receipt_sha256": canonical.Hex(32)},
}


@dataclass(frozen=True, kw_only=True)
class SealedFacts:
    """What the one sealed bundle of a grant is.

    Attributes:
        sealed_sha256: SHA-256 of the bytes that leave.
        size: how many they are.
        bundle_sha256: SHA-256 of the plain bundle.
        weights_sha256: SHA-256 of its weights.
    """

    sealed_sha256: bytes
    size: int
    bundle_sha256: bytes
    weights_sha256: bytes


@dataclass(frozen=True, kw_only=True)
class GrantRecord:
    """The row of one grant.

    Attributes:
        grant: the grant's id, 16 bytes.
        audience: fingerprint of the site that it was given to, 32 bytes.
        release: number of the release; it belongs to the model, so grants of one model share it.
        state: how far the grant has come.
        sealed_sha256: SHA-256 of the one byte string that may leave for this grant.
        size: how many bytes these are.
        bundle_sha256: SHA-256 of the plain bundle.
        weights_sha256: SHA-256 of its weights.
        expires_s: when the window ends, in seconds since 1970; None until it is opened over the wire.
        fetches: how many fetches began.
        sent_bytes: how many bytes may have left over the wire; a file that is carried by hand is not counted.
        receipt: the site's signed receipt, once CLOSED.
    """

    grant: bytes
    audience: bytes
    release: int
    state: GrantState
    sealed_sha256: bytes
    size: int
    bundle_sha256: bytes
    weights_sha256: bytes
    expires_s: int | None = None
    fetches: int = 0
    sent_bytes: int = 0
    receipt: bytes | None = None


_COLUMNS = ", ".join(field.name for field in fields(GrantRecord))


@dataclass(frozen=True, kw_only=True)
class Head:
    """The last line, which stands for all lines before it.

    Attributes:
        seq: its number, from 1; 0 for an empty ledger.
        digest: its hash, 32 bytes.
    """

    seq: int
    digest: bytes


class Ledger:
    """The ledger file of a source site; safe to use from several threads and processes, but not across a fork.

    A missing file is an error and never a fresh start: an empty ledger would serve every old grant again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._inode: tuple[int, int] | None = None

    @classmethod
    def create(cls, path: Path) -> "Ledger":
        """Write an empty ledger, readable by its owner only; one that is there already stays as it is.

        Raises:
            StorageFault: it cannot be written.
        """
        try:
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise StorageFault(
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
                entry = {"event": _Event.ISSUED, "grant": grant, "day": _day(now_s), "audience": audience}
                entry |= {"model": model, "release": release} | vars(facts)
                record = _after(None, entry)
                seq = _append(db, entry)
                db.execute("INSERT INTO releases VALUES (?, ?) ON CONFLICT (model) DO NOTHING", (release, model))
                db.execute(
                    f"INSERT INTO grants (issued, {_COLUMNS}) VALUES (?{', ?' * len(vars(record))})",
                    (seq, *vars(record).values()),
                )
        return record

    def open(self, grant: bytes, *, now_s: int) -> GrantRecord:
        """Offer a grant to its site; at the first time the window starts.

        Raises:
            Refused: the grant is unknown, has ended, or its window is over.
        """
        with self._transaction() as db:
            record = _serving(db, grant, now_s)
            if record.expires_s is None:
                record = _move(db, record, _Event.OPENED, now_s, expires_s=now_s + WINDOW_S)
            return record

    def begin_fetch(self, grant: bytes, *, now_s: int) -> GrantRecord:
        """Count one fetch, before its first byte leaves.

        Raises:
            Refused: the grant is unknown, was not opened, has ended, or its window or its fetches are used up.
        """
        with self._transaction() as db:
            record = _serving(db, grant, now_s)
            if record.expires_s is None:
                raise Refused(Code.PROTOCOL, "The grant was not opened.")
            if record.fetches >= MAX_FETCHES:
                _expire(db, record, now_s, Refused(Code.QUOTA, f"The grant's {MAX_FETCHES} fetches are used up."))
            if record.state is _RESERVED:
                record = _move(db, record, _Event.STARTED, now_s)
            db.execute("UPDATE grants SET fetches = fetches + 1 WHERE grant = ?", (grant,))
            return replace(record, fetches=record.fetches + 1)

    def lease(self, grant: bytes, num_bytes: int, *, now_s: int) -> None:
        """Count bytes that are about to leave; what is counted and then not sent stays counted.

        Raises:
            Refused: no fetch has begun, the grant has ended, or its window or its quota is over.
        """
        if num_bytes < 1:
            raise ValueError("a lease is for one byte or more")
        with self._transaction() as db:
            record = _serving(db, grant, now_s)
            if record.fetches == 0:
                raise Refused(Code.STATE, "No fetch has begun for this grant.")
            if record.sent_bytes + num_bytes > QUOTA_FACTOR * record.size:
                _expire(db, record, now_s, Refused(Code.QUOTA, "The grant's quota of bytes is used up."))
            db.execute("UPDATE grants SET sent_bytes = sent_bytes + ? WHERE grant = ?", (num_bytes, grant))

    def carry(self, grant: bytes, *, now_s: int) -> GrantRecord:
        """Note, before it is written, that a file with the bundle is carried by hand; no window starts.

        Raises:
            Refused: the grant is unknown, has ended, or its window is over.
        """
        with self._transaction() as db:
            record = _serving(db, grant, now_s)
            return record if record.state is _STREAMING else _move(db, record, _Event.STARTED, now_s)

    def close(self, grant: bytes, receipt: bytes, *, now_s: int) -> GrantRecord:
        """End a grant with the site's receipt, which the caller has checked; to close it again changes nothing.

        Raises:
            Refused: the grant is unknown, no byte has left for it yet, or it was denied.
        """
        with self._transaction() as db:
            record = _known(db, grant)
            if record.state in (_ISSUED, _RESERVED):
                raise Refused(Code.PROTOCOL, "No byte has left for this grant yet; fetch its bundle first.")
            if record.state is GrantState.DENIED:
                raise ended_grant(record.state)
            if record.state is GrantState.CLOSED:
                return record
            return _move(db, record, _Event.CLOSED, now_s, receipt=receipt)

    def deny(self, grant: bytes, *, now_s: int) -> GrantRecord:
        """Take a grant back: no further byte leaves; one that is denied or expired stays as it is.

        Raises:
            Refused: the grant is unknown, or its bundle was delivered.
        """
        with self._transaction() as db:
            record = _known(db, grant)
            if record.state is GrantState.CLOSED:
                raise Refused(Code.STATE, "This grant is closed: its bundle was delivered; revoke its weights instead.")
            return record if record.state.has_ended else _move(db, record, _Event.DENIED, now_s)

    def find(self, grant: bytes) -> GrantRecord | None:
        """The record of a grant, or None for one that was never issued."""
        with self._connection() as db:
            return _find(db, grant)

    def records(self) -> tuple[GrantRecord, ...]:
        """All grants in the order in which they were issued."""
        with self._connection() as db:
            return tuple(map(_record, db.execute(f"SELECT {_COLUMNS} FROM grants ORDER BY issued")))

    def granted_to(self, audience: bytes) -> tuple[GrantRecord, ...]:
        """All grants of one site, given by its fingerprint, in the order in which they were issued."""
        select = f"SELECT {_COLUMNS} FROM grants WHERE audience = ? ORDER BY issued"
        with self._connection() as db:
            return tuple(map(_record, db.execute(select, (audience,))))

    def head(self) -> Head:
        """The last line as it stands; it is not recomputed."""
        with self._connection() as db:
            return _head(db)

    def contains(self, seq: int, head: bytes) -> bool:
        """Whether a head that was seen earlier is still a line of this ledger.

        It tells a whole ledger from one that was cut short, put back to an earlier day or written anew; call
        `verify` before it, for only the stored hash is compared here.
        """
        if seq == 0:
            return head == _START
        with self._connection() as db:
            row = db.execute("SELECT hash FROM entries WHERE seq = ?", (seq,)).fetchone()
        return row is not None and row[0] == head

    def verify(self) -> Head:
        """Recompute every line, rebuild every row from the lines, and compare.

        Raises:
            StorageFault: the file was changed by something else than this class; it names the first wrong line.
        """
        with self._transaction("DEFERRED") as db:  # one view of all tables, whoever writes meanwhile
            try:
                _check_tables(db)
                return _check_rows(db, *_replay(db))
            except _WrongError as error:
                raise StorageFault(
                    Code.LEDGER,
                    f"The ledger {self._path} was changed from outside: {error}; stop exporting, keep the file for "
                    "an investigation and restore the last copy that holds.",
                ) from error

    @contextlib.contextmanager
    def _issuing(self) -> Iterator[None]:
        """Only one at a time, of all threads and processes, may issue; who dies lets go."""
        try:
            folder = os.open(self._path.absolute().parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise self._unusable(error.strerror) from error
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    @contextlib.contextmanager
    def _transaction(self, how: str = "IMMEDIATE") -> Iterator[sqlite3.Connection]:
        """One change of the ledger: on the disk once the block has ended, undone if it raises."""
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
        """The one connection of this object: SQLite has one writer at a time, so threads may as well queue here."""
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
        except (sqlite3.Error, OSError) as error:
            raise self._unusable(error) from error

    def _unusable(self, why: object) -> StorageFault:
        return StorageFault(
            Code.LEDGER,
            f"The ledger {self._path} cannot be used ({why}); make room or restore it from a backup, "
            "for a new one would forget which grants were served.",
        )


def ended_grant(state: GrantState) -> Refused:
    """What is said of a grant for which nothing leaves any more."""
    why = {
        GrantState.CLOSED: "is closed: its bundle was delivered once",
        GrantState.DENIED: "was taken back by the source",
        GrantState.EXPIRED: "is over: its window has passed or its quota is used up",
    }[state]
    return Refused(Code.STATE, f"This grant {why}; ask the target site for a new request.")


class _WrongError(Exception):
    """What is wrong with the file, as half a sentence."""


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


def _record(row: tuple[Any, ...]) -> GrantRecord:
    values = dict(zip(_COLUMNS.split(", "), row, strict=True))
    return GrantRecord(**values | {"state": GrantState(values["state"])})


def _known(db: sqlite3.Connection, grant: bytes) -> GrantRecord:
    record = _find(db, grant)
    if record is None:
        raise Refused(Code.GRANT, "This grant is not in the ledger; issue it first.")
    return record


def _serving(db: sqlite3.Connection, grant: bytes, now_s: int) -> GrantRecord:
    """The record of a grant for which something may leave now."""
    record = _known(db, grant)
    if record.state.has_ended:
        raise ended_grant(record.state)
    if record.expires_s is not None:
        opened_s = record.expires_s - WINDOW_S
        if not opened_s - CLOCK_SLACK_S <= now_s < record.expires_s:
            _expire(db, record, now_s, ended_grant(GrantState.EXPIRED))
    return record


def _expire(db: sqlite3.Connection, record: GrantRecord, now_s: int, refusal: Refused) -> NoReturn:
    """Refuse, and have it on the disk before, so that a clock set back cannot open the grant again."""
    _move(db, record, _Event.EXPIRED, now_s)
    db.execute("COMMIT")
    raise refusal


def _move(
    db: sqlite3.Connection,
    record: GrantRecord,
    event: _Event,
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
    moved = replace(_after(record, entry), receipt=receipt)
    _append(db, entry)
    db.execute(
        "UPDATE grants SET state = ?, expires_s = ?, receipt = ? WHERE grant = ?",
        (moved.state, moved.expires_s, moved.receipt, moved.grant),
    )
    return moved


def _after(record: GrantRecord | None, entry: dict[str, Any]) -> GrantRecord:
    """The record of a grant after one line more; here the receipt is its SHA-256, for a line holds no more.

    Raises:
        _WrongError: the line cannot follow.
    """
    event = entry["event"]
    if event is _Event.ISSUED:
        if record is not None:
            raise _WrongError("it issues a grant again")
        facts = {name: entry[name] for name in _FACTS[event] if name != "model"}
        return GrantRecord(grant=entry["grant"], state=_ISSUED, **facts)
    if (
        record is None
        or record.state not in _BEFORE[event]
        or (event is _Event.OPENED and record.expires_s is not None)
    ):
        raise _WrongError("it does not follow from the state of its grant")
    if event is _Event.OPENED:
        state = _RESERVED if record.state is _ISSUED else record.state
        return replace(record, state=state, expires_s=entry["expires_s"])
    if event is _Event.STARTED:
        return replace(record, state=_STREAMING)
    return replace(record, state=GrantState(event), receipt=entry.get("receipt_sha256"))


def _release_of(db: sqlite3.Connection, model: bytes) -> int:
    row = db.execute("SELECT release FROM releases WHERE model = ?", (model,)).fetchone()
    if row is None:
        row = db.execute("SELECT COALESCE(MAX(release), 0) + 1 FROM releases").fetchone()
    return int(row[0])


def _append(db: sqlite3.Connection, entry: dict[str, Any]) -> int:
    data = canonical.write_record(entry, _line_schema(entry["event"]), what=_WHAT)
    head = _head(db)
    db.execute("INSERT INTO entries VALUES (?, ?, ?)", (head.seq + 1, data, _hash(head.digest, data)))
    return head.seq + 1


def _head(db: sqlite3.Connection) -> Head:
    row = db.execute("SELECT seq, hash FROM entries ORDER BY seq DESC LIMIT 1").fetchone()
    return Head(seq=0, digest=_START) if row is None else Head(seq=row[0], digest=row[1])


def _hash(previous: bytes, data: bytes) -> bytes:
    return hashlib.sha256(previous + data).digest()


def _line_schema(event: _Event) -> canonical.Schema:
    return {**_COMMON, **_FACTS.get(event, {})}


def _day(now_s: int) -> int:
    return now_s // _SECONDS_PER_DAY


def _check_tables(db: sqlite3.Connection) -> None:
    (verdict,) = db.execute("PRAGMA integrity_check(1)").fetchone()
    if verdict != "ok":
        raise _WrongError(f"the file is damaged ({verdict})")
    if _tables(db) != _fresh_tables():
        raise _WrongError("its tables, constraints or triggers are not those that were made")


def _tables(db: sqlite3.Connection) -> list[tuple[object, ...]]:
    made = db.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name").fetchall()
    return made + db.execute("PRAGMA user_version").fetchall()


@functools.cache
def _fresh_tables() -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        db.executescript(_SCHEMA)
        return _tables(db)


@dataclass(kw_only=True)
class _Rebuilt:
    """A grant as the lines tell it."""

    issued: int
    last: int
    record: GrantRecord


def _replay(db: sqlite3.Connection) -> tuple[Head, dict[bytes, _Rebuilt], dict[bytes, int]]:
    """The last line, and the grants and releases that follow from all lines."""
    head, grants, releases = Head(seq=0, digest=_START), dict[bytes, _Rebuilt](), dict[bytes, int]()
    for seq, data, digest in db.execute("SELECT seq, record, hash FROM entries ORDER BY seq"):
        line = head.seq + 1
        if seq != line:
            raise _WrongError(f"line {line} is missing")
        head = Head(seq=line, digest=_hash(head.digest, data))
        if digest != head.digest:
            raise _WrongError(f"line {line} is not what was written there")
        try:
            entry = _read_line(data)
            if entry["event"] is _Event.ISSUED:
                _check_release(entry, releases)
            known = grants.get(entry["grant"])
            record = _after(known.record if known else None, entry)
        except (ProtocolError, _WrongError) as error:
            why = error if isinstance(error, _WrongError) else "it is not the record of an event"
            raise _WrongError(f"line {line} was never written by this program: {why}") from error
        grants[record.grant] = _Rebuilt(issued=known.issued if known else line, last=line, record=record)
    return head, grants, releases


def _read_line(data: bytes) -> dict[str, Any]:
    value = canonical.parse_object(data, what=_WHAT, max_bytes=_MAX_RECORD_BYTES)
    event = _COMMON["event"].load("event", value.get("event"))
    return canonical.load_fields(value, _line_schema(event), what=_WHAT)


def _check_release(entry: dict[str, Any], releases: dict[bytes, int]) -> None:
    if releases.setdefault(entry["model"], len(releases) + 1) != entry["release"]:
        raise _WrongError("its release does not belong to its model")


def _check_rows(db: sqlite3.Connection, head: Head, grants: dict[bytes, _Rebuilt], releases: dict[bytes, int]) -> Head:
    rows = db.execute(f"SELECT issued, {_COLUMNS} FROM grants ORDER BY issued")
    for row, rebuilt in zip_longest(rows, sorted(grants.values(), key=lambda rebuilt: rebuilt.issued)):
        record = row and _record(row[1:])
        if rebuilt is None:
            raise _WrongError(f"no line issued the grant {record.grant.hex()} that has a row")
        if row is None or (row[0], _as_lines_tell(record)) != (rebuilt.issued, rebuilt.record):
            grant = rebuilt.record.grant.hex()
            raise _WrongError(f"the row of grant {grant} is not what the lines up to line {rebuilt.last} left")
    if dict(db.execute("SELECT model, release FROM releases")) != releases:
        raise _WrongError("the numbers of the releases are not what the lines say")
    return head


def _as_lines_tell(record: GrantRecord) -> GrantRecord:
    """The record without its counters, and with the SHA-256 of its receipt."""
    receipt = None if record.receipt is None else hashlib.sha256(record.receipt).digest()
    return replace(record, fetches=0, sent_bytes=0, receipt=receipt)
