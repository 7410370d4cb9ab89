"""List cases about what both sites say on the wire and at the desk.

Offers and checkpoints of the source, requests and receipts of the site.
"""

import json
from collections.abc import Iterator
from typing import Any

from protocol import canonical
from protocol.conformance.case import ACCEPTED, Case, Ending, Step, malformed, peer, unauthentic
from protocol.conformance.workshop import TODAY, Workshop, changed, line_hash
from protocol.errors import Code
from protocol.identity import signing
from protocol.statements import offers, request
from protocol.statements.request import sign_request

_IDENTITY, _LEDGER = unauthentic(Code.IDENTITY), peer(Code.LEDGER)
_INVALID = unauthentic(Code.SIG_INVALID)


def desk(shop: Workshop) -> Iterator[Case]:
    """Yield every case about offers, checkpoints, requests and receipts."""
    yield from _ledgers(shop)
    yield from _checkpoints(shop)
    yield from _offers(shop)
    for name, content, ending in _requests(shop):
        step = shop.given("request", content, ending)
        yield shop.case("request", name, _rule_of(ending, "request"), "who asks holds the keys", step)
    for name, content, ending in _receipts(shop):
        step = shop.given("receipt", content, ending)
        yield shop.case("receipt", name, _rule_of(ending, "receipt"), "only the site acknowledges", step)


def _rule_of(ending: Ending, usual: str) -> str:
    """Return the rule that a case of the desk is about."""
    shared = {"": "honest", Code.SIG_INVALID: "signature", Code.PAYLOAD_TYPE: "payload-type"}
    return shared.get(ending.code, usual)


def _ledgers(shop: Workshop) -> Iterator[Case]:
    def case(name: str, rule: str, proves: str, *steps: Step) -> Case:
        return shop.case("ledger", name, rule, proves, *steps)

    first = shop.checkpoint(shop.checkpoint_of(5))
    yield case("grows", "honest", "a ledger grows", first, shop.checkpoint(shop.checkpoint_of(9, 5)))
    yield case("stands-still", "honest", "a ledger may stand still", first, shop.checkpoint(shop.checkpoint_of(5, 5)))
    other = line_hash(99).hex()
    for name, content in (
        ("shrinks", shop.checkpoint_of(4, 5)),
        ("rewritten", shop.checkpoint_of(5, 5, head=other)),
        ("rewritten-below", shop.checkpoint_of(9, 5, seen_head=other)),
        ("other-line-seen", shop.checkpoint_of(9, 4)),
        ("nothing-seen", shop.checkpoint_of(9)),
        ("seen-head-of-zeros", shop.checkpoint_of(9, 5, seen_head="00" * 32)),
    ):
        yield case(name, "ledger", "a ledger keeps its past", first, shop.checkpoint(content, _LEDGER))
    early = shop.checkpoint(shop.checkpoint_of(9, 5), _LEDGER)
    yield case("seen-before-anything", "ledger", "nothing was seen yet", early)


def _checkpoints(shop: Workshop) -> Iterator[Case]:
    def case(name: str, content: bytes, ending: Ending, endorsement: bytes | None = None, rule: str = "online") -> Case:
        step = shop.checkpoint(content, ending, endorsement)
        return shop.case("checkpoint", name, rule, "the endorsed key alone speaks", step)

    data = shop.checkpoint_of(5)
    yield case("by-the-release-key", shop.checkpoint_of(5, key=shop.release), _INVALID, rule="endorsed")
    yield case("by-a-stranger", shop.checkpoint_of(5, key=shop.stranger), _INVALID, rule="endorsed")
    stranger = shop.endorsement(release=shop.stranger)
    yield case("endorsed-by-a-stranger", data, _IDENTITY, stranger, rule="endorser")
    for name, cut in (("short", shop.endorsement()[:-1]), ("long", shop.endorsement() + b"\0"), ("empty", b"")):
        yield case(f"endorsement-{name}", data, _IDENTITY, cut)
    yield case("endorsement-changed", data, _INVALID, changed(shop.endorsement(), 40), rule="endorsed")
    forged = signing.raw_public_key(shop.release) + shop.release.sign(signing.raw_public_key(shop.online))
    yield case("endorsement-of-no-type", data, _INVALID, forged, rule="endorsed")
    yield case("seq-0", shop.checkpoint_of(0), malformed(Code.RANGE), rule="online-form")
    yield case(
        "as-an-offer",
        shop.record(offers.OFFER_TYPE, _fields(data), shop.online),
        unauthentic(Code.PAYLOAD_TYPE),
        rule="payload-type",
    )
    for name, changes, code in (
        ("seen-head-of-nothing", {"seen_head": line_hash(1).hex()}, Code.RANGE),
        ("note", {"note": "x"}, Code.UNKNOWN_FIELD),
        ("head-short", {"head": "00"}, Code.RANGE),
    ):
        yield case(name, shop.checkpoint_of(5, 0, shop.online, **changes), malformed(code), rule="online-form")


def _fields(data: bytes) -> dict[str, Any]:
    return dict(json.loads(signing.parse_envelope(data).payload))


