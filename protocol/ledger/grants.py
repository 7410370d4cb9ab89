"""Decide what may happen to a grant, in which order and how often.

It also decides how each step is written down.

    (absent) --ISSUED--> ISSUED --OPENED--> RESERVED --STARTED--> STREAMING --CLOSED--> CLOSED
                           `--------------STARTED--------------------^
    ISSUED, RESERVED, STREAMING --DENIED--> DENIED
    RESERVED, STREAMING --EXPIRED: window or quota is over--> EXPIRED --CLOSED: the delivery is proved later--> CLOSED

States only move right. Every event is one line of the ledger, a canonical record, and the state of a grant follows
from its lines alone. Nothing here reads a file or a clock; `protocol.ledger.store` keeps what is decided here.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from protocol import canonical
from protocol.errors import Code, RefusedError

SECONDS_PER_DAY = 86_400
WINDOW_S = SECONDS_PER_DAY
"""How long a grant is served after it was first opened, in seconds."""
CLOCK_SLACK_S = 3_600
"""How far the clock may be set back within a window, in seconds; further back is outside of it as well."""
QUOTA_FACTOR = 3
"""How often the bytes of one bundle may leave for its grant."""
MAX_FETCHES = 64
"""How many fetches one grant allows."""

NO_BOOK = bytes(32)
"""Stands for a book in which no model is counted."""

_MAX_LINE_BYTES = 1024
_WHAT = "line"


class GrantState(StrEnum):
    """Name how far a grant has come."""

    ISSUED = "ISSUED"
    """Bound to one sealed bundle; its site has not asked for it yet."""
    RESERVED = "RESERVED"
    """Offered to its site; no byte of it has left, and the window is running."""
    STREAMING = "STREAMING"
    """Bytes of its bundle may have left."""
    CLOSED = "CLOSED"
    """The site's receipt is here; nothing leaves for this grant any more."""
    DENIED = "DENIED"
    """The source's officer took it back; nothing leaves for this grant any more."""
    EXPIRED = "EXPIRED"
    """Its window or its quota is over; nothing leaves for this grant any more, but a receipt is still taken."""

    @property
    def has_ended(self) -> bool:
        """Whether the grant has ended and nothing more may leave."""
        return self in (GrantState.CLOSED, GrantState.DENIED, GrantState.EXPIRED)


class GrantEvent(StrEnum):
    """Name what happened to a grant: the first field of a line."""

    ISSUED = "ISSUED"
    OPENED = "OPENED"
    STARTED = "STARTED"
    EXPIRED = "EXPIRED"
    DENIED = "DENIED"
    CLOSED = "CLOSED"


_BEFORE = {
    GrantEvent.OPENED: {GrantState.ISSUED, GrantState.STREAMING},
    GrantEvent.STARTED: {GrantState.ISSUED, GrantState.RESERVED},
    GrantEvent.EXPIRED: {GrantState.RESERVED, GrantState.STREAMING},
    GrantEvent.DENIED: {GrantState.ISSUED, GrantState.RESERVED, GrantState.STREAMING},
    GrantEvent.CLOSED: {GrantState.STREAMING, GrantState.EXPIRED},
}

_COMMON: canonical.Schema = {
    "event": canonical.OneOf(tuple(GrantEvent)),
    "grant": canonical.Hex(16),
    "day": canonical.Int(0, 10**9),
}

_FACTS: dict[GrantEvent, canonical.Schema] = {
    GrantEvent.ISSUED: {
        "audience": canonical.Hex(32),
        "model": canonical.Hex(32),
        "release": canonical.Int(1, 10**9),
        "sealed_sha256": canonical.Hex(32),
        "size": canonical.Int(1, 10**15 - 1),
        "bundle_sha256": canonical.Hex(32),
        "weights_sha256": canonical.Hex(32),
        "book": canonical.Hex(32),
    },
    GrantEvent.OPENED: {"expires_s": canonical.Int(0, 10**15 - 1)},
    GrantEvent.CLOSED: {"receipt_sha256": canonical.Hex(32)},
}


