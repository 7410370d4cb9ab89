"""Lock files for one writer at a time.

The system releases a lock even if its owner is killed.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from protocol.errors import Code, FileError
from protocol.files import cannot_write, make_private_folder

FOLDER_LOCK = ".lock"


@contextlib.contextmanager
def alone(lock: Path, busy: str) -> Iterator[None]:
    """Keep every other process away from what a lock file stands for.

    The file is removed in the end.

    Args:
        lock: the lock file.
        busy: what is said if another process is at it.

    Raises:
        FileError: another process is at it, or the lock's folder cannot be written.
    """
    try:
        descriptor = _locked(lock)
    except BlockingIOError as error:
        raise FileError(Code.LOCKED, busy) from error
    except OSError as error:
        raise cannot_write(lock, error) from error
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(descriptor)


@contextlib.contextmanager
def writing_alone(folder: Path) -> Iterator[None]:
    """Write into a folder as the only command.

    The folder is made if need be, and removed again if it stays empty.

    Raises:
        FileError: another command is writing into it, or it cannot be written.
    """
    make_private_folder(folder)
    busy = f"Another command is writing into {folder}; wait for it, or choose another folder."
    try:
        with alone(folder / FOLDER_LOCK, busy):
            yield
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _locked(path: Path) -> int:
    """Open and lock a file that nobody else has locked.

    Closing it ends the lock.
    """
    while True:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)  # its last owner removed it after we had opened it: others would lock a new one


@contextlib.contextmanager
def locked(descriptor: int, busy: str = "") -> Iterator[None]:
    """Wait for the lock of an open file or folder and hold it.

    The descriptor is closed in the end.

    Args:
        descriptor: the open file or folder.
        busy: what is said if another process holds the lock; if nothing is said, this one waits.

    Raises:
        FileError: another process holds the lock, and nobody waits for it.
    """
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
        except BlockingIOError as error:
            raise FileError(Code.BUSY, busy) from error
        yield
    finally:
        os.close(descriptor)
