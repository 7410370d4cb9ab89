"""What this source has let out: one row per grant, and one line per thing that happened.

    (absent) --admit--> ISSUED --reserve--> RESERVED --start--> STREAMING --close--> CLOSED

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
CREATE TABLE grants (
    grant BLOB PRIMARY KEY,
    release INTEGER NOT NULL UNIQUE,
    state TEXT NOT NULL CHECK (state IN ('ISSUED', 'RESERVED', 'STREAMING', 'CLOSED')),
    digest BLOB CHECK ((digest IS NULL) = (state = 'ISSUED')),
    receipt BLOB CHECK ((receipt IS NOT NULL) = (state = 'CLOSED'))
) STRICT, WITHOUT ROWID;
CREATE TABLE entries (
    seq INTEGER PRIMARY KEY,
    grant BLOB NOT NULL REFERENCES grants,
    state TEXT NOT NULL,
    digest BLOB,
    day INTEGER NOT NULL
) STRICT;
CREATE TRIGGER entries_are_never_changed BEFORE UPDATE ON entries
BEGIN SELECT RAISE(ABORT, 'the entries are append-only'); END;
CREATE TRIGGER entries_are_never_removed BEFORE DELETE ON entries
BEGIN SELECT RAISE(ABORT, 'the entries are append-only'); END;
"""


class GrantState(StrEnum):
    """How far a grant has come."""

    ISSUED = "ISSUED"
    """Admitted with a release number; nothing is sealed for it."""
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
        grant: 16 bytes, the grant's id.
        release: Number of the release that the grant was given; unique and rising within this ledger.
        state: How far the grant has come.
        digest: SHA-256 of the one bundle of this grant, from RESERVED on.
        receipt: The site's signed receipt, once CLOSED.
    """

    grant: bytes
    release: int
    state: GrantState
    digest: bytes | None
    receipt: bytes | None


class Ledger:
    """The ledger file of a source site; safe to use from several threads and processes.

    A missing file is an error and never a fresh start: an empty ledger would serve every old grant again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def create(cls, path: Path) -> "Ledger":
        """Writes an empty ledger, readable by its owner only.

        Raises:
            StorageFault: There is a file at `path`, or it cannot be written.
        """
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except OSError as error:
            raise StorageFault(
                Code.LEDGER, f"The ledger {path} cannot be created ({error.strerror}); choose another place."
            ) from error
        ledger = cls(path)
        with ledger._connection() as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(_SCHEMA)
        return ledger

    def admit(self, grant: bytes, today: int) -> GrantRecord:
        """The record of a grant, which gets the next release number when it is new.

        Args:
            grant: 16 bytes.
            today: Days since 1970-01-01.
        """
        with self._transaction() as db:
            record = _find(db, grant)
            if record is None:
                (release,) = db.execute("SELECT COALESCE(MAX(release), 0) + 1 FROM grants").fetchone()
                record = GrantRecord(
                    grant=grant, release=release, state=GrantState.ISSUED, digest=None, receipt=None
                )
                db.execute("INSERT INTO grants VALUES (?, ?, ?, NULL, NULL)", (grant, release, record.state))
                _append(db, record, today)
            return record

    def reserve(self, grant: bytes, seal: Callable[[], bytes], today: int) -> GrantRecord:
        """Binds an issued grant to one bundle for good.

        Args:
            grant: 16 bytes, an admitted grant.
            seal: Builds and stores the bundle and returns its SHA-256. Called within the transaction, so that
                two exports at once cannot seal two bundles; not called when the grant is bound already.
            today: Days since 1970-01-01.

        Returns:
            The record, in the state RESERVED or later.
        """
        with self._transaction() as db:
            record = _known(db, grant)
            if record.state is not GrantState.ISSUED:
                return record
            return _move(db, record, GrantState.RESERVED, today, digest=seal())

    def start(self, grant: bytes, today: int) -> None:
        """Notes, before the first byte leaves, that bytes of the grant's bundle leave.

        Raises:
            Refused: The grant is closed (STATE) or has no bundle yet (PROTOCOL).
        """
        with self._transaction() as db:
            record = _known(db, grant)
            if record.state is GrantState.RESERVED:
                _move(db, record, GrantState.STREAMING, today)
            elif record.state is not GrantState.STREAMING:
                raise _wrong_state(record)

    def close(self, grant: bytes, receipt: bytes, today: int) -> None:
        """Ends a grant with the site's receipt; the same grant may be closed again without effect.

        Raises:
            Refused: No byte has left for this grant yet (PROTOCOL).
        """
        with self._transaction() as db:
            record = _known(db, grant)
            if record.state is GrantState.STREAMING:
                _move(db, record, GrantState.CLOSED, today, receipt=receipt)
            elif record.state is not GrantState.CLOSED:
                raise _wrong_state(record)

    def find(self, grant: bytes) -> GrantRecord | None:
        """The record of a grant, or None for one that was never admitted."""
        with self._connection() as db:
            return _find(db, grant)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """One change of the ledger: on the disk when the block ends, undone when it raises."""
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
            with contextlib.closing(
                sqlite3.connect(address, uri=True, isolation_level=None, timeout=10)
            ) as db:
                db.execute("PRAGMA synchronous = FULL")
                db.execute("PRAGMA foreign_keys = ON")
                yield db
        except sqlite3.Error as error:
            raise StorageFault(
                Code.LEDGER,
                f"The ledger {self._path} cannot be used ({error}); make room or restore it from a backup, "
                "for a new one would forget which grants were served.",
            ) from error


def _find(db: sqlite3.Connection, grant: bytes) -> GrantRecord | None:
    row = db.execute(
        "SELECT grant, release, state, digest, receipt FROM grants WHERE grant = ?", (grant,)
    ).fetchone()
    if row is None:
        return None
    grant, release, state, digest, receipt = row
    return GrantRecord(grant=grant, release=release, state=GrantState(state), digest=digest, receipt=receipt)


def _known(db: sqlite3.Connection, grant: bytes) -> GrantRecord:
    record = _find(db, grant)
    if record is None:
        raise Refused(Code.GRANT, "This grant was never admitted here; export it from its request file.")
    return record


def _move(
    db: sqlite3.Connection,
    record: GrantRecord,
    state: GrantState,
    today: int,
    *,
    digest: bytes | None = None,
    receipt: bytes | None = None,
) -> GrantRecord:
    moved = replace(record, state=state, digest=digest or record.digest, receipt=receipt)
    db.execute(
        "UPDATE grants SET state = ?, digest = ?, receipt = ? WHERE grant = ?",
        (moved.state, moved.digest, moved.receipt, moved.grant),
    )
    _append(db, moved, today)
    return moved


def _append(db: sqlite3.Connection, record: GrantRecord, today: int) -> None:
    # A hash chain over these lines, and later a signed tree head, belong exactly here.
    db.execute(
        "INSERT INTO entries (grant, state, digest, day) VALUES (?, ?, ?, ?)",
        (record.grant, record.state, record.digest, today),
    )


def _wrong_state(record: GrantRecord) -> Refused:
    if record.state is GrantState.CLOSED:
        return Refused(
            Code.STATE,
            "This grant is closed: its bundle was delivered once; ask the target site for a new request.",
        )
    return Refused(Code.PROTOCOL, "No byte has left for this grant yet; fetch its bundle first.")
