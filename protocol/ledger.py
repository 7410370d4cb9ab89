"""What this source has let out: one row per grant, and one line per thing that happened.

    (absent) --reserve--> RESERVED --start--> STREAMING --close--> CLOSED

A change is on the disk before anything that follows from it happens: the digest of a bundle before its first
byte leaves, the receipt before the grant is reported as closed. States only move to the right.
"""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from protocol.errors import Code, Refused, StorageFault

_SCHEMA = """
BEGIN;
CREATE TABLE IF NOT EXISTS grants (
    grant BLOB PRIMARY KEY,
    release INTEGER NOT NULL UNIQUE,
    state TEXT NOT NULL CHECK (state IN ('RESERVED', 'STREAMING', 'CLOSED')),
    digest BLOB NOT NULL,
    receipt BLOB CHECK ((receipt IS NOT NULL) = (state = 'CLOSED'))
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS entries (
    seq INTEGER PRIMARY KEY,
    grant BLOB NOT NULL REFERENCES grants,
    state TEXT NOT NULL,
    digest BLOB NOT NULL,
    day INTEGER NOT NULL
) STRICT;
CREATE TRIGGER IF NOT EXISTS entries_are_never_changed BEFORE UPDATE ON entries
BEGIN SELECT RAISE(ABORT, 'the entries are append-only'); END;
CREATE TRIGGER IF NOT EXISTS entries_are_never_removed BEFORE DELETE ON entries
BEGIN SELECT RAISE(ABORT, 'the entries are append-only'); END;
COMMIT;
"""

_SELECT = "SELECT grant, release, state, digest, receipt FROM grants"


class GrantState(StrEnum):
    """How far a grant has come."""

    RESERVED = "RESERVED"
    """Bound to one bundle; no byte of it has left."""
    STREAMING = "STREAMING"
    """Bytes of its bundle may have left."""
    CLOSED = "CLOSED"
    """The site's receipt is here; nothing leaves for this grant any more."""


@dataclass(frozen=True, kw_only=True)
class GrantRecord:
    """The row of one grant.

    Attributes:
        grant: the grant's id, 16 bytes.
        release: number of the release that the grant was given; unique and rising within this ledger.
        state: how far the grant has come.
        digest: SHA-256 of the one bundle of this grant.
        receipt: the site's signed receipt, once CLOSED.
    """

    grant: bytes
    release: int
    state: GrantState
    digest: bytes
    receipt: bytes | None = None


class Ledger:
    """The ledger file of a source site; safe to use from several threads and processes.

    A missing file is an error and never a fresh start: an empty ledger would serve every old grant again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

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
        with ledger._connection() as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(_SCHEMA)
        return ledger

    def reserve(self, grant: bytes, seal: Callable[[int], bytes], today: int) -> GrantRecord:
        """Bind a grant to one bundle for good.

        Args:
            grant: 16 bytes.
            seal: builds and stores the bundle of a release number and returns its SHA-256. It runs within the
                transaction, so that two exports at once cannot seal two bundles, and not at all if the grant
                is bound already. If it raises, the grant and the number stay free.
            today: days since 1970.

        Returns:
            The record; of an earlier call, in whatever state it is by now.
        """
        with self._transaction() as db:
            record = _find(db, grant)
            if record is None:
                (release,) = db.execute("SELECT COALESCE(MAX(release), 0) + 1 FROM grants").fetchone()
                record = GrantRecord(grant=grant, release=release, state=GrantState.RESERVED, digest=seal(release))
                db.execute(
                    "INSERT INTO grants VALUES (?, ?, ?, ?, NULL)",
                    (grant, release, record.state, record.digest),
                )
                _append(db, record, today)
            return record

    def start(self, grant: bytes, today: int) -> None:
        """Note, before it happens, that bytes of the grant's bundle leave.

        Raises:
            Refused: the grant is closed.
        """
        with self._transaction() as db:
            record = _known(db, grant)
            if record.state is GrantState.CLOSED:
                raise closed_grant()
            if record.state is GrantState.RESERVED:
                _move(db, replace(record, state=GrantState.STREAMING), today)

    def close(self, grant: bytes, receipt: bytes, today: int) -> None:
        """End a grant with the site's receipt; to close it again changes nothing.

        Raises:
            Refused: no byte has left for this grant yet.
        """
        with self._transaction() as db:
            record = _known(db, grant)
            if record.state is GrantState.RESERVED:
                raise Refused(Code.PROTOCOL, "No byte has left for this grant yet; fetch its bundle first.")
            if record.state is GrantState.STREAMING:
                _move(db, replace(record, state=GrantState.CLOSED, receipt=receipt), today)

    def find(self, grant: bytes) -> GrantRecord | None:
        """The record of a grant, or None for one that was never reserved."""
        with self._connection() as db:
            return _find(db, grant)

    def records(self) -> tuple[GrantRecord, ...]:
        """All grants in the order of their releases."""
        with self._connection() as db:
            return tuple(map(_record, db.execute(f"{_SELECT} ORDER BY release")))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """One change of the ledger: on the disk once the block has ended, undone if it raises."""
        with self._connection() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                if db.in_transaction:  # a full disk has rolled it back already
                    db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            address = f"{self._path.absolute().as_uri()}?mode=rw"
            with contextlib.closing(sqlite3.connect(address, uri=True, isolation_level=None, timeout=10)) as db:
                db.execute("PRAGMA synchronous = FULL")
                db.execute("PRAGMA foreign_keys = ON")
                yield db
        except sqlite3.Error as error:
            raise StorageFault(
                Code.LEDGER,
                f"The ledger {self._path} cannot be used ({error}); make room or restore it from a backup, "
                "for a new one would forget which grants were served.",
            ) from error


def closed_grant() -> Refused:
    """What is said of a grant that was delivered."""
    return Refused(
        Code.STATE,
        "This grant is closed: its bundle was delivered once; ask the target site for a new request.",
    )


def _find(db: sqlite3.Connection, grant: bytes) -> GrantRecord | None:
    row = db.execute(f"{_SELECT} WHERE grant = ?", (grant,)).fetchone()
    return None if row is None else _record(row)


def _record(row: tuple[bytes, int, str, bytes, bytes | None]) -> GrantRecord:
    grant, release, state, digest, receipt = row
    return GrantRecord(grant=grant, release=release, state=GrantState(state), digest=digest, receipt=receipt)


def _known(db: sqlite3.Connection, grant: bytes) -> GrantRecord:
    record = _find(db, grant)
    if record is None:
        raise Refused(Code.GRANT, "This grant is not in the ledger; export first.")
    return record


def _move(db: sqlite3.Connection, moved: GrantRecord, today: int) -> None:
    db.execute("UPDATE grants SET state = ?, receipt = ? WHERE grant = ?", (moved.state, moved.receipt, moved.grant))
    _append(db, moved, today)


def _append(db: sqlite3.Connection, record: GrantRecord, today: int) -> None:
    # A hash chain over these lines, and later a signed tree head, belong exactly here.
    db.execute(
        "INSERT INTO entries (grant, state, digest, day) VALUES (?, ?, ?, ?)",
        (record.grant, record.state, record.digest, today),
    )
