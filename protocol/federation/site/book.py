"""Keep a site's book of what it has answered.

Lines are only added to it, and written before an answer leaves.

Every line is one canonical JSON object and carries the SHA-256 of the line before it. ``<book>.head`` says how many
lines there are and the SHA-256 of the last one, so that a book that was cut off, put back or taken away is noticed. A
book and its head that are put back together are not: whoever may write into the folder can forget.
"""

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from protocol import canonical
from protocol.errors import Code, FileError, MalformedError, ProtocolError, RefusedError, UnauthenticError
from protocol.files import cannot_write, make_private_folder, read_bounded, write_atomic
from protocol.locks import locked

MAX_LINE_BYTES = 1 << 14
MAX_BOOK_BYTES = 1 << 26
REMEDY = '--new-book "REASON"'

_WHAT = "entry of a book"
_NUMBER, _PREVIOUS = "n", "previous"

Entry = dict[str, Any]


class Place(NamedTuple):
    """Hold a book's number of lines and the SHA-256 of the last one.

    The hash is hexadecimal.
    """

    num_lines: int
    head: str


START = Place(0, "0" * 64)


class Book:
    """Hold one book, bound to one subject: a corpus, or a released model."""

    def __init__(self, path: Path, entries: list[Entry], place: Place) -> None:
        """Hold what was read; `create` and `open` make a book."""
        self._path, self._entries, self._place = path, entries, place

    @staticmethod
    def create(path: Path, subject: Mapping[str, str | int], reason: str, now_s: int) -> "Book":
        """Begin a book because a person says so.

        What is left of a lost one is kept beside it.

        Args:
            path: its file; the folder is made if need be.
            subject: what it is about.
            reason: why it begins, in the person's words.
            now_s: the time in seconds since 1970, UTC.

        Raises:
            RefusedError: there is a whole book, which is never begun anew.
            MalformedError: the subject or the reason cannot be written down.
            FileError: the folder cannot be written.
        """
        first = {"kind": "book", "subject": dict(subject), "reason": reason, "at": now_s}
        line = _line(first, START)
        make_private_folder(path.parent)
        _set_aside(path, now_s)
        write_atomic(head_path(path), _head_text(START))
        with _alone(path, create=True) as descriptor:
            _append(path, descriptor, line, START)
        return Book.open(path, subject)

    @staticmethod
    def open(path: Path, subject: Mapping[str, str | int]) -> "Book":
        """Read a book and check every line of it.

        What a killed process left undone is mended.

        Args:
            path: its file.
            subject: what it has to be about.

        Raises:
            UnauthenticError: the book or its head is missing, damaged or cut off, or others can reach it; a person must
                say how to go on.
            RefusedError: it is about something else.
            FileError: it cannot be written.
        """
        book = _read(path)
        if book._entries[0].get("subject") != dict(subject):
            raise RefusedError(
                Code.POLICY, f"{path} is the book of another corpus or model; name the right one, or another file."
            )
        return book

    def append(self, entry: Entry) -> None:
        """Write an entry down so that it survives a power cut.

        Raises:
            MalformedError: it cannot be written as canonical JSON, or is too long.
            FileError: it cannot be written, or another process has written into the book meanwhile.
            UnauthenticError: the book was taken away or changed by another hand meanwhile.
        """
        line = _line(entry, self._place)
        with _alone(self._path) as descriptor:
            if _mended(self._path, descriptor)._place != self._place:
                raise FileError(
                    Code.LOCKED,
                    f"{self._path} has changed since it was read; start this node again, one for a book.",
                )
            self._place = _append(self._path, descriptor, line, self._place)
        self._entries.append(_parsed(line))

    def entries(self) -> list[Entry]:
        """Return all entries; the first says what the book is about."""
        return [dict(entry) for entry in self._entries]


def head_path(path: Path) -> Path:
    """Return the file beside a book that says how far the book goes."""
    return path.with_name(f"{path.name}.head")


def _read(path: Path) -> Book:
    with _alone(path) as descriptor:
        return _mended(path, descriptor)


