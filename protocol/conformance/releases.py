"""List cases about releases: for whom, in which order, until when."""

import hashlib
from collections.abc import Iterator
from typing import Any

from protocol.conformance.case import ACCEPTED, Case, Ending, Step, refused
from protocol.conformance.workshop import AUDITED, MANY, TODAY, Workshop
from protocol.errors import Code

_ROLLBACK, _FAST_FORWARD = refused(Code.ROLLBACK), refused(Code.FAST_FORWARD)


def releases(shop: Workshop) -> Iterator[Case]:
    """Yield every case about releases."""
    yield from _recipients(shop)
    yield from _numbers(shop)
    yield from _days(shop)
    yield from _audits(shop)


def _stating(shop: Workshop, ending: Ending, today: int = TODAY, **changes: Any) -> Step:
    return shop.bundle(shop.stating(changes), ending, today=today)


def _recipients(shop: Workshop) -> Iterator[Case]:
    other = shop.other_site.fingerprint.hex()
    for name, rule, proves, changes, code in (
        ("issuer-other", "issuer", "issuer and signer are one", {"issuer": "00" * 32}, Code.KEY_UNKNOWN),
        ("issuer-own", "issuer", "issuer and signer are one", {"issuer": other}, Code.KEY_UNKNOWN),
        ("for-another-site", "audience", "a bundle is for one site", {"audience": other}, Code.AUDIENCE),
        ("for-nobody", "audience", "a bundle is for one site", {"audience": "00" * 32}, Code.AUDIENCE),
        ("to-the-source", "audience", "a bundle is for one site", {"audience": shop.issuer.hex()}, Code.AUDIENCE),
        ("grant-of-nobody", "grant", "a bundle answers a request", {"grant": "00" * 16}, Code.GRANT),
        ("grant-other", "grant", "a bundle answers this request", {"grant": shop.grant(1).hex()}, Code.GRANT),
        ("grant-unasked", "grant", "a bundle answers a request", {"grant": shop.grant(MANY).hex()}, Code.GRANT),
    ):
        yield shop.case("recipient", name, rule, proves, shop.bundle(shop.stating(changes), refused(code)))


def _release(shop: Workshop, number: int, release: int, ending: Ending = ACCEPTED, name: str = "model") -> Step:
    """Return a release that comes under its own grant."""
    packed = shop.weights(name)
    content = shop.bundle_of(shop.stated(packed, number=number, release=release), packed)
    return shop.bundle(content, ending, number=number)


def _numbers(shop: Workshop) -> Iterator[Case]:
    def case(name: str, rule: str, proves: str, *steps: Step) -> Case:
        return shop.case("release", name, rule, proves, *steps)

    first = _release(shop, 0, 7)
    yield case("next", "honest", "releases go up", first, _release(shop, 1, 8, name="another"))
    yield case("same-again", "honest", "the same model may come again", first, _release(shop, 1, 7))
    yield case("far", "honest", "64 may be missed", first, _release(shop, 1, 71, name="another"))
    yield case("first-of-all", "honest", "the first may have any number", _release(shop, 0, 65535))
    many = (_release(shop, step, 1 + 60 * step) for step in range(20))
    yield case("long-way", "honest", "any number in many steps", *many)
    for number in (1, 6):
        step = _release(shop, 1, number, _ROLLBACK)
        yield case(f"back-to-{number}", "release-rollback", "releases do not go back", first, step)
    same = _release(shop, 1, 7, _ROLLBACK, name="another")
    yield case("same-number-other-model", "release-rollback", "a number is one model", first, same)
    back = _release(shop, 2, 7, _ROLLBACK)
    yield case(
        "back-after-a-step", "release-rollback", "the newest counts", first, _release(shop, 1, 9, name="another"), back
    )
    refusal = _release(shop, 1, 6, _ROLLBACK)
    again = _release(shop, 2, 6, _ROLLBACK)
    yield case("back-twice", "release-rollback", "a refusal changes nothing", first, refusal, again)
    for leap in (72, 65535):
        step = _release(shop, 1, leap, _FAST_FORWARD, name="another")
        after = _release(shop, 2, 8, name="another")
        yield case(f"leap-to-{leap}", "release-fast-forward", "no leap locks later ones out", first, step, after)
    person = shop.reset(shop.release, 5)
    yield case("after-a-reset", "honest", "a person lowers the floor", first, person, _release(shop, 1, 5, name="x"))
    older = _release(shop, 1, 4, _ROLLBACK)
    yield case("below-a-reset", "release-rollback", "a person's number is a floor", first, person, older)


