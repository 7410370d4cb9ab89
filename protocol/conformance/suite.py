"""Put all cases together, made anew with fresh keys."""

from collections import Counter
from collections.abc import Callable, Iterator

from protocol.conformance.case import Case
from protocol.conformance.desk import desk
from protocol.conformance.encodings import encodings
from protocol.conformance.frames import frames
from protocol.conformance.handovers import handovers
from protocol.conformance.hybrids import hybrids
from protocol.conformance.models import models
from protocol.conformance.published import published
from protocol.conformance.releases import releases
from protocol.conformance.sealed import sealed
from protocol.conformance.signatures import signatures
from protocol.conformance.withdrawals import withdrawals
from protocol.conformance.workshop import Workshop, open_workshop

_PARTS: tuple[Callable[[Workshop], Iterator[Case]], ...] = (
    *(frames, encodings, signatures, sealed, models),
    *(releases, withdrawals, handovers, desk, hybrids),
)


def make_cases(group: str | None = None) -> tuple[Case, ...]:
    """Make every case, or those of one class.

    Raises:
        ValueError: two cases have one id.
    """
    shop = open_workshop()
    cases = (*(case for part in _PARTS for case in part(shop)), *published())
    twice = [name for name, count in Counter(case.id for case in cases).items() if count > 1]
    if twice:
        raise ValueError(f"two cases have the id {twice[0]}")
    return tuple(case for case in cases if group in (None, case.group))
