"""A network that fails: forwards to a source and cuts connections in the middle."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from protocol.wire.address import Address

_PATIENCE_S = 10.0


class CuttingProxy:
    """Forwards connections; the n-th is cut when so many bytes have come from the source.

    Args:
        target: where the source listens.
        limits: bytes from the source for each connection in turn, None for one that is not cut; those after the
            last one are not cut.
        until: a connection that has reached its limit stands still until this holds, so that a test can say what
            must have arrived.
    """

    def __init__(self, target: Address, limits: Sequence[int | None], until: Callable[[], bool] = lambda: True) -> None:
        self._target = target
        self._limits = list(limits)
        self._until = until
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets = [self._listener]
        self._threads: list[threading.Thread] = []
        self.address = Address("127.0.0.1", self._listener.getsockname()[1])

    @contextlib.contextmanager
    def listening(self) -> Iterator[Address]:
        self._start(self._accept)
        try:
            yield self.address
        finally:
            for end in self._sockets:
                _shut(end)
            for thread in self._threads:
                thread.join(_PATIENCE_S)
            for end in self._sockets:
                end.close()

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._sockets.append(near)
                self._forward(near)

    def _forward(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection((self._target.host, self._target.port))
        except OSError:
            _shut(near)
            return
        self._sockets.append(far)
        self._start(self._pump, near, far, None)
        self._start(self._pump, far, near, self._limits.pop(0) if self._limits else None)

    def _pump(self, origin: socket.socket, sink: socket.socket, limit: int | None) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := origin.recv(4096):
                passed += len(data)
                if limit is not None and passed > limit:
                    self._wait()
                    break
                sink.sendall(data)
        _shut(origin)
        _shut(sink)

    def _wait(self) -> None:
        end = time.monotonic() + _PATIENCE_S
        while not self._until() and time.monotonic() < end:
            time.sleep(0.005)


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
