"""Log what was done with a model and with recordings.

The log is ``audit.jsonl``, with one event a line (docs/audit-log.md).

Every line carries the SHA-256 of the line before it, and ``audit.head`` that of the last one. A recording or a list is
named by a pseudonym, which is computed from its path with this folder's key. The process that writes the log opens no
recording.
"""

import contextlib
import errno
import hashlib
import hmac
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from ecan_core.command_line.console import Narrator
from ecan_core.data.unlabeled import whole_path
from protocol.announce import Announce
from protocol.errors import Code, FileError, MalformedError, ProtocolError, UnauthenticError
from protocol.files import cannot_write, make_private_folder, read_bounded, write_atomic
from protocol.locks import locked

LOG = "audit.jsonl"
HEAD = "audit.head"
PSEUDONYM_KEY = "audit.key"
MAX_LINE_BYTES = 1 << 16
MAX_LOG_BYTES = 1 << 28

_KEY_BYTES = 32
_PSEUDONYM_BYTES = 8


class Place(NamedTuple):
    """Describe how far a log goes.

    Attributes:
        num_lines: how many whole lines it has.
        head: SHA-256 of the last one in hexadecimal, without its end of line; zeros if there is none.
    """

    num_lines: int
    head: str


START = Place(0, "0" * 64)


@dataclass(frozen=True, kw_only=True)
class LogState:
    """Describe a log whose lines hold together.

    Attributes:
        num_lines: how many whole lines it has.
        head: SHA-256 of the last one in hexadecimal.
        torn_bytes: length of a line behind it that a killed process left unfinished.
    """

    num_lines: int
    head: str
    torn_bytes: int


class AuditLog:
    """Write the log of one folder."""

    def __init__(self, folder: Path, now: Callable[[], datetime], announce: Announce) -> None:
        """Set where to log; opens nothing yet.

        Args:
            folder: the model's folder, or the keys'.
            now: the time in UTC.
            announce: told about a line that had to be repaired.
        """
        self._folder = folder
        self._now = now
        self._announce = announce

    def append(self, event: str, **facts: object) -> None:
        """Write down an event; returns when it would survive a power cut.

        Args:
            event: a name that docs/audit-log.md explains.
            **facts: what JSON can hold; no path, which is for `pseudonym`.

        Raises:
            UnauthenticError: the end of the log was changed.
            FileError: it cannot be written.
        """
        path = self._folder / LOG
        make_private_folder(self._folder)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with locked(descriptor):
                end, torn_bytes = self._end(descriptor)
                if torn_bytes:
                    os.ftruncate(descriptor, os.fstat(descriptor).st_size - torn_bytes)
                    self._announce(f"the last line of {path} was cut off and is taken away ({torn_bytes} bytes)")
                    end = self._write(descriptor, end, "repair", {"bytes": torn_bytes})
                self._write(descriptor, end, event, facts)
        except OSError as error:
            raise cannot_write(path, error) from error

    @contextlib.contextmanager
    def recorded(self, event: str, **facts: object) -> Iterator[dict[str, object]]:
        """Log that something begins and how it ends.

        What has begun and has no end was killed.

        Args:
            event: as for `append`.
            **facts: what is known beforehand.

        Yields:
            To be filled with what is known in the end.
        """
        self.append(event, state="begun", **facts)
        outcome: dict[str, object] = {}
        try:
            yield outcome
        except BaseException as error:
            with contextlib.suppress(ProtocolError):
                self.append(event, state="failed", exit_code=getattr(error, "exit_code", None))
            raise
        self.append(event, state="done", **outcome)

    def pseudonym(self, what: Path | str) -> str:
        """Return the pseudonym of a path or a person's name.

        16 hexadecimal digits, the same for the same one.

        Raises:
            FileError: the key cannot be read or made.
        """
        key_file = self._folder / PSEUDONYM_KEY
        try:
            key = read_bounded(key_file, _KEY_BYTES)
        except FileError as fault:
            if fault.code is not Code.NOT_FOUND:
                raise
            make_private_folder(self._folder)
            key = secrets.token_bytes(_KEY_BYTES)
            write_atomic(key_file, key)
        if len(key) != _KEY_BYTES:
            raise MalformedError(Code.LENGTH, f"{key_file} is damaged; take it away, and new pseudonyms begin.")
        plain = what if isinstance(what, str) else whole_path(what)
        return hmac.digest(key, os.fsencode(plain), "sha256")[:_PSEUDONYM_BYTES].hex()

    def _end(self, descriptor: int) -> tuple[Place, int]:
        """Find the place of the next line.

        Returns also how many bytes of an unfinished line lie there.
        """
        size = os.fstat(descriptor).st_size
        tail = os.pread(descriptor, 2 * MAX_LINE_BYTES, max(0, size - 2 * MAX_LINE_BYTES))
        *lines, torn = tail.split(b"\n")
        noted = _read_head(self._folder)
        if not lines:
            if noted != START:
                raise _changed(self._folder, noted.num_lines, "is missing")
            return START, len(torn)
        stated = _parse(lines[-1])
        if stated is None:
            raise _changed(self._folder, noted.num_lines, "was changed")
        place = Place(stated.number, _digest(lines[-1]))
        if noted not in (place, Place(place.num_lines - 1, stated.previous)):
            raise _changed(self._folder, noted.num_lines, "was changed, or is missing")
        return place, len(torn)

    def _write(self, descriptor: int, end: Place, event: str, facts: dict[str, Any]) -> Place:
        record = {
            "at": self._now().strftime("%Y-%m-%dT%H:%M:%SZ"),
            "event": event,
            "n": end.num_lines + 1,
            "previous": end.head,
        }
        line = json.dumps(facts | record, sort_keys=True, separators=(",", ":")).encode()
        if len(line) > MAX_LINE_BYTES:
            raise FileError(Code.LENGTH, f"An event of more than {MAX_LINE_BYTES} bytes does not fit into a log.")
        whole = line + b"\n"
        if os.write(descriptor, whole) != len(whole):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(descriptor)
        place = Place(end.num_lines + 1, _digest(line))
        write_atomic(self._folder / HEAD, f"{place.num_lines} {place.head}\n".encode())
        return place


