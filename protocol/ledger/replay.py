"""Check that a ledger still says what was written into it.

All lines are replayed and compared with the rows.

Every line is hashed together with the hash of the line before it, so the last hash stands for all of them; the rows
follow from the lines alone, save for their counters. All here is a function of lines and rows: `Ledger.verify` reads
them, and `Ledger.contains` compares one hash.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any

from protocol.errors import ProtocolError
from protocol.ledger.grants import CannotFollowError, GrantEvent, GrantRecord, advance, read_line


@dataclass(frozen=True, kw_only=True)
class Head:
    """Hold the last line, which stands for all lines before it.

    Attributes:
        seq: its number, from 1; 0 for an empty ledger.
        digest: its hash, 32 bytes.
    """

    seq: int
    digest: bytes

    def then(self, line: bytes) -> "Head":
        """Return the head once this line is added."""
        return Head(seq=self.seq + 1, digest=hashlib.sha256(self.digest + line).digest())


EMPTY = Head(seq=0, digest=hashlib.sha256(b"ecan/ledger/v1").digest())
"""The head of a ledger without a line."""


@dataclass(kw_only=True)
class RebuiltGrant:
    """Describe a grant as the lines tell it.

    Attributes:
        issued: number of the line that issued it.
        last: number of the last line that speaks of it.
        record: what they left; its receipt is a SHA-256, and its counters are 0.
    """

    issued: int
    last: int
    record: GrantRecord


@dataclass(kw_only=True)
class History:
    """Hold what follows from all lines.

    Attributes:
        head: the last of them.
        grants: every grant that was issued, by its id.
        releases: the release number of every model, by the model's SHA-256.
    """

    head: Head = EMPTY
    grants: dict[bytes, RebuiltGrant] = field(default_factory=dict)
    releases: dict[bytes, int] = field(default_factory=dict)


class ForeignChangeError(Exception):
    """Report what something else than the ledger has changed.

    The message is half a sentence.
    """


def replay(lines: Iterable[tuple[int, bytes, bytes]]) -> History:
    """Recompute the chain; check that each line may follow those before.

    Args:
        lines: number, record and hash of each, in order of the numbers.

    Raises:
        ForeignChangeError: it names the first wrong line.
    """
    history = History()
    for seq, data, digest in lines:
        head = history.head.then(data)
        if seq != head.seq:
            raise ForeignChangeError(f"line {head.seq} is missing")
        if digest != head.digest:
            raise ForeignChangeError(f"line {head.seq} is not what was written there")
        history.head = head
        try:
            _add(history, read_line(data))
        except (ProtocolError, CannotFollowError) as error:
            why = error if isinstance(error, CannotFollowError) else "it is not the record of an event"
            raise ForeignChangeError(f"line {head.seq} was never written by this program: {why}") from error
    return history


def compare(history: History, rows: Iterable[tuple[int, GrantRecord]], releases: Iterable[tuple[bytes, int]]) -> None:
    """Check that the rows are what the lines left.

    Args:
        history: what the lines tell.
        rows: the line that issued each grant, and its record; in order of these lines.
        releases: each model's SHA-256 with its release number.

    Raises:
        ForeignChangeError: it names the first wrong row.
    """
    told = sorted(history.grants.values(), key=lambda rebuilt: rebuilt.issued)
    for row, rebuilt in zip_longest(rows, told):
        if rebuilt is None:
            raise ForeignChangeError(f"no line issued the grant {row[1].grant.hex()} that has a row")
        if row is None or (row[0], _as_lines_tell(row[1])) != (rebuilt.issued, rebuilt.record):
            grant = rebuilt.record.grant.hex()
            raise ForeignChangeError(f"the row of grant {grant} is not what the lines up to line {rebuilt.last} left")
    if dict(releases) != history.releases:
        raise ForeignChangeError("the numbers of the releases are not what the lines say")


def _add(history: History, entry: dict[str, Any]) -> None:
    """Add what the last line says."""
    if entry["event"] is GrantEvent.ISSUED:
        release = history.releases.setdefault(entry["model"], len(history.releases) + 1)
        if release != entry["release"]:
            raise CannotFollowError("its release does not belong to its model")
    known = history.grants.get(entry["grant"])
    record = advance(known.record if known else None, entry)
    line = history.head.seq
    history.grants[record.grant] = RebuiltGrant(issued=known.issued if known else line, last=line, record=record)


def _as_lines_tell(record: GrantRecord) -> GrantRecord:
    """Return the record as lines tell it.

    It has no counters, and the SHA-256 of the receipt in the receipt's place.
    """
    receipt = None if record.receipt is None else hashlib.sha256(record.receipt).digest()
    return replace(record, fetches=0, sent_bytes=0, receipt=receipt)
