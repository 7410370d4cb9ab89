"""List cases about revocation lists: withdrawn, old, ahead, frozen."""

import json
from collections.abc import Iterator
from typing import Any

from protocol.conformance.case import ACCEPTED, Case, Ending, Step, malformed, refused, unauthentic
from protocol.conformance.releases import digest_of
from protocol.conformance.workshop import TODAY, Workshop, fingerprint, line_hash
from protocol.errors import Code
from protocol.identity import signing
from protocol.identity.signing import SigningKey
from protocol.statements import revocations, succession

GROUP = "revocation"
TOP = 65535
GONE, KEPT = line_hash(90), line_hash(91)
_ROLLBACK, _FAST_FORWARD = refused(Code.ROLLBACK), refused(Code.FAST_FORWARD)


def withdrawals(shop: Workshop) -> Iterator[Case]:
    """Yield every case about revocation lists."""
    yield from _effects(shop)
    yield from _order(shop)
    yield from _freeze(shop)
    for name, rule, proves, content, ending in (*_forms(shop), *_signers(shop)):
        yield shop.case(GROUP, name, rule, proves, shop.statement(content, ending))


def _effects(shop: Workshop) -> Iterator[Case]:
    weights, no = digest_of(shop.weights()), refused(Code.REVOKED)
    content = shop.bundle_of()
    withdrawn = shop.statement(shop.list_of(1, {weights}))

    def case(name: str, rule: str, proves: str, *steps: Step) -> Case:
        return shop.case(GROUP, name, rule, proves, *steps)

    yield case("model-before", "revoked-model", "no withdrawn model is taken", withdrawn, shop.bundle(content, no))
    yield case(
        "model-after",
        "revoked-reopen",
        "no withdrawn model is used",
        shop.bundle(content),
        withdrawn,
        shop.reopen(content, no),
    )
    yield case(
        "model-kept",
        "honest",
        "others stay",
        shop.bundle(content),
        shop.statement(shop.list_of(1, {KEPT})),
        shop.reopen(content),
    )
    key = shop.statement(shop.list_of(1, keys={shop.issuer}))
    yield case("key-before", "revoked-key", "no withdrawn key is followed", key, shop.bundle(content, no))
    yield case(
        "key-after",
        "revoked-reopen",
        "no model of a withdrawn key is used",
        shop.bundle(content),
        key,
        shop.reopen(content, no),
    )
    later = shop.statement(shop.list_of(2, keys={shop.issuer}), no)
    yield case("key-then-list", "revoked-key", "a withdrawn key says nothing", key, later)
    handed = shop.statement(shop.succession(shop.release, shop.heirs[0], 1), no)
    yield case("key-then-heir", "revoked-key", "a withdrawn key hands nothing over", key, handed)
    heir = shop.statement(shop.list_of(1, keys={fingerprint(shop.heirs[0])}))
    yield case("heir-then-heir", "revoked-key", "a withdrawn key inherits nothing", heir, handed)
    second = shop.statement(shop.list_of(2, {KEPT, weights}))
    first = shop.statement(shop.list_of(1, {KEPT}))
    yield case("second-list", "revoked-model", "the newest list counts", first, second, shop.bundle(content, no))
    other_key = shop.statement(shop.list_of(1, keys={fingerprint(shop.stranger)}))
    yield case("other-key", "honest", "others stay", other_key, shop.bundle(content))


