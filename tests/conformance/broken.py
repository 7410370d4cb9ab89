"""Clients that are broken on purpose: the second client, each without one rule.

`python -m tests.conformance.broken NAME CASE...` answers cases. `BROKEN` says which rules of the suite each of them
lacks: it must fail in the cases of those rules and in no other.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from tests.conformance import second
from tests.vectors import reader


@dataclass(frozen=True)
class Fault:
    """What a broken client does otherwise, and the rules that it lacks by that."""

    where: object
    name: str
    instead: Any
    rules: frozenset[str]


def anything(*_: Any, **__: Any) -> None:
    """Checks nothing."""


def without_tail(cut: Callable[[bytes], tuple[bytes, bytes]]) -> Callable[[bytes], tuple[bytes, bytes]]:
    """Reads a frame up to the declared end and overlooks the rest."""

    def cut_off(data: bytes) -> tuple[bytes, bytes]:
        lengths = int.from_bytes(data[12:16], "little") + int.from_bytes(data[16:24], "little")
        return cut(data[: 24 + lengths] if len(data) >= 24 else data)

    return cut_off


def without(check: Callable[..., None], *codes: str) -> Callable[..., None]:
    """A check that overlooks some faults, and goes on after them."""

    def checked(*given: Any, **named: Any) -> None:
        def refuse(holds: bool, code: str, exit_class: int | None = None) -> None:
            if code not in codes:
                REFUSE(holds, code, exit_class)

        with patch.object(reader, "refuse_unless", refuse), patch.object(second, "refuse_unless", refuse):
            check(*given, **named)

    return checked


REFUSE = reader.refuse_unless


def first_of(data: bytes, signer: bytes, kind: str) -> bytes:
    """Compares nobody's type."""
    envelope = reader.parse_envelope(data)
    REFUSE(envelope.signer == signer, "KEY_UNKNOWN")
    reader.check_signature(envelope.public_key, envelope.signature, envelope.kind, envelope.payload)
    return envelope.payload


SIGNED = {"signature", "small-order", "list-signature", "consent", "endorsed"}
SIGNED |= {"hybrid-first-half", "hybrid-second-half"}
BROKEN: dict[str, Fault] = {
    "skips-signatures": Fault(reader, "check_signature", anything, frozenset(SIGNED)),
    "takes-keys-of-everybody": Fault(reader, "is_of_small_order", anything, frozenset({"small-order"})),
    "skips-the-second-algorithm": Fault(reader, "check_first_half", anything, frozenset({"hybrid-first-half"})),
    "takes-any-suite": Fault(reader, "check_suite", anything, frozenset({"suite"})),
    "goes-back-to-one-algorithm": Fault(second, "check_no_weaker", anything, frozenset({"no-weaker"})),
    "ignores-types": Fault(reader, "open_envelope", first_of, frozenset({"payload-type"})),
    "accepts-trailing-bytes": Fault(reader, "cut", without_tail(reader.cut), frozenset({"trailing"})),
    "ignores-expiry": Fault(reader, "check_policy", without(reader.check_policy, "EXPIRED"), frozenset({"expiry"})),
    "ignores-the-future": Fault(
        reader, "check_policy", without(reader.check_policy, "NOT_YET"), frozenset({"not-yet"})
    ),
    "ignores-the-audience": Fault(
        reader, "check_policy", without(reader.check_policy, "AUDIENCE"), frozenset({"audience"})
    ),
    "ignores-revocations": Fault(
        second.Memory,
        "gone",
        lambda self, key: frozenset(),
        frozenset({"revoked-model", "revoked-key", "revoked-reopen", "doubted-list"}),
    ),
    "rolls-releases-back": Fault(
        reader, "check_policy", without(reader.check_policy, "ROLLBACK"), frozenset({"release-rollback"})
    ),
    "leaps-with-releases": Fault(
        reader, "check_policy", without(reader.check_policy, "FAST_FORWARD"), frozenset({"release-fast-forward"})
    ),
    "rolls-lists-back": Fault(
        second.Memory, "check_number", without(second.Memory.check_number, "ROLLBACK"), frozenset({"list-rollback"})
    ),
    "leaps-with-lists": Fault(
        second.Memory,
        "check_number",
        without(second.Memory.check_number, "FAST_FORWARD"),
        frozenset({"list-fast-forward"}),
    ),
    "is-frozen": Fault(second.Memory, "refuse_stale", anything, frozenset({"freeze"})),
    "follows-two-heirs": Fault(second.Memory, "check_fork", anything, frozenset({"handover-fork"})),
    "asks-no-heir": Fault(second, "check_consent", anything, frozenset({"consent"})),
    "forgets-the-ledger": Fault(second.Memory, "check_ledger", anything, frozenset({"ledger"})),
    "weighs-nothing": Fault(reader, "check_values", anything, frozenset({"value", "unit-order"})),
}


def main(name: str, cases: list[str]) -> None:
    fault = BROKEN[name]
    with patch.object(fault.where, fault.name, fault.instead):
        second.main(cases)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
