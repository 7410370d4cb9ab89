"""A place on loopback between a target and a source, where a test can listen or cut."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

from protocol.wire.address import Address

PATIENCE_S = 10.0


class Detour:
    """Accepts connections and hands each to `take`; ends all of them, and its threads, when the block ends.

    Args:
        source: where the source listens.
    """

    def __init__(self, source: Address) -> None:
        self._source = source
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = [self._listener]
        self._threads: list[threading.Thread] = []
        self.address = Address("127.0.0.1", self._listener.getsockname()[1])

    @contextlib.contextmanager
    def listening(self) -> Iterator[Address]:
        self.start(self._accept)
        try:
            yield self.address
        finally:
            for end in self._sockets:
                shut(end)
            for thread in self._threads:
                thread.join(PATIENCE_S)
            for end in self._sockets:
                end.close()

    def take(self, near: socket.socket) -> None:
        """Serve a connection from a target; must not wait for it."""
        raise NotImplementedError

    def start(self, work: Callable[..., None], *arguments: object) -> None:
        """Do something at the same time; what it waits for ends with the block."""
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def keep(self, end: socket.socket) -> None:
        """Have a socket shut and closed in the end."""
        self._sockets.append(end)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self.keep(near)
                self.take(near)


def shut(end: socket.socket) -> None:
    """End a connection in both directions."""
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
