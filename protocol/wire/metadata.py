"""Refuse headers and trailers: gRPC lets either side add any.

They would cross beside the messages, in no schema and with no limit but their size.
"""

from collections.abc import Iterable
from typing import Any

from protocol.errors import Code, PeerError

FROM_THE_LIBRARY = frozenset({"user-agent"})
"""What a client's gRPC library writes by itself; of a server's, none is shown."""


def refuse_metadata(metadata: Iterable[Any] | None, *, allowed: frozenset[str] = frozenset()) -> None:
    """Refuse what somebody added to a call or to its answer.

    Args:
        metadata: pairs of key and value as gRPC shows them.
        allowed: keys that may be there, once.

    Raises:
        PeerError: there is anything else.
    """
    keys = [key for key, _ in metadata or ()]
    if not allowed.issuperset(keys) or len(keys) > len(set(keys)):
        raise PeerError(
            Code.METADATA,
            "The peer adds metadata to a call; install the same release of ecan-ser at both sites, "
            "and check whether a proxy opens TLS connections on the way.",
        )