def _days(shop: Workshop) -> Iterator[Case]:
    def case(name: str, rule: str, proves: str, *steps: Step) -> Case:
        return shop.case("time", name, rule, proves, *steps)

    for days in (30, 90, 180, 365):
        last = _stating(shop, ACCEPTED, TODAY + days, valid_days=days)
        yield case(f"last-day-of-{days}", "honest", "the last day counts", last)
        after = _stating(shop, refused(Code.EXPIRED), TODAY + days + 1, valid_days=days)
        yield case(f"after-{days}", "expiry", "no day longer", after)
    for early in (1, 2):
        step = _stating(shop, ACCEPTED, TODAY - early)
        yield case(f"early-by-{early}", "honest", "two days of tolerance", step)
    for early in (3, 400):
        step = _stating(shop, refused(Code.NOT_YET), TODAY - early)
        yield case(f"early-by-{early}", "not-yet", "two days of tolerance", step)
    yield case(
        "end-of-time", "not-yet", "no day of a source moves the clock", _stating(shop, refused(Code.NOT_YET), day=65535)
    )
    yield case(
        "beginning", "expiry", "no day of a source moves the clock", _stating(shop, refused(Code.EXPIRED), day=0)
    )
    ahead = shop.statement(shop.list_of(1, day=TODAY + 2))
    expired = _stating(shop, refused(Code.EXPIRED), TODAY + 91)
    yield case(
        "list-is-no-clock", "honest", "another's day does not age a bundle", ahead, _stating(shop, ACCEPTED, TODAY + 90)
    )
    yield case("list-is-no-younger-clock", "expiry", "another's day keeps no bundle young", ahead, expired)
    late = shop.bundle(today=TODAY + 60)
    packed = shop.weights("another")
    back = shop.bundle(
        shop.bundle_of(shop.stated(packed, number=1, release=8, day=TODAY + 60), packed),
        refused(Code.NOT_YET),
        number=1,
        today=TODAY + 50,
    )
    yield case("clock-set-back", "not-yet", "the own clock counts, also when it is set back", late, back)


def _audits(shop: Workshop) -> Iterator[Case]:
    audited = dict(AUDITED)
    no = refused(Code.AUDIT)

    def case(name: str, rule: str, proves: str, changes: dict[str, Any], ending: Ending, **rules: Any) -> Case:
        return shop.case("audit", name, rule, proves, _stating(shop, ending, **changes), site=shop.site(**rules))

    yield case("passed-tier-2", "honest", "figures at the bars", audited, ACCEPTED, least_tier=2)
    tier_1 = audited | {"tier": 1, "networks": 5, "lira_auc": 120, "lira_tpr1": 10, "file_auc": 120, "spk_auc": 0}
    yield case("passed-tier-1", "honest", "figures at the bars", tier_1, ACCEPTED, least_tier=1)
    for name, bar in (("lira_auc", 110), ("lira_tpr1", 4), ("file_auc", 110), ("spk_auc", 120)):
        for value in (bar + 1, 0):
            told = audited | {name: value}
            yield case(f"tier-2-{name}-{value}", "audit-bars", "passed means passed", told, no)
    for name, bar in (("lira_auc", 120), ("lira_tpr1", 10), ("file_auc", 120)):
        yield case(f"tier-1-{name}-{bar + 1}", "audit-bars", "passed means passed", tier_1 | {name: bar + 1}, no)
    for changes in (audited | {"networks": 5}, tier_1 | {"networks": 4}):
        yield case(f"tier-{changes['tier']}-few-networks", "audit-bars", "passed means passed", changes, no)
    overridden = audited | {"audit": "overridden", "lira_auc": 180}
    yield case("overridden", "overridden", "nobody is told to take it", overridden, no)
    yield case("overridden-and-accepted", "honest", "a site may take it", overridden, ACCEPTED, accept_overridden=True)
    for least in (1, 2):
        yield case(f"tier-0-of-{least}", "least-tier", "a site asks for a tier", {}, no, least_tier=least)
    yield case("tier-1-of-2", "least-tier", "a site asks for a tier", tier_1, no, least_tier=2)


def digest_of(packed: bytes) -> bytes:
    """Return the SHA-256 of weights."""
    return hashlib.sha256(packed).digest()
