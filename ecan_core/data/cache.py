"""Keep computed features in one SQLite file."""

import contextlib
import sqlite3
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ecan_core.errors import StorageError
from ecan_core.runtime.closing import Closing

_SCHEMA = """
CREATE TABLE features (
    key TEXT PRIMARY KEY,
    dtype TEXT NOT NULL,
    num_rows INTEGER,        -- NULL for a vector
    num_columns INTEGER NOT NULL,
    duration_s REAL NOT NULL,
    is_clipped INTEGER NOT NULL,
    content BLOB NOT NULL
) WITHOUT ROWID
"""
_SELECT = "SELECT dtype, num_rows, num_columns, duration_s, is_clipped, content FROM features WHERE key = ?"
_APPLICATION_ID = 0x45434132  # "ECA2", the second layout; SQLite keeps it in the header of the file
_SECONDS_PER_DAY = 24 * 60 * 60
_OWNER = "SELECT application_id, (SELECT count(*) FROM sqlite_master) FROM pragma_application_id"
_BUSY_TIMEOUT_S = 30.0


OF_SQLITE = ("", "-wal", "-shm", "-journal")
"""How the names of a cache's files end."""


def is_feature_cache(path: Path) -> bool:
    """Return whether a file is a feature cache, or still empty.

    A link to one is none.
    """
    if path.is_symlink() or not path.is_file():
        return False
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            ((owner, num_tables),) = connection.execute(_OWNER).fetchall()
    except sqlite3.Error:
        return False
    return not num_tables or owner >> 8 == _APPLICATION_ID >> 8  # of any layout


class Extracted(NamedTuple):
    """Hold what a front end made of one utterance.

    Attributes:
        features: [S] or [F, M].
        duration_s: Length of the sound in seconds.
        is_clipped: It was recorded too loud.
    """

    features: npt.NDArray[Any]
    duration_s: float
    is_clipped: bool = False


class FeatureCache(Closing):
    """Keep features by key in a file.

    Several processes may share it and any of them may be killed.

    An entry is there whole or not at all. The cache holds nothing that cannot be computed again: it is always
    safe to delete the file.
    """

    def __init__(self, path: Path) -> None:
        """Open the cache; create its file where there is none.

        Args:
            path: The file; its folder is created.

        Raises:
            StorageError: The file cannot be written or is not a feature cache.
        """
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
            is_new = self._check_owner()
            self._run("PRAGMA journal_mode=WAL")
            self._run("PRAGMA synchronous=NORMAL")
            if is_new:
                self._create()
        except (OSError, sqlite3.Error) as error:
            raise self._fault(error) from error

    @property
    def begun_on(self) -> int:
        """Return the day on which the file was made, in days since 1970.

        Nothing in it is older.
        """
        ((day,),) = self._run("PRAGMA user_version")
        return int(day)

    def load(self, key: str) -> Extracted | None:
        """Find the features of a key.

        Args:
            key: As given to `store`.

        Returns:
            What was stored, or None where the key is unknown.
        """
        found = self._run(_SELECT, key)
        if not found:
            return None
        dtype, num_rows, num_columns, duration_s, is_clipped, content = found[0]
        shape = (num_columns,) if num_rows is None else (num_rows, num_columns)
        return Extracted(np.frombuffer(content, dtype=np.dtype(dtype)).reshape(shape), duration_s, bool(is_clipped))

    def store(self, key: str, extracted: Extracted) -> None:
        """Store the features of a key durably.

        Once this returns, they survive the end of the process.

        Args:
            key: Names the sound and the way it was computed.
            extracted: Features and duration.

        Raises:
            StorageError: The disk is full or read-only.
        """
        features = extracted.features
        num_rows = None if features.ndim == 1 else len(features)
        self._run(
            "INSERT OR REPLACE INTO features VALUES (?, ?, ?, ?, ?, ?, ?)",
            key,
            features.dtype.str,
            num_rows,
            features.shape[-1],
            extracted.duration_s,
            extracted.is_clipped,
            np.ascontiguousarray(features).tobytes(),
        )

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _check_owner(self) -> bool:
        """Return whether the file is still empty.

        A file of another program is refused before anything is written.
        """
        ((owner, num_tables),) = self._run(_OWNER)
        if owner != _APPLICATION_ID and num_tables:
            self.close()
            raise StorageError(
                f"{self._path} is a database but no feature cache of this version; remove it, or name another --cache."
            )
        return not num_tables

    def _create(self) -> None:
        # One transaction: no process ever sees tables without their owner.
        self._run("BEGIN IMMEDIATE")
        self._run(f"PRAGMA application_id={_APPLICATION_ID}")
        self._run(f"PRAGMA user_version={int(time.time()) // _SECONDS_PER_DAY}")
        self._run(_SCHEMA)
        self._run("COMMIT")

    def _run(self, statement: str, *values: object) -> list[Any]:
        try:
            return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._fault(error) from error

    def _fault(self, error: Exception) -> StorageError:
        return StorageError(
            f"The feature cache {self._path} cannot be used ({error}); free disk space, check that its folder "
            "is writable, or name another --cache."
        )