def _order(shop: Workshop) -> Iterator[Case]:
    def case(name: str, rule: str, proves: str, *steps: tuple[bytes, Ending]) -> Case:
        return shop.case(GROUP, name, rule, proves, *(shop.statement(*step) for step in steps))

    def of(version: int, *weights: bytes, **changes: Any) -> bytes:
        return shop.list_of(version, weights or {GONE}, **changes)

    yield case("next", "honest", "lists go up", (of(1), ACCEPTED), (of(2, GONE, KEPT), ACCEPTED))
    yield case("same-again", "honest", "the same list may come again", (of(2), ACCEPTED), (of(2), ACCEPTED))
    yield case("newer-day", "honest", "a list is renewed", (of(2), ACCEPTED), (of(2, day=TODAY + 1), ACCEPTED))
    yield case("empty", "honest", "a list may be empty", (shop.list_of(1), ACCEPTED))
    yield case("64-missed", "honest", "64 may be missed", (of(2), ACCEPTED), (of(66), ACCEPTED))
    yield case("first-256", "honest", "the first has at most 256", (of(256), ACCEPTED))
    yield case("back", "list-rollback", "lists do not go back", (of(2), ACCEPTED), (of(1), _ROLLBACK))
    yield case(
        "back-empty", "list-back-and-shorter", "lists do not go back", (of(2), ACCEPTED), (shop.list_of(1), _ROLLBACK)
    )
    yield case("two-of-one", "list-content", "a number is one list", (of(2), ACCEPTED), (of(2, KEPT), _ROLLBACK))
    yield case(
        "two-of-one-longer", "list-content", "a number is one list", (of(2), ACCEPTED), (of(2, GONE, KEPT), _ROLLBACK)
    )
    yield case("shorter", "list-content", "lists do not forget", (of(2), ACCEPTED), (shop.list_of(3), _ROLLBACK))
    yield case("other", "list-content", "lists do not forget", (of(2), ACCEPTED), (of(3, KEPT), _ROLLBACK))
    keyed = of(2, keys={KEPT})
    yield case("key-forgotten", "list-content", "lists do not forget", (keyed, ACCEPTED), (of(3), _ROLLBACK))
    for leap in (67, 1000, TOP):
        yield case(
            f"leap-to-{leap}", "list-fast-forward", "no leap locks later ones out",
            *((of(2), ACCEPTED), (of(leap), _FAST_FORWARD), (of(3), ACCEPTED)),
        )  # fmt: skip
    for first in (257, TOP):
        yield case(
            f"first-{first}",
            "list-fast-forward",
            "no leap at the beginning",
            (of(first), _FAST_FORWARD),
            (of(1), ACCEPTED),
        )
    for ahead in (1, 2):
        yield case(f"day-{ahead}", "honest", "two days of tolerance", (of(1, day=TODAY + ahead), ACCEPTED))
    for ahead in (3, 10_000):
        step = (of(1, day=TODAY + ahead), refused(Code.NOT_YET))
        yield case(f"day-{ahead}", "list-not-yet", "a list from the future never grows old", step)
    yield from _recoveries(shop)


def _recoveries(shop: Workshop) -> Iterator[Case]:
    """Yield how a person ends what a thief of the release key has begun."""
    stolen = [shop.statement(shop.list_of(2 + 64 * step, {GONE})) for step in range(3)]
    rightful = shop.list_of(3, {GONE})
    locked = shop.statement(rightful, _ROLLBACK)

    def case(name: str, rule: str, proves: str, *steps: Step) -> Case:
        return shop.case(GROUP, name, rule, proves, *steps)

    yield case("locked-out", "list-rollback", "a thief has led the numbers up", *stolen, locked)
    heard = shop.statement(rightful)
    yield case(
        "heard-after-reset", "honest", "a person names the newest list", *stolen, shop.reset(shop.release, 0, 3), heard
    )
    none = shop.reset(shop.release, 0, 0)
    yield case(
        "heard-from-one", "honest", "a person says that there is none", *stolen, none, shop.statement(shop.list_of(1))
    )
    older = shop.statement(shop.list_of(2, {GONE}), _ROLLBACK)
    yield case(
        "older-after-reset",
        "list-floor",
        "a person's number is a floor",
        *stolen,
        shop.reset(shop.release, 0, 3),
        older,
    )
    leap = shop.statement(shop.list_of(TOP, {GONE}), _FAST_FORWARD)
    yield case(
        "leap-after-reset", "list-fast-forward", "no second lock-out", *stolen, shop.reset(shop.release, 0, 3), leap
    )


def _freeze(shop: Workshop) -> Iterator[Case]:
    old = refused(Code.EXPIRED)

    def case(name: str, rule: str, proves: str, days: int, *steps: Step) -> Case:
        return shop.case("freeze", name, rule, proves, *steps, site=shop.site(oldest_revocations_days=days))

    told = shop.statement(shop.list_of(1))
    yield case("no-list", "freeze", "a site asks for a list", 7, shop.bundle(ending=old))
    yield case("fresh", "honest", "a list of today", 7, told, shop.bundle())
    yield case("last-day", "honest", "the last day counts", 7, told, shop.bundle(today=TODAY + 7))
    yield case("old", "freeze", "no day longer", 7, told, shop.bundle(ending=old, today=TODAY + 8))
    day = _renewed(shop, 5)
    yield case("renewed", "honest", "a list is renewed under its number", 7, told, day, shop.bundle(today=TODAY + 12))
    yield case("renewed-and-old", "freeze", "no day longer", 7, told, day, shop.bundle(ending=old, today=TODAY + 13))
    replayed = shop.statement(shop.list_of(1), today=TODAY + 8)
    yield case(
        "replayed",
        "freeze",
        "the same old list is not fresh",
        7,
        told,
        replayed,
        shop.bundle(ending=old, today=TODAY + 8),
    )
    back = (told, day, shop.statement(shop.list_of(1), today=TODAY + 6))
    yield case("older-copy", "honest", "an older copy takes no day back", 7, *back, shop.bundle(today=TODAY + 12))
    handed = shop.statement(shop.succession(shop.release, shop.heirs[0], 1, last_list=1))
    content = shop.issued_by(shop.heirs[0], number=0)
    yield case(
        "heir-without-list", "freeze", "the list of the key of today counts", 7, told, handed, shop.bundle(content, old)
    )
    heard = shop.statement(shop.list_of(2, key=shop.heirs[0]))
    yield case(
        "heir-with-list", "honest", "the list of the key of today counts", 7, told, handed, heard, shop.bundle(content)
    )


