"""Share work among processes made by `fork` and pipes alone.

No sockets, semaphores or other programs are needed.

A contained process may do no more than that, and it costs milliseconds. Workers receive and return bytes, so that
nothing they say can become code. A worker that is killed costs the piece that it was computing; another worker takes
its place.
"""

import os
import select
import signal
import struct
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

Compute = Callable[[bytes], bytes]

_LENGTH = struct.Struct("<Q")
_IN, _OUT = 0, 1
_LONGEST = 1 << 40
_AHEAD = 4
"""Pieces per worker that may be finished before they are asked for."""


def cores() -> int:
    """Return how many cores this process may use.

    A container or a batch system may grant fewer than the machine has.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def shared_out(pieces: Iterable[bytes], compute: Compute, num_workers: int) -> Iterator[bytes | None]:
    """Compute pieces of work in forked processes.

    Args:
        pieces: Taken one by one, not far ahead of what is yielded.
        compute: Runs in the workers, which have all that this process has in memory when the first piece is taken.
        num_workers: Processes; the numeric libraries of this one must run on one thread.

    Yields:
        The result of each piece, in order; None where the process that computed it was killed.
    """
    pending: deque[_Piece] = deque()
    idle: list[_Worker] = []
    busy: dict[int, _Worker] = {}
    waiting = iter(pieces)
    try:
        while True:
            while len(busy) < num_workers and len(pending) < _AHEAD * num_workers:
                content = next(waiting, None)
                if content is None:
                    break
                worker = idle.pop() if idle else _Worker(compute, taken())
                pending.append(worker.start(content))
                busy[worker.reading] = worker
            if not pending:
                return
            if pending[0].is_done:
                yield pending.popleft().result
                continue
            for descriptor in _readable(list(busy)):
                worker = busy.pop(descriptor)
                if worker.finish():
                    idle.append(worker)
    finally:
        for worker in [*idle, *busy.values()]:
            worker.close()


class _Piece:
    """Hold one piece of work: whether it is done, and its result."""

    def __init__(self) -> None:
        self.is_done = False
        self.result: bytes | None = None


class _Worker:
    """Compute pieces in a forked process until its pipe is closed.

    One after the other.

    Args:
        compute: Computes a piece, there.
        mate: A companion that goes with it.
    """

    def __init__(self, compute: Compute, mate: "Companion | None" = None) -> None:
        self._mate = mate
        inner_reading, self._writing = os.pipe()
        self.reading, inner_writing = os.pipe()
        self._piece = _Piece()
        _living.append(self)
        _flush()
        self._process = os.fork()
        if self._process == 0:
            _keep(mate)
            _work(compute, inner_reading, inner_writing)
        os.close(inner_reading)
        os.close(inner_writing)

    @property
    def ends(self) -> tuple[int, int]:
        """Return this side's ends of the pipes."""
        return self._writing, self.reading

    def start(self, content: bytes) -> _Piece:
        """Give it a piece of work."""
        self._piece = _Piece()
        with suppress(BrokenPipeError):  # it was killed: `finish` finds out
            _send(self._writing, content)
        return self._piece

    def finish(self, most: int = _LONGEST) -> bool:
        """Take its result; returns whether the process is still there."""
        try:
            self._piece.result = _receive(self.reading, most)
        except EOFError:
            self.close()
        self._piece.is_done = True
        return self._piece.result is not None

    def close(self) -> None:
        """Let it end after the piece that it computes."""
        if self not in _living:
            return
        self.leave()
        with suppress(ChildProcessError):
            _, status = os.waitpid(self._process, 0)
            if self._mate is not None:  # who was killed may have left a question that is still being answered
                put_aside(self._mate) if status == 0 else self._mate.leave()

    def leave(self) -> None:
        """Close this side's ends of the pipes."""
        _living.remove(self)
        for descriptor in self.ends:
            os.close(descriptor)


class Companion(_Worker):
    """Answer questions in a forked process, one after the other.

    It keeps what it has open between them.

    Args:
        compute: Answers, there.
    """

    def ask(self, content: bytes, most: int) -> bytes | None:
        """Return what it answers.

        None once it is gone, or answers more than so many bytes.
        """
        if self not in _living:
            return None
        piece = self.start(content)
        self.finish(most)
        return piece.result


_living: list[_Worker] = []
"""Those that this process has made and not closed, and what it was given."""
_aside: list[Companion] = []


def put_aside(companion: Companion) -> None:
    """Keep a companion for whoever asks next, unless it is gone."""
    if companion in _living:
        _aside.append(companion)


def taken() -> Companion | None:
    """Take a companion that was put aside; None if there is none.

    Each process of `shared_out` is given one, as long as there are some.
    """
    return _aside.pop() if _aside else None


def _keep(mate: Companion | None) -> None:
    """Close, in a new process, all that its parent speaks by.

    A pipe ends when nobody holds it.

    Args:
        mate: The companion that it keeps.
    """
    for worker in [worker for worker in _living if worker is not mate]:
        worker.leave()
    _aside[:] = [] if mate is None else [mate]


def _work(compute: Compute, reading: int, writing: int) -> None:
    """Run a worker's whole life; never returns."""
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _take_streams(reading, writing)
        with suppress(EOFError, BrokenPipeError):
            while True:
                _send(_OUT, compute(_receive(_IN)))
        status = 0
    except BaseException:
        with suppress(OSError):
            traceback.print_exc()
            _flush()
    finally:
        os._exit(status)


def _take_streams(reading: int, writing: int) -> None:
    """Put the pipes in the place of standard input and output.

    So a worker has none of those that this process speaks by.
    """
    for descriptor, place in ((reading, _IN), (writing, _OUT)):
        if descriptor != place:
            os.dup2(descriptor, place)
            os.close(descriptor)


def _send(descriptor: int, content: bytes) -> None:
    for part in (_LENGTH.pack(len(content)), content):  # not joined: a copy costs more than a call
        rest = memoryview(part)
        while rest:
            rest = rest[os.write(descriptor, rest) :]


def _receive(descriptor: int, most: int = _LONGEST) -> bytes:
    """Read one message.

    Raises:
        EOFError: The other side is gone, or says more than so many bytes.
    """
    (length,) = _LENGTH.unpack(_read(descriptor, _LENGTH.size))
    if length > most:
        raise EOFError
    return _read(descriptor, length)


def _read(descriptor: int, length: int) -> bytes:
    blocks = []
    while length:
        block = os.read(descriptor, min(length, 1 << 20))
        if not block:
            raise EOFError
        blocks.append(block)
        length -= len(block)
    return b"".join(blocks)


def _readable(descriptors: list[int]) -> list[int]:
    """Wait until one of these can be read."""
    waiting = select.poll()
    for descriptor in descriptors:
        waiting.register(descriptor, select.POLLIN)
    return [descriptor for descriptor, _ in waiting.poll()]


def _flush() -> None:
    """Write out the buffers that both processes would otherwise write."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