def _offers(shop: Workshop) -> Iterator[Case]:
    def case(name: str, content: bytes, ending: Ending = ACCEPTED, rule: str = "offer", **beside: bytes) -> Case:
        return shop.case(
            "offer", name, rule, "an offer is the source's, for this site", shop.offer(content, ending, **beside)
        )

    yield case("honest", shop.offer_of(), rule="honest")
    other = peer(Code.OFFER)
    yield case("other-grant", shop.offer_of(grant=shop.grant(1).hex()), other)
    yield case("recorded", shop.offer_of(nonce=line_hash(1).hex()), other)
    yield case("by-a-stranger", shop.offer_of(shop.stranger), _INVALID, rule="endorsed")
    yield case("by-the-release-key", shop.offer_of(shop.release), _INVALID, rule="endorsed")
    stranger = shop.endorsement(release=shop.stranger)
    yield case("endorsed-by-a-stranger", shop.offer_of(), _IDENTITY, rule="endorser", endorsement=stranger)
    kind = shop.offer_of(kind=offers.CHECKPOINT_TYPE)
    yield case("as-a-checkpoint", kind, unauthentic(Code.PAYLOAD_TYPE), rule="payload-type")
    for name, changes, code in (
        ("size-0", {"size": 0}, Code.RANGE),
        ("release-0", {"release": 0}, Code.RANGE),
        ("note", {"note": "x"}, Code.UNKNOWN_FIELD),
        ("nonce-short", {"nonce": "00"}, Code.RANGE),
        ("expires-text", {"expires_s": "0"}, Code.TYPE),
    ):
        yield case(name, shop.offer_of(**changes), malformed(code), rule="online-form")


def _requests(shop: Workshop) -> Iterator[tuple[str, bytes, Ending]]:
    data = sign_request(shop.identity, nonce=line_hash(5), day=TODAY)
    fields = _fields(data)
    key = shop.identity.signing_key

    def of(**changes: object) -> bytes:
        return shop.record(request.PAYLOAD_TYPE, fields | changes, key)

    yield "honest", data, ACCEPTED
    yield "by-another-site", shop.record(request.PAYLOAD_TYPE, fields, shop.other_site.signing_key), _IDENTITY
    other = shop.other_site.certificate_pem.decode()
    yield "other-certificate", of(certificate=other), _IDENTITY
    yield "no-certificate", of(certificate=""), _IDENTITY
    twice = shop.identity.certificate_pem.decode() * 2
    yield "two-certificates", of(certificate=twice), malformed(Code.NOT_CANONICAL)
    spaced = "\n" + shop.identity.certificate_pem.decode()
    yield "certificate-after-a-line", of(certificate=spaced), _IDENTITY
    forged = json.loads(data) | {"payload": json.loads(of(day=TODAY + 1))["payload"]}
    yield "forged", canonical.encode(forged), _INVALID
    kind = shop.record("application/vnd.ecan.receipt.v1+json", fields, key)
    yield "as-a-receipt", kind, unauthentic(Code.PAYLOAD_TYPE)
    raw = fields["sealing_key"]
    for name, point in (
        ("zero", bytes(32)),
        ("one", b"\1" + bytes(31)),
        ("of-order-8", bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800")),
        ("of-the-prime", (2**255 - 19).to_bytes(32, "little")),
        ("with-its-top-bit", bytes.fromhex(raw)[1184:-1] + bytes([bytes.fromhex(raw)[-1] | 0x80])),
    ):
        yield f"sealing-key-{name}", of(sealing_key=raw[: 2 * 1184] + point.hex()), malformed(Code.VALUE)
    yield "sealing-key-out-of-range", of(sealing_key="ff" * 1184 + raw[2 * 1184 :]), malformed(Code.VALUE)
    for name, changes, code in (
        ("sealing-key-short", {"sealing_key": raw[:-2]}, Code.RANGE),
        ("nonce-short", {"nonce": "00" * 31}, Code.RANGE),
        ("day-65536", {"day": 65536}, Code.RANGE),
        ("note", {"note": "x"}, Code.UNKNOWN_FIELD),
        ("record-v-2", {"v": 2}, Code.ENUM),
    ):
        yield name, of(**changes), malformed(code)


def _receipts(shop: Workshop) -> Iterator[tuple[str, bytes, Ending]]:
    key = shop.identity.signing_key
    yield "honest", shop.receipt_of(), ACCEPTED
    yield "of-a-refusal", shop.receipt_of(verdict="refused"), ACCEPTED
    unknown = unauthentic(Code.KEY_UNKNOWN)
    for name, other in (("another-site", shop.other_site.signing_key), ("the-source", shop.release)):
        yield f"by-{name}", shop.receipt_of(other), unknown
    forged = json.loads(shop.receipt_of()) | {"payload": json.loads(shop.receipt_of(verdict="refused"))["payload"]}
    yield "forged", canonical.encode(forged), _INVALID
    kind = shop.record(offers.OFFER_TYPE, _fields(shop.receipt_of()), shop.identity.signing_key)
    yield "as-an-offer", kind, unauthentic(Code.PAYLOAD_TYPE)
    for name, changes, code in (
        ("verdict-unknown", {"verdict": "perhaps"}, Code.ENUM),
        ("digest-short", {"digest": "00"}, Code.RANGE),
        ("note", {"note": "x"}, Code.UNKNOWN_FIELD),
    ):
        yield name, shop.receipt_of(key, **changes), malformed(code)