@dataclass(frozen=True, kw_only=True)
class SealedFacts:
    """Describe the one sealed bundle of a grant.

    Attributes:
        sealed_sha256: SHA-256 of the bytes that leave.
        size: how many they are.
        bundle_sha256: SHA-256 of the plain bundle.
        weights_sha256: SHA-256 of its weights.
        book: digest of the book that counts models by their speech, as it stood then.
    """

    sealed_sha256: bytes
    size: int
    bundle_sha256: bytes
    weights_sha256: bytes
    book: bytes = NO_BOOK


@dataclass(frozen=True, kw_only=True)
class GrantRecord:
    """Hold the row of one grant.

    Attributes:
        grant: the grant's id, 16 bytes.
        audience: fingerprint of the site that it was given to, 32 bytes.
        release: number of the release; it belongs to the model, so grants of one model share it.
        state: how far the grant has come.
        sealed_sha256: SHA-256 of the one byte string that may leave for this grant.
        size: how many bytes these are.
        bundle_sha256: SHA-256 of the plain bundle.
        weights_sha256: SHA-256 of its weights.
        book: digest of the book that counts models by their speech, as it stood then.
        expires_s: when the window ends, in seconds since 1970; None until it is opened over the wire.
        fetches: how many fetches began.
        sent_bytes: how many bytes may have left over the wire; a file that is carried by hand is not counted.
        receipt: the site's signed receipt, once CLOSED.
    """

    grant: bytes
    audience: bytes
    release: int
    state: GrantState
    sealed_sha256: bytes
    size: int
    bundle_sha256: bytes
    weights_sha256: bytes
    book: bytes
    expires_s: int | None = None
    fetches: int = 0
    sent_bytes: int = 0
    receipt: bytes | None = None


class CannotFollowError(Exception):
    """Report that a line cannot follow the lines before it.

    The message is half a sentence.
    """


def advance(record: GrantRecord | None, entry: dict[str, Any]) -> GrantRecord:
    """Return the record of a grant after one more line.

    Here the receipt is its SHA-256, because a line holds no more.

    Args:
        record: what the lines before it left; None if there is none for this grant.
        entry: the fields of the line, see `read_line`.

    Raises:
        CannotFollowError: this cannot happen to the grant now.
    """
    event = entry["event"]
    if event is GrantEvent.ISSUED:
        if record is not None:
            raise CannotFollowError("it issues a grant again")
        facts = {name: entry[name] for name in _FACTS[event] if name != "model"}
        return GrantRecord(grant=entry["grant"], state=GrantState.ISSUED, **facts)
    if (
        record is None
        or record.state not in _BEFORE[event]
        or (event is GrantEvent.OPENED and record.expires_s is not None)
    ):
        raise CannotFollowError("it does not follow from the state of its grant")
    if event is GrantEvent.OPENED:
        state = GrantState.RESERVED if record.state is GrantState.ISSUED else record.state
        return replace(record, state=state, expires_s=entry["expires_s"])
    if event is GrantEvent.STARTED:
        return replace(record, state=GrantState.STREAMING)
    return replace(record, state=GrantState(event), receipt=entry.get("receipt_sha256"))


def write_line(entry: dict[str, Any]) -> bytes:
    """Write the line of an event: a canonical record of its fields.

    Raises:
        MalformedError: a field is of another type or out of range.
    """
    return canonical.write_record(entry, _line_schema(entry["event"]), what=_WHAT)


def read_line(data: bytes) -> dict[str, Any]:
    """Read the fields of a line.

    Raises:
        MalformedError: it is not the record of an event.
    """
    value = canonical.parse_object(data, what=_WHAT, max_bytes=_MAX_LINE_BYTES)
    event = _COMMON["event"].load("event", value.get("event"))
    return canonical.load_fields(value, _line_schema(event), what=_WHAT)


def ended_grant(state: GrantState) -> RefusedError:
    """Return the refusal for a grant that has ended."""
    why = {
        GrantState.CLOSED: "is closed: its bundle was delivered once",
        GrantState.DENIED: "was taken back by the source",
        GrantState.EXPIRED: "is over: its window has passed or its quota is used up",
    }[state]
    return RefusedError(Code.STATE, f"This grant {why}; ask the target site for a new request.")


def _line_schema(event: GrantEvent) -> canonical.Schema:
    return {**_COMMON, **_FACTS.get(event, {})}