def verify_log(folder: Path, head: str | None = None) -> LogState:
    """Check that no line of a log was changed, removed or inserted.

    Args:
        folder: where it lies.
        head: one that was noted elsewhere: whoever may write into the folder can write all of a log anew, but none
            that contains it.

    Raises:
        UnauthenticError: a line was; the message says which.
        FileError: there is no log, or it cannot be read.
        MalformedError: it is too long, or no file.
    """
    *lines, torn = read_bounded(folder / LOG, MAX_LOG_BYTES).split(b"\n")
    noted = _read_head(folder)
    stated = [_parse(line) for line in lines]
    places = [START, *(Place(number, _digest(line)) for number, line in enumerate(lines, start=1))]
    for number, line in enumerate(stated, start=1):
        if line is None:
            raise _changed(folder, number, "was changed")
        if line.number != number:
            raise _changed(folder, number, "is missing" if line.number > number else "was put in or changed")
    claims = [line.previous for line in stated if line is not None]
    ends = [*claims[1:], noted.head if noted.num_lines == len(lines) else places[-1].head]
    for number, claimed in enumerate(claims, start=1):
        if claimed != places[number - 1].head:
            is_itself_whole = ends[number - 1] == places[number].head
            raise _changed(folder, number - 1 if is_itself_whole and number > 1 else number, "was changed")
    if noted.num_lines > len(lines):
        raise _changed(folder, len(lines) + 1, "is missing")
    if noted not in places[-2:]:
        raise _changed(folder, len(lines), "was changed, or put in")
    if head is not None and head.lower() not in [place.head for place in places]:
        raise UnauthenticError(
            Code.DIGEST,
            f"{folder / LOG} does not contain the head {head[:16]}..., so it was written anew or cut off; compare it "
            "with a copy.",
        )
    return LogState(num_lines=places[-1].num_lines, head=places[-1].head, torn_bytes=len(torn))


class _Stated(NamedTuple):
    """Hold what a line says of its place."""

    number: int
    previous: str


def _parse(line: bytes) -> _Stated | None:
    try:
        said = json.loads(line)
        return _Stated(int(said["n"]), str(said["previous"]))
    except (KeyError, TypeError, ValueError, RecursionError):
        return None


def _read_head(folder: Path) -> Place:
    """Read ``audit.head``.

    It is at most one line behind the log, if a process was killed between the two writes.
    """
    try:
        number, head = read_bounded(folder / HEAD, MAX_LINE_BYTES).decode().split()
        return Place(int(number), head)
    except FileError as fault:
        if fault.code is not Code.NOT_FOUND:
            raise
        return START
    except ValueError as error:
        raise MalformedError(Code.VALUE, f"{folder / HEAD} is damaged; compare {LOG} with a copy.") from error


def _digest(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def _changed(folder: Path, number: int, how: str) -> UnauthenticError:
    return UnauthenticError(
        Code.DIGEST,
        f"Line {number} of {folder / LOG} {how}; find out who wrote into the folder, keep {LOG} and {HEAD} as evidence "
        "in another place, and a new log begins.",
    )


def log_of(folder: Path, narrator: Narrator) -> "AuditLog":
    """Open the log of the model's folder, or of the keys'."""
    from datetime import UTC, datetime

    return AuditLog(folder, now=lambda: datetime.now(UTC), announce=narrator.say)


def today() -> int:
    """Return today's date in days since 1970."""
    from protocol.ledger.grants import SECONDS_PER_DAY

    return int(time.time()) // SECONDS_PER_DAY
