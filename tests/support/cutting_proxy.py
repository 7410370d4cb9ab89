"""A network that fails: forwards to a source and cuts connections in the middle."""

import contextlib
import socket
import time
from collections.abc import Callable, Sequence

from protocol.wire.address import Address
from tests.support.detour import PATIENCE_S, Detour, shut


class CuttingProxy(Detour):
    """Forwards connections; the n-th is cut when so many bytes have come from the source.

    Args:
        target: where the source listens.
        limits: bytes from the source for each connection in turn, None for one that is not cut; those after the
            last one are not cut.
        until: a connection that has reached its limit stands still until this holds, so that a test can say what
            must have arrived.
    """

    def __init__(self, target: Address, limits: Sequence[int | None], until: Callable[[], bool] = lambda: True) -> None:
        super().__init__(target)
        self._limits = list(limits)
        self._until = until

    def take(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection((self._source.host, self._source.port))
        except OSError:
            shut(near)
            return
        self.keep(far)
        self.start(self._pump, near, far, None)
        self.start(self._pump, far, near, self._limits.pop(0) if self._limits else None)

    def _pump(self, origin: socket.socket, sink: socket.socket, limit: int | None) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := origin.recv(4096):
                passed += len(data)
                if limit is not None and passed > limit:
                    self._wait()
                    break
                sink.sendall(data)
        shut(origin)
        shut(sink)

    def _wait(self) -> None:
        end = time.monotonic() + PATIENCE_S
        while not self._until() and time.monotonic() < end:
            time.sleep(0.005)
