"""List cases about the suite hybrid-1, of which no half can be left out."""

import base64
import hashlib
import json
import struct
from collections.abc import Iterator

from protocol import canonical
from protocol.bundle import frame
from protocol.bundle.manifest import PAYLOAD_TYPE
from protocol.conformance.case import ACCEPTED, Case, Ending, SiteFacts, Step, malformed, refused, unauthentic
from protocol.conformance.workshop import Workshop, changed, fingerprint, line_hash
from protocol.errors import Code
from protocol.identity import signing
from protocol.identity.hybrid import HybridKey

GROUP = "hybrid"
_INVALID, _UNKNOWN = unauthentic(Code.SIG_INVALID), unauthentic(Code.KEY_UNKNOWN)
_LABEL = b"COMPSIG-MLDSA65-Ed25519-SHA512"
_MLDSA_KEY, _MLDSA_SIGNATURE = 1952, 3309


def hybrids(shop: Workshop) -> Iterator[Case]:
    """Yield every case about the suite hybrid-1."""
    site = shop.site(fingerprint(shop.hybrid))
    yield from _honest(shop, site)
    yield from _suites(shop)
    for name, rule, content, ending in (*_halves(shop), *_stripped(shop)):
        proves = "both algorithms hold, or nothing does"
        yield shop.case(GROUP, name, rule, proves, shop.bundle(content, ending), site=site)
    ed25519 = shop.site(signing.fingerprint_of(signing.raw_public_key(shop.hybrid.ed25519)))
    content = _signed(shop, _ed25519_half(shop.hybrid), _signature(shop)[_MLDSA_SIGNATURE:], frame.MAJOR)
    step = shop.bundle(content, _INVALID)
    yield shop.case(GROUP, "half-for-who-trusts-it", "signature", "a half is no signature", step, site=ed25519)
    yield _small_order(shop)
    yield from _handovers(shop)
    yield from _online(shop, site)


def _bundle(shop: Workshop) -> bytes:
    return shop.issued_by(shop.hybrid, number=0)


def _payload(shop: Workshop) -> bytes:
    return signing.parse_envelope(frame.split(_bundle(shop)).envelope).payload


def _signature(shop: Workshop) -> bytes:
    return signing.bare_signature(PAYLOAD_TYPE, _payload(shop), shop.hybrid)


def _ed25519_half(key: HybridKey) -> bytes:
    return signing.raw_public_key(key)[_MLDSA_KEY:]


def _signed(shop: Workshop, key: bytes, signature: bytes, major: int = 3, payload: bytes | None = None) -> bytes:
    """Return the usual bundle with any key and signature, in any version."""
    envelope = {
        "payload": base64.b64encode(payload or _payload(shop)).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": key.hex(), "sig": base64.b64encode(signature).decode()}],
    }
    text = json.dumps(envelope, sort_keys=True, separators=(",", ":")).encode()
    return _in_version(frame.assemble(text, shop.weights()), major)


def _in_version(data: bytes, major: int) -> bytes:
    return data[:8] + struct.pack("<H", major) + data[10:]


def _honest(shop: Workshop, site: SiteFacts) -> Iterator[Case]:
    def case(name: str, *steps: Step, **rules: object) -> Case:
        proves = "two algorithms are read as one"
        return shop.case(GROUP, name, "honest", proves, *steps, site=shop.site(site.source, **rules))

    content = _bundle(shop)
    yield case("bundle", shop.bundle(content))
    yield case("sealed", shop.sealed(shop.sealed_of(content)))
    yield case("asked-for", shop.bundle(content), signature_suites=["hybrid-1"])
    full = [frozenset(line_hash(base + place) for place in range(64)) for base in (1000, 2000)]
    listed = shop.statement(shop.list_of(1, full[0], keys=full[1], key=shop.hybrid))
    yield case("full-list", listed, shop.bundle(content))


def _suites(shop: Workshop) -> Iterator[Case]:
    def case(name: str, source: bytes, content: bytes, suites: list[str], ending: Ending, rule: str = "suite") -> Case:
        site = shop.site(source, signature_suites=suites)
        return shop.case(GROUP, name, rule, "a site names the suites", shop.bundle(content, ending), site=site)

    no, hybrid = refused(Code.POLICY), fingerprint(shop.hybrid)
    yield case("classic-not-accepted", shop.issuer, shop.bundle_of(), ["hybrid-1"], no)
    yield case("hybrid-not-accepted", hybrid, _bundle(shop), ["classic-1"], no)
    yield case("expired-and-not-accepted", shop.issuer, shop.stating({"day": 0}), ["hybrid-1"], no, "suite-first")
    yield case("both-accepted", hybrid, _bundle(shop), ["classic-1", "hybrid-1"], ACCEPTED, "honest")


