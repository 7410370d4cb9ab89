"""List cases about hand-overs to new keys: chains, forks, consent."""

from collections.abc import Iterator

from protocol.conformance.case import ACCEPTED, Case, Ending, Step, malformed, refused, unauthentic
from protocol.conformance.releases import digest_of
from protocol.conformance.withdrawals import GONE, KEPT, TOP
from protocol.conformance.workshop import Workshop, fingerprint
from protocol.errors import Code
from protocol.statements import succession

GROUP = "hand-over"
LONG = 32
"""How many hand-overs the longest chain has."""
_ROLLBACK, _FAST_FORWARD = refused(Code.ROLLBACK), refused(Code.FAST_FORWARD)
_UNKNOWN, _INVALID = unauthentic(Code.KEY_UNKNOWN), unauthentic(Code.SIG_INVALID)


def handovers(shop: Workshop) -> Iterator[Case]:
    """Yield every case about hand-overs."""
    yield from _chains(shop)
    yield from _forks(shop)
    yield from _lists(shop)
    yield from _releases(shop)
    for name, rule, content, ending in (*_consents(shop), *_forms(shop)):
        proves = "both keys agree to the same"
        yield shop.case(GROUP, name, rule, proves, shop.statement(content, ending))


def _told(shop: Workshop, statements: list[bytes]) -> list[Step]:
    return [shop.statement(content) for content in statements]