def _mended(path: Path, descriptor: int) -> Book:
    """Check a whole book and mend its end; the lock is held."""
    try:
        data = read_bounded(path, MAX_BOOK_BYTES)
        *lines, torn = data.split(b"\n")
        entries, places = _checked(lines)
    except ProtocolError as error:
        _lost(path, "is damaged", error)
    noted = _read_head(path)
    if noted not in places[-2:]:  # one line behind if a process was killed between the two
        _lost(path, "does not end where its head says")
    if torn:  # an entry that nobody was told of: the head does not know it
        os.ftruncate(descriptor, len(data) - len(torn))
        os.fsync(descriptor)
    if noted != places[-1]:
        write_atomic(head_path(path), _head_text(places[-1]))
    return Book(path, entries, places[-1])


def _checked(lines: list[bytes]) -> tuple[list[Entry], list[Place]]:
    """Check a book's lines; returns the entries and the place at each end."""
    entries: list[Entry] = []
    places = [START]
    for line in lines:
        entry = _parsed(line)
        if (entry.get(_NUMBER), entry.get(_PREVIOUS)) != (places[-1].num_lines + 1, places[-1].head):
            raise MalformedError(Code.DIGEST, "A line does not follow on the one before it; restore the book.")
        entries.append(entry)
        places.append(_after(line, places[-1]))
    if not entries:
        raise MalformedError(Code.TRUNCATED, "There is no line; restore the book.")
    return entries, places


def _read_head(path: Path) -> Place:
    try:
        number, head = read_bounded(head_path(path), MAX_LINE_BYTES).decode("ascii").split()
        return Place(int(number), head)
    except (ProtocolError, ValueError) as error:
        _lost(path, "has lost its head file", error)


def _line(entry: Entry, end: Place) -> bytes:
    """Write an entry for the place after ``end``.

    An entry that could not be read back is refused.
    """
    if {_NUMBER, _PREVIOUS} & entry.keys():
        raise MalformedError(Code.UNKNOWN_FIELD, "An entry of a book does not number itself; leave these fields out.")
    try:
        line = canonical.encode(entry | {_NUMBER: end.num_lines + 1, _PREVIOUS: end.head})
    except (TypeError, ValueError) as error:
        raise MalformedError(
            Code.VALUE, "A book holds plain ASCII texts and integers; write nothing else down."
        ) from error
    _parsed(line)
    return line


def _parsed(line: bytes) -> Entry:
    return canonical.parse_object(line, what=_WHAT, max_bytes=MAX_LINE_BYTES)


def _append(path: Path, descriptor: int, line: bytes, end: Place) -> Place:
    """Write a line and then the head; the lock is held."""
    place = _after(line, end)
    try:
        if os.write(descriptor, line + b"\n") != len(line) + 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(descriptor)
    except OSError as error:
        raise cannot_write(path, error) from error
    write_atomic(head_path(path), _head_text(place))
    return place


def _after(line: bytes, end: Place) -> Place:
    return Place(end.num_lines + 1, hashlib.sha256(line).hexdigest())


def _head_text(place: Place) -> bytes:
    return f"{place.num_lines} {place.head}\n".encode()


@contextlib.contextmanager
def _alone(path: Path, *, create: bool = False) -> Iterator[int]:
    """Open a book for adding lines, while nobody else uses it.

    No other process reads or writes it meanwhile.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if create else 0)
    try:
        descriptor = os.open(path, flags, 0o600)
    except FileNotFoundError as error:
        _lost(path, "is missing", error)
    except OSError as error:
        raise cannot_write(path, error) from error
    with locked(descriptor):
        if stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o077:
            _lost(path, "can be read or changed by other users")
        yield descriptor


def _set_aside(path: Path, now_s: int) -> None:
    """Move a lost book out of the way as evidence; refuse to move a whole one."""
    try:
        _read(path)
    except UnauthenticError:
        pass
    else:
        raise RefusedError(
            Code.STATE, f"{path} is a whole book and is never begun anew; run the command without {REMEDY}."
        )
    for part in (path, head_path(path)):
        with contextlib.suppress(FileNotFoundError):
            part.rename(part.with_name(f"{part.name}.lost-{now_s}"))


def _lost(path: Path, why: str, cause: Exception | None = None) -> NoReturn:
    raise UnauthenticError(
        Code.STATE_LOST,
        f"{path} {why}, so this site no longer knows what it has answered; find out why, and let a person restore the "
        f"book with its head from a backup, or begin a new one by {REMEDY}, which forgets what was spent.",
    ) from cause