def _halves(shop: Workshop) -> Iterator[tuple[str, str, bytes, Ending]]:
    """Yield signatures of which one half does not hold."""
    key, signature = signing.raw_public_key(shop.hybrid), _signature(shop)
    first, second = signature[:_MLDSA_SIGNATURE], signature[_MLDSA_SIGNATURE:]
    other = signing.bare_signature(PAYLOAD_TYPE, _payload(shop), HybridKey.generate())
    for name, half in (
        ("changed-at-the-start", changed(first, 0)),
        ("changed-in-the-middle", changed(first, 1600)),
        ("changed-at-the-end", changed(first, -1)),
        ("of-zeros", bytes(len(first))),
        ("of-another-key", other[:_MLDSA_SIGNATURE]),
    ):
        yield f"first-half-{name}", "hybrid-first-half", _signed(shop, key, half + second), _INVALID
    for name, half in (
        ("changed", changed(second, 5)),
        ("of-zeros", bytes(64)),
        ("of-another-key", other[_MLDSA_SIGNATURE:]),
    ):
        yield f"second-half-{name}", "hybrid-second-half", _signed(shop, key, first + half), _INVALID
    encoded = signing.pre_authentication_encoding(PAYLOAD_TYPE, _payload(shop))
    apart = shop.hybrid.mldsa.sign(encoded) + shop.hybrid.ed25519.sign(encoded)
    yield "signed-apart", "hybrid-second-half", _signed(shop, key, apart), _INVALID
    mldsa = shop.hybrid.mldsa.sign(encoded, _LABEL)
    yield "first-half-without-prefix", "hybrid-first-half", _signed(shop, key, mldsa + second), _INVALID
    yield "halves-swapped", "hybrid-second-half", _signed(shop, key, second + first), _INVALID
    yield "signature-short", "hybrid-second-half", _signed(shop, key, signature[:-1]), _INVALID


def _small_order(shop: Workshop) -> Case:
    """Return a key whose second half is everybody's.

    It is the neutral point, which signs everything with itself.
    """
    neutral = b"\1" + bytes(31)
    key = signing.raw_public_key(shop.hybrid)[:_MLDSA_KEY] + neutral
    issuer = signing.fingerprint_of(key)
    payload = canonical.encode(shop.stated(issuer=issuer.hex()))
    encoded = signing.pre_authentication_encoding(PAYLOAD_TYPE, payload)
    message = b"CompositeAlgorithmSignatures2025" + _LABEL + b"\0" + hashlib.sha512(encoded).digest()
    signature = shop.hybrid.mldsa.sign(message, _LABEL) + neutral + bytes(32)
    step, site = shop.bundle(_signed(shop, key, signature, payload=payload), _INVALID), shop.site(issuer)
    return shop.case(GROUP, "second-half-of-everybody", "small-order", "a key has one owner", step, site=site)


def _stripped(shop: Workshop) -> Iterator[tuple[str, str, bytes, Ending]]:
    """Yield a bundle from which one algorithm was cut off."""
    key, signature = signing.raw_public_key(shop.hybrid), _signature(shop)
    half, of_half = _ed25519_half(shop.hybrid), signature[_MLDSA_SIGNATURE:]
    version = malformed(Code.VERSION)
    yield "first-half-stripped", "signer", _signed(shop, half, of_half, frame.MAJOR), _UNKNOWN
    yield "first-half-stripped-in-version-3", "suite-version", _signed(shop, half, of_half), version
    resigned = signing.bare_signature(PAYLOAD_TYPE, _payload(shop), shop.hybrid.ed25519)
    yield "signed-by-the-second-half-alone", "signer", _signed(shop, half, resigned, frame.MAJOR), _UNKNOWN
    yield "signature-of-the-second-half", "hybrid-second-half", _signed(shop, key, resigned), _INVALID
    yield "in-version-2", "suite-version", _in_version(_bundle(shop), frame.MAJOR), version
    yield "classic-in-version-3", "suite-version", _in_version(shop.bundle_of(), 3), version
    yield "key-short", "envelope-fields", _signed(shop, key[:-1], signature), malformed(Code.RANGE)
    yield "key-long", "envelope-fields", _signed(shop, key + b"\0", signature), malformed(Code.RANGE)
    yield "first-half-as-key", "envelope-fields", _signed(shop, key[:_MLDSA_KEY], signature), malformed(Code.RANGE)
    swapped = key[_MLDSA_KEY:] + key[:_MLDSA_KEY]
    yield "key-halves-swapped", "signer", _signed(shop, swapped, signature), _UNKNOWN
    mixed = signing.raw_public_key(HybridKey.generate())[:_MLDSA_KEY] + half
    yield "other-first-half-of-key", "signer", _signed(shop, mixed, signature), _UNKNOWN
    envelope = json.loads(frame.split(_bundle(shop)).envelope)
    halves = ((key[:_MLDSA_KEY], signature[:_MLDSA_SIGNATURE]), (half, of_half))
    envelope["signatures"] = [{"keyid": k.hex(), "sig": base64.b64encode(sig).decode()} for k, sig in halves]
    text = json.dumps(envelope, sort_keys=True, separators=(",", ":")).encode()
    two = _in_version(frame.assemble(text, shop.weights()), 3)
    yield "as-two-signatures", "one-signature", two, unauthentic(Code.SIG_MISSING)