def _chains(shop: Workshop) -> Iterator[Case]:
    def case(name: str, rule: str, proves: str, *steps: Step) -> Case:
        return shop.case("chain", name, rule, proves, *steps)

    for length in (1, 2, 8, LONG):
        last = shop.issued_by(shop.heirs[length - 1], number=0)
        steps = _told(shop, shop.chain(length))
        yield case(f"of-{length}", "honest", "the last heir is trusted", *steps, shop.bundle(last))
        for place in {0, length // 2} - {length}:
            key = (shop.release, *shop.heirs)[place]
            step = shop.bundle(shop.issued_by(key, number=0), _UNKNOWN)
            yield case(f"of-{length}-bundle-of-{place}", "old-key", "only the last heir is trusted", *steps, step)
    steps = _told(shop, shop.chain(3))
    nobody = shop.bundle(shop.issued_by(shop.heirs[4], number=0), _UNKNOWN)
    yield case("not-that-far", "old-key", "a chain ends with its last link", *steps, nobody)
    yield from _broken(shop)


def _broken(shop: Workshop) -> Iterator[Case]:
    def case(name: str, rule: str, proves: str, *steps: Step) -> Case:
        return shop.case("chain", name, rule, proves, *steps)

    links = shop.chain(4)
    first, second = shop.statement(links[0]), shop.statement(links[1])
    unknown = shop.statement(links[1], _UNKNOWN)
    yield case("second-link-first", "handover-signer", "links come in their order", unknown, first, second)
    step = shop.statement(links[2], _UNKNOWN)
    yield case("link-missing", "handover-signer", "a chain has no gap", first, step)
    end = shop.bundle(shop.issued_by(shop.heirs[2], number=0), _UNKNOWN)
    yield case("bundle-beyond-the-gap", "old-key", "a chain has no gap", first, step, end)
    stranger = shop.statement(shop.succession(shop.stranger, shop.heirs[2], 3), _UNKNOWN)
    yield case("link-of-a-stranger", "handover-signer", "each link is the heir's", first, second, stranger)
    again = shop.statement(links[0])
    yield case("first-link-again", "honest", "what is known may come again", first, second, again)
    back = shop.statement(shop.succession(shop.heirs[0], shop.release, 2), _ROLLBACK)
    yield case("back-to-the-first", "handover-circle", "no circle", first, back)
    back = shop.statement(shop.succession(shop.heirs[2], shop.heirs[0], 4), _ROLLBACK)
    yield case("back-to-the-second", "handover-circle", "no circle", first, second, shop.statement(links[2]), back)
    for number in (1, 2):
        old = shop.statement(shop.succession(shop.heirs[1], shop.heirs[2], number), _ROLLBACK)
        yield case(f"number-{number}-again", "handover-number", "numbers go up", first, second, old)
    jump = shop.statement(shop.succession(shop.heirs[1], shop.heirs[2], 9))
    yield case("number-leaps", "honest", "hand-overs may be missed by number", first, second, jump)


def _forks(shop: Workshop) -> Iterator[Case]:
    first = shop.statement(shop.succession(shop.release, shop.heirs[0], 1))

    def case(name: str, rule: str, proves: str, *steps: Step) -> Case:
        return shop.case("fork", name, rule, proves, *steps)

    for number in (1, 2, 65535):
        other = shop.statement(shop.succession(shop.release, shop.stranger, number), _ROLLBACK)
        mine = shop.bundle(shop.issued_by(shop.heirs[0], number=0))
        yield case(f"second-heir-{number}", "handover-fork", "a key has one heir", first, other, mine)
    other = shop.statement(shop.succession(shop.release, shop.stranger, 2), _ROLLBACK)
    thief = shop.bundle(shop.issued_by(shop.stranger, number=0), _UNKNOWN)
    yield case("bundle-of-the-second", "handover-fork", "a key has one heir", first, other, thief)
    listed = shop.statement(shop.list_of(1, {KEPT}), _ROLLBACK)
    yield case("list-of-the-old", "silenced", "an old key withdraws nothing", first, listed)
    keyed = shop.statement(shop.list_of(1, keys={fingerprint(shop.heirs[0])}), _ROLLBACK)
    yield case("old-withdraws-heir", "silenced", "an old key withdraws nothing", first, keyed)
    joined = shop.statement(shop.succession(shop.stranger, shop.heirs[0], 5), _UNKNOWN)
    yield case("another-line-joins", "handover-signer", "a line has one beginning", first, joined)
    withdrawn = shop.statement(shop.list_of(1, keys={fingerprint(shop.heirs[0])}, key=shop.heirs[0]))
    bundle = shop.bundle(shop.issued_by(shop.heirs[0], number=0), refused(Code.REVOKED))
    yield case("heir-withdraws-itself", "revoked-key", "a key may end itself", first, withdrawn, bundle)
    old = shop.statement(shop.list_of(1, keys={shop.issuer}, key=shop.heirs[0]))
    yield case(
        "heir-withdraws-old",
        "honest",
        "the old key may be ended",
        first,
        old,
        shop.bundle(shop.issued_by(shop.heirs[0], number=0)),
    )


def _lists(shop: Workshop) -> Iterator[Case]:
    """Yield where the lists go on after a theft of the old key."""
    heir = shop.heirs[0]
    robbed = [shop.statement(shop.list_of(2 + 64 * step, {GONE, KEPT})) for step in range(4)]
    handed = shop.statement(shop.succession(shop.release, heir, 1, last_list=2))

    def case(name: str, rule: str, proves: str, *steps: Step) -> Case:
        return shop.case("recovery", name, rule, proves, *steps)

    def listing(version: int, ending: Ending = ACCEPTED, *weights: bytes) -> Step:
        return shop.statement(shop.list_of(version, weights or {GONE}, key=heir), ending)

    yield case(
        "heir-is-heard", "honest", "a theft of numbers ends with the key", *robbed, handed, listing(3), listing(4)
    )
    for version, rule in ((1, "list-rollback"), (2, "list-floor")):
        step = listing(version, _ROLLBACK)
        yield case(f"heir-at-{version}", rule, "the heir goes on after the stated list", *robbed, handed, step)
    empty = shop.statement(shop.list_of(2, key=heir), _ROLLBACK)
    yield case("heir-at-2-with-nothing", "list-floor", "the heir goes on after the stated list", *robbed, handed, empty)
    for version in (67, TOP):
        step = listing(version, _FAST_FORWARD)
        yield case(
            f"heir-at-{version}", "list-fast-forward", "the heir does not leap", *robbed, handed, step, listing(3)
        )
    thief = shop.statement(shop.list_of(TOP, {GONE, KEPT}), _ROLLBACK)
    yield case("thief-afterwards", "silenced", "the old key is not heard", *robbed, handed, thief)
    kept = shop.weights()
    named = {GONE, digest_of(kept)}
    stolen = (shop.statement(shop.list_of(2, {GONE})), shop.statement(shop.list_of(66, named)))
    bundle = shop.issued_by(heir, number=0)
    still = shop.bundle(bundle, refused(Code.REVOKED))
    yield case(
        "named-by-the-thief", "doubted-list", "what was named stays until the heir speaks", *stolen, handed, still
    )
    yield case(
        "freed-by-the-heir",
        "honest",
        "the heir's list takes its place",
        *stolen,
        handed,
        listing(3),
        shop.bundle(bundle),
    )
    none = shop.statement(shop.succession(shop.release, heir, 1, last_list=0))
    yield case("there-was-no-list", "honest", "a source that withdrew nothing", *stolen, none, shop.bundle(bundle))
    yield case("heir-from-one", "honest", "a source that withdrew nothing", *stolen, none, listing(1))
    old_form = shop.statement(shop.old_succession(shop.release, heir, 1))
    rising = (shop.statement(shop.list_of(2, {GONE})), old_form)
    yield case("old-form", "honest", "the old form is read", *rising, listing(3))
    yield case("old-form-back", "list-rollback", "the heir inherits the number", *rising, listing(1, _ROLLBACK))
    yield case(
        "old-form-withdrawn",
        "revoked-model",
        "the heir inherits the list",
        shop.statement(shop.list_of(1, named)),
        old_form,
        still,
    )
    ahead = shop.statement(shop.succession(shop.release, heir, 1, last_list=500))
    yield case(
        "stated-list-ahead", "list-floor", "the stated number is a floor", ahead, listing(500, _ROLLBACK), listing(501)
    )
    own = shop.statement(shop.list_of(2, {GONE}))
    yield case(
        "own-list-stays",
        "revoked-model",
        "the source's own list stays",
        shop.statement(shop.list_of(2, named)),
        handed,
        still,
    )
    two = shop.statement(shop.succession(heir, shop.heirs[1], 2, last_list=3))
    last = shop.statement(shop.list_of(4, {GONE}, key=shop.heirs[1]))
    yield case("two-in-one-go", "honest", "hand-overs add up", own, handed, two, last)


def _releases(shop: Workshop) -> Iterator[Case]:
    heir = shop.heirs[0]
    old = shop.bundle(shop.issued_by(shop.release, number=0, release=60))

    def case(name: str, rule: str, proves: str, last: int, *steps: Step) -> Case:
        handed = shop.statement(shop.succession(shop.release, heir, 1, last_release=last))
        return shop.case("recovery", name, rule, proves, old, handed, *steps)

    def release(number: int, released: int, ending: Ending = ACCEPTED, name: str = "another") -> Step:
        return shop.bundle(shop.issued_by(heir, number=number, name=name, release=released), ending, number=number)

    yield case("release-goes-on", "honest", "the heir goes on", 60, release(1, 61))
    yield case("release-back", "release-rollback", "releases do not go back", 60, release(1, 59, _ROLLBACK))
    yield case("release-of-a-thief", "honest", "a thief's release ends with the key", 5, release(1, 6))
    yield case("release-last-again", "honest", "the stated number may come again", 5, release(1, 5))
    yield case("release-below", "release-rollback", "the stated number is a floor", 5, release(1, 4, _ROLLBACK))
    yield case(
        "release-leap",
        "release-fast-forward",
        "no leap from the stated number",
        5,
        release(1, 70, refused(Code.FAST_FORWARD)),
    )
    accepted = shop.issued_by(shop.release, number=0, release=60)
    yield case("old-model-stays", "honest", "what was accepted stays in use", 60, shop.reopen(accepted))


def _consents(shop: Workshop) -> Iterator[tuple[str, str, bytes, Ending]]:
    """Yield hand-overs that the new key has not agreed to."""
    old, new = shop.release, shop.heirs[0]
    for name, content in (
        ("by-the-old", shop.succession(old, new, 1, consenting=old)),
        ("by-a-stranger", shop.succession(old, new, 1, consenting=shop.stranger)),
        ("to-another-number", shop.succession(old, new, 1, agreed={"number": 2})),
        ("to-another-list", shop.succession(old, new, 1, last_list=9, agreed={"last_list": 2})),
        ("to-another-release", shop.succession(old, new, 1, last_release=9, agreed={"last_release": 2})),
        ("to-another-key", shop.succession(old, new, 1, agreed={"old": fingerprint(shop.stranger).hex()})),
        ("to-nothing", shop.succession(old, new, 1, replaced={"consent": "00" * 64})),
        ("as-of-version-1", shop.succession(old, new, 1, agreed_as=succession.OLD_CONSENT_TYPE)),
        ("as-a-hand-over", shop.succession(old, new, 1, agreed_as=succession.PAYLOAD_TYPE)),
        ("as-a-certificate", shop.succession(old, new, 1, agreed_as="ecan/online/v1")),
        ("numbers-raised", shop.succession(old, new, 1, last_list=TOP - 1, agreed={"last_list": 0})),
    ):
        yield f"consent-{name}", "consent", content, _INVALID
    itself = shop.succession(old, old, 1)
    yield "to-itself", "handover-form", itself, malformed(Code.VALUE)
    stranger = shop.succession(shop.stranger, new, 1)
    yield "by-a-stranger", "handover-signer", stranger, _UNKNOWN
    yield "by-the-heir", "handover-signer", shop.succession(new, old, 1), _UNKNOWN


def _forms(shop: Workshop) -> Iterator[tuple[str, str, bytes, Ending]]:
    """Yield hand-overs in other forms than theirs."""
    old, new = shop.release, shop.heirs[0]

    def of(**replaced: object) -> bytes:
        return shop.succession(old, new, 1, replaced=replaced)

    for name, changes, code in (
        ("v-1", {"v": 1}, Code.ENUM),
        ("v-3", {"v": 3}, Code.ENUM),
        ("note", {"note": "x"}, Code.UNKNOWN_FIELD),
        ("key-short", {"public_key": "00" * 31}, Code.RANGE),
        ("consent-short", {"consent": "00" * 63}, Code.RANGE),
        ("consent-null", {"consent": None}, Code.TYPE),
    ):
        yield f"form-{name}", "handover-form", of(**changes), malformed(code)
    for name, value in (
        ("number", 0),
        ("number", 65536),
        ("last_list", -1),
        ("last_list", TOP),
        ("last_release", 65536),
    ):
        yield f"form-{name}-{value}", "handover-form", of(**{name: value}), malformed(Code.RANGE)
    told = {"v": 2, "number": 1, "public_key": "00" * 32, "consent": "00" * 64}
    short = shop.record(succession.PAYLOAD_TYPE, told)
    yield "form-without-numbers", "handover-form", short, malformed(Code.MISSING)
    mixed = shop.record(succession.OLD_PAYLOAD_TYPE, {**told, "v": 1, "last_list": 0})
    yield "form-old-with-numbers", "handover-form", mixed, malformed(Code.UNKNOWN_FIELD)
    forged = shop.record("application/vnd.ecan.succession.v4+json", told)
    yield "type-of-the-future", "list-type", forged, unauthentic(Code.PAYLOAD_TYPE)
    zero = shop.succession(old, new, 1, replaced={"public_key": "00" * 32})
    yield "heir-of-small-order", "consent", zero, _INVALID