def _renewed(shop: Workshop, days: int) -> Step:
    return shop.statement(shop.list_of(1, day=TODAY + days), today=TODAY + days)


def _forms(shop: Workshop) -> Iterator[tuple[str, str, str, bytes, Ending]]:
    """Yield lists in other forms than theirs."""
    digest, later = sorted((GONE.hex(), KEPT.hex()))
    not_canonical = malformed(Code.NOT_CANONICAL)

    for name, text in (
        ("unsorted", later + digest),
        ("twice", digest * 2),
        ("upper-case", digest.upper()),
        ("half-a-digest", digest[:32]),
        ("space", digest + " " + later),
        ("words", "none"),
    ):
        fields = shop.list_fields(1) | {"weights": text}
        yield (
            f"digests-{name}",
            "list-form",
            "digests have one form",
            shop.record(revocations.PAYLOAD_TYPE, fields),
            not_canonical,
        )
    many = "".join(sorted(line_hash(number).hex() for number in range(65)))
    fields = shop.list_fields(1) | {"keys": many}
    content = shop.record(revocations.PAYLOAD_TYPE, fields)
    yield "65-keys", "list-form", "a list has an end", content, malformed(Code.RANGE)
    for version in (0, TOP + 1, -1):
        content = shop.record(revocations.PAYLOAD_TYPE, shop.list_fields(version))
        yield f"version-{version}", "list-form", "a number has its range", content, malformed(Code.RANGE)
    for name, changes, code in (
        ("record-v-2", {"v": 2}, Code.ENUM),
        ("note", {"note": "x"}, Code.UNKNOWN_FIELD),
        ("version-text", {"version": "1"}, Code.TYPE),
        ("day-true", {"day": True}, Code.TYPE),
    ):
        content = shop.record(revocations.PAYLOAD_TYPE, {**shop.list_fields(1), **changes})
        yield name, "list-form", "a list has its fields", content, malformed(code)
    for name in ("v", "version", "day", "weights", "keys"):
        fields = {key: value for key, value in shop.list_fields(1).items() if key != name}
        content = shop.record(revocations.PAYLOAD_TYPE, fields)
        yield f"without-{name}", "list-form", "a list has its fields", content, malformed(Code.MISSING)
    spaced = json.dumps(shop.list_fields(1), sort_keys=True).encode()
    content = signing.sign(revocations.PAYLOAD_TYPE, spaced, shop.release)
    yield "spaced", "list-form", "a list has one spelling", content, not_canonical


def _signers(shop: Workshop) -> Iterator[tuple[str, str, str, bytes, Ending]]:
    unknown = unauthentic(Code.KEY_UNKNOWN)
    keys: tuple[tuple[str, SigningKey], ...] = (
        ("stranger", shop.stranger),
        ("online", shop.online),
        ("site", shop.identity.signing_key),
        ("heir", shop.heirs[0]),
    )
    for name, key in keys:
        yield f"by-{name}", "list-signer", "only the release key withdraws", shop.list_of(1, key=key), unknown
    data = shop.list_of(1)
    forged = json.loads(data)
    forged["payload"] = json.loads(shop.list_of(1, {KEPT}))["payload"]
    content = json.dumps(forged, sort_keys=True, separators=(",", ":")).encode()
    yield "forged", "list-signature", "a signature holds over the list", content, unauthentic(Code.SIG_INVALID)
    kind = unauthentic(Code.PAYLOAD_TYPE)
    told = shop.record("application/vnd.ecan.revocations.v2+json", shop.list_fields(1))
    yield "other-type", "list-type", "no record passes for another", told, kind
    told = shop.record("application/vnd.ecan.manifest.v2+json", shop.list_fields(1))
    yield "as-manifest", "list-type", "no record passes for another", told, kind
    told = shop.record(succession.PAYLOAD_TYPE, shop.list_fields(1))
    yield "as-succession", "list-form", "a list is no hand-over", told, malformed(Code.UNKNOWN_FIELD)