def _handovers(shop: Workshop) -> Iterator[Case]:
    def case(name: str, rule: str, proves: str, *steps: Step, source: bytes | None = None) -> Case:
        return shop.case(GROUP, name, rule, proves, *steps, site=shop.site(source))

    up = shop.statement(shop.succession(shop.release, shop.hybrid, 1))
    yield case("from-classic", "honest", "a source goes over to two algorithms", up, shop.bundle(_bundle(shop)))
    old = shop.bundle(shop.bundle_of(), _UNKNOWN)
    yield case("from-classic-and-old-bundle", "old-key", "there is no way back", up, old)
    hybrid = fingerprint(shop.hybrid)
    down = shop.statement(shop.succession(shop.hybrid, shop.heirs[0], 1), refused(Code.POLICY))
    yield case("to-classic", "no-weaker", "there is no way back", down, source=hybrid)
    below = shop.statement(shop.succession(shop.hybrid, shop.heirs[0], 2), refused(Code.POLICY))
    yield case("up-and-down", "no-weaker", "there is no way back", up, below)
    old_form = shop.statement(shop.old_succession(shop.hybrid, shop.heirs[0], 1), refused(Code.POLICY))
    yield case("to-classic-in-the-old-form", "no-weaker", "there is no way back", old_form, source=hybrid)
    heir = HybridKey.generate()
    on = shop.statement(shop.succession(shop.hybrid, heir, 1))
    yield case(
        "to-hybrid", "honest", "two go on as two", on, shop.bundle(shop.issued_by(heir, number=0)), source=hybrid
    )
    listed = shop.statement(shop.list_of(1, key=heir))
    yield case("list-of-the-heir", "honest", "two go on as two", on, listed, source=hybrid)
    for name, rule, content, ending in _consents(shop):
        yield case(name, rule, "both keys agree to the same", shop.statement(content, ending))


def _consents(shop: Workshop) -> Iterator[tuple[str, str, bytes, Ending]]:
    old, new = shop.release, shop.hybrid
    agreed = signing.bare_signature("ecan/succession/v3", b"{}", new)
    yield "consent-to-nothing", "consent", shop.succession(old, new, 1, replaced={"consent": agreed.hex()}), _INVALID
    stranger = shop.succession(old, new, 1, consenting=HybridKey.generate())
    yield "consent-of-another", "consent", stranger, _INVALID
    as_before = shop.succession(old, new, 1, agreed_as="ecan/succession/v2")
    yield "consent-as-of-version-2", "consent", as_before, _INVALID
    out_of_range = malformed(Code.RANGE)
    short = {"public_key": signing.raw_public_key(old).hex()}
    yield "classic-key-in-version-3", "handover-form", shop.succession(old, new, 1, replaced=short), out_of_range
    long = {"public_key": signing.raw_public_key(new).hex()}
    heir = shop.heirs[0]
    yield "hybrid-key-in-version-2", "handover-form", shop.succession(old, heir, 1, replaced=long), out_of_range
    told = shop.succession(old, new, 1, replaced={"v": 2})
    yield "version-2-in-version-3", "handover-form", told, malformed(Code.ENUM)


def _online(shop: Workshop, site: SiteFacts) -> Iterator[Case]:
    def case(name: str, rule: str, endorsement: bytes, ending: Ending) -> Case:
        step = shop.offer(shop.offer_of(), ending, endorsement)
        return shop.case(GROUP, name, rule, "the endorsed key alone speaks", step, site=site)

    endorsement = shop.endorsement(release=shop.hybrid)
    size = len(signing.raw_public_key(shop.hybrid))
    key, signature = endorsement[:size], endorsement[size:]
    identity = unauthentic(Code.IDENTITY)
    yield case("endorsement", "honest", endorsement, ACCEPTED)
    stripped = key[_MLDSA_KEY:] + signature[_MLDSA_SIGNATURE:]
    yield case("endorsement-stripped", "endorser", stripped, identity)
    yield case("endorsement-cut", "online", endorsement[:-1], identity)
    forged = key + changed(signature, 9)
    yield case("endorsement-first-half", "hybrid-first-half", forged, _INVALID)
    yield case("endorsement-second-half", "hybrid-second-half", key + changed(signature, -9), _INVALID)
