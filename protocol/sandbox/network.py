"""Say what a confined process may do with the network."""

from dataclasses import dataclass
from typing import ClassVar

PORTS_SINCE = 4
"""The version of Landlock that tells ports apart; it came with Linux 6.7."""


@dataclass(frozen=True)
class Network:
    """Describe what a confined process may do with sockets.

    There are three cases: `NONE`, `SERVE` and ``call(port)``.

    Attributes:
        is_serving: it may listen and answer over TCP, and may not call out.
        port: it may call this TCP port, and may not listen; None where it may call nobody. Landlock before
            `PORTS_SINCE` does not tell ports apart: there it may call any. Names are to be looked up before, because
            that takes UDP.
    """

    is_serving: bool = False
    port: int | None = None

    NONE: ClassVar["Network"]
    """No new socket at all, not even a pair of them."""
    SERVE: ClassVar["Network"]

    @classmethod
    def call(cls, port: int) -> "Network":
        """Allow calls to one TCP port, whatever the address."""
        return cls(port=port)


Network.NONE = Network()
Network.SERVE = Network(is_serving=True)
