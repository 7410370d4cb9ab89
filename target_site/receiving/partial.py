"""Keep a download in progress: ``OUT.partial``.

The signed offer that it belongs to and its lock lie beside it.
"""

import contextlib
import hashlib
import mmap
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from protocol.errors import Code, FileError, PeerError, ProtocolError
from protocol.files import cannot_write, read_bounded, write_atomic
from protocol.locks import alone
from protocol.wire.chunks import whole_chunks
from protocol.wire.limits import MAX_REPLY_BYTES
from target_site.receiving.client import AcceptedOffer, read_offer


class PartialDownload:
    """Hold the bytes that have arrived so far, safe from a kill.

    They are those of a sealed bundle.

    Nothing here is believed: the finished bytes are unsealed and verified as a whole before they become OUT. And
    nothing here is ever held in memory as a whole.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self._path = out.with_name(f"{out.name}.partial")
        self._note = out.with_name(f"{out.name}.partial.offer")
        self._lock = out.with_name(f"{out.name}.partial.lock")

    @property
    def files(self) -> tuple[Path, ...]:
        """Return the names that it uses beside OUT."""
        return self._path, self._note, self._lock

    def exists(self) -> bool:
        """Return whether a download has begun."""
        return self._path.exists()

    def alone(self) -> AbstractContextManager[None]:
        """Keep every other process away.

        Raises:
            FileError: another process is at it, or the folder cannot be written.
        """
        return alone(self._lock, f"another receive is writing {self._out}; wait for it.")

    def resume(self, offer: AcceptedOffer) -> int:
        """Keep what belongs to this offer in whole chunks, drop the rest.

        Returns:
            The number of bytes that are there: where to go on.

        Raises:
            PeerError: the source once signed another offer for the same grant (SWAP). Both are kept as
                ``OUT.offer.1`` and ``OUT.offer.2``, and the download stays as it is.
        """
        belongs = self._belongs_to(offer)
        try:
            if not (belongs and self._path.is_file()):
                self.discard()
                write_atomic(self._note, offer.message)
                self._path.touch(mode=0o600)
            present = min(self._path.stat().st_size, offer.size)
            kept = present if present == offer.size else whole_chunks(present)
            os.truncate(self._path, kept)
        except OSError as error:
            raise cannot_write(self._path, error) from error
        return kept

    def begin(self) -> None:
        """Start over for bytes that come without an offer.

        They are those of a file that was carried here.
        """
        try:
            self.discard()
            self._path.touch(mode=0o600)
        except OSError as error:
            raise cannot_write(self._path, error) from error

    def append(self, chunks: Iterable[bytes | memoryview]) -> None:
        """Write chunks as they come.

        Raises:
            FileError: the disk is full, read-only or out of reach.
        """
        flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(self._path, flags), "ab", buffering=0) as file:
                for chunk in chunks:
                    _write_all(file.fileno(), chunk)
        except OSError as error:
            raise cannot_write(self._path, error) from error

    def sha256(self) -> bytes:
        """Return the SHA-256 of all bytes that have arrived, read in blocks."""
        with self._opened() as descriptor, open(descriptor, "rb", buffering=0, closefd=False) as file:
            return hashlib.file_digest(file, "sha256").digest()

    @contextlib.contextmanager
    def mapped(self) -> Iterator[mmap.mmap]:
        """Map all bytes that have arrived, read-only.

        They are fetched from the disk as they are read.

        Raises:
            FileError: there are none, or they cannot be read.
        """
        with self._opened() as descriptor:
            try:
                view = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
            except (OSError, ValueError) as error:
                raise FileError(
                    Code.STORAGE, f"{self._path} cannot be read; run the command again, it goes on."
                ) from error
            with view:
                yield view

    def discard(self) -> None:
        """Remove the download."""
        self._path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def _belongs_to(self, offer: AcceptedOffer) -> bool:
        try:
            kept = read_bounded(self._note, MAX_REPLY_BYTES)
            earlier, _ = read_offer(kept, offer.issuer)
        except ProtocolError:
            return False  # there is none, it is damaged, or it is of another source
        if earlier.grant != offer.grant:
            return False
        if (earlier.sealed_sha256, earlier.size) == (offer.digest, offer.size):
            return True
        evidence = [self._out.with_name(f"{self._out.name}.offer.{number}") for number in (1, 2)]
        for path, message in zip(evidence, (kept, offer.message), strict=True):
            write_atomic(path, message)
        raise PeerError(
            Code.SWAP,
            f"The source has offered two different bundles for one grant; keep {evidence[0]} and {evidence[1]}, "
            "which it has signed, and speak to its operator before you receive anything from it.",
        )

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise FileError(
                Code.STORAGE, f"{self._path} cannot be read ({error.strerror}); run the command again."
            ) from error
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def _write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write all bytes; a full disk may take a part before it refuses."""
    while data:
        data = data[os.write(descriptor, data) :]
