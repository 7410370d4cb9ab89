"""Read network addresses as ``HOST:PORT``.

An IPv6 host stands in brackets.
"""

import re
from dataclasses import dataclass

from protocol.errors import Code, PeerError

_PATTERN = re.compile(r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([^\s:/\[\]]+)):(\d{1,5})")
_MAX_PORT = 65535


@dataclass(frozen=True)
class Address:
    """Hold where a source listens; says nothing about who listens there."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Read ``HOST:PORT``.

    Raises:
        PeerError: it has another form, or the port does not exist.
    """
    match = _PATTERN.fullmatch(text)
    if match is None or int(match[3]) > _MAX_PORT:
        raise PeerError(
            Code.ADDRESS,
            f"{text!r} is not an address; write HOST:PORT, such as 192.0.2.7:7443 or [2001:db8::7]:7443.",
        )
    return Address(match[1] or match[2], int(match[3]))
