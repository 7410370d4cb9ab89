"""A download in progress: ``OUT.partial``, and beside it which offer it belongs to and who has it locked."""

import contextlib
import fcntl
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from protocol.bundle import MAX_BUNDLE_BYTES
from protocol.errors import Code, StorageFault
from protocol.files import cannot_write, read_bounded, write_atomic
from protocol.wire.chunks import whole_chunks
from target_site.client import AcceptedOffer

_MAX_NOTE_BYTES = 256


class PartialDownload:
    """The bytes of a bundle that have arrived so far; survives a kill at any moment.

    Nothing here is believed: the finished bytes are verified as a whole before they become OUT.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self._path = out.with_name(f"{out.name}.partial")
        self._note = out.with_name(f"{out.name}.partial.offer")
        self._lock = out.with_name(f"{out.name}.partial.lock")

    def exists(self) -> bool:
        """Whether a download has begun."""
        return self._path.exists()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep every other process away; the system lets go of the lock even if this one is killed.

        Raises:
            StorageFault: another process is at it, or the folder cannot be written.
        """
        try:
            descriptor = _locked(self._lock)
        except BlockingIOError as error:
            raise StorageFault(Code.STORAGE, f"another receive is writing {self._out}; wait for it.") from error
        except OSError as error:
            raise cannot_write(self._lock, error) from error
        try:
            yield
        finally:
            self._lock.unlink(missing_ok=True)
            os.close(descriptor)

    def resume(self, offer: AcceptedOffer) -> int:
        """Keep what belongs to this offer, in whole chunks, and drop anything else.

        Returns:
            The number of bytes that are there: where to go on.
        """
        note = f"{offer.digest.hex()} {offer.size}\n".encode("ascii")
        try:
            if not self._belongs_to(note):
                self.discard()
                write_atomic(self._note, note)
                self._path.touch(mode=0o600)
            present = min(self._path.stat().st_size, offer.size)
            kept = present if present == offer.size else whole_chunks(present)
            os.truncate(self._path, kept)
        except OSError as error:
            raise cannot_write(self._path, error) from error
        return kept

    def append(self, chunks: Iterable[bytes]) -> None:
        """Write chunks as they come.

        Raises:
            StorageFault: the disk is full, read-only or out of reach.
        """
        flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(self._path, flags), "ab", buffering=0) as file:
                for chunk in chunks:
                    _write_all(file.fileno(), chunk)
        except OSError as error:
            raise cannot_write(self._path, error) from error

    def read(self) -> bytes:
        """All bytes that have arrived."""
        return read_bounded(self._path, MAX_BUNDLE_BYTES)

    def discard(self) -> None:
        """Forget the download."""
        self._path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def _belongs_to(self, note: bytes) -> bool:
        return self._path.is_file() and self._note.is_file() and read_bounded(self._note, _MAX_NOTE_BYTES) == note


def _locked(path: Path) -> int:
    """Open a file that nobody else has locked; closing it ends the lock."""
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


def _write_all(descriptor: int, data: bytes) -> None:
    """A full disk may take a part of the bytes before it says no."""
    while data:
        data = data[os.write(descriptor, data) :]
