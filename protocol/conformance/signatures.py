"""List cases about signatures: by whom, over what, how many."""

import base64
import hashlib
import json
from collections.abc import Callable, Iterator

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from protocol.bundle import frame
from protocol.bundle.manifest import PAYLOAD_TYPE
from protocol.conformance.case import Case, Ending, malformed, unauthentic
from protocol.conformance.workshop import Workshop, changed, fingerprint
from protocol.errors import Code
from protocol.identity import signing
from protocol.statements import offers, receipts, request, revocations, succession

GROUP = "signature"
GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493
_TORSION = (
    *("01" + "00" * 31, "ec" + "ff" * 30 + "7f", "00" * 32, "00" * 31 + "80"),
    *("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",),
    *("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",),
    *("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",),
    *("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",),
)
"""The eight points of Edwards25519 whose order divides 8."""

_INVALID = unauthentic(Code.SIG_INVALID)


def signatures(shop: Workshop) -> Iterator[Case]:
    """Yield every case about signatures."""
    for name, content in _forged(shop):
        step = shop.bundle(content, _INVALID)
        yield shop.case(GROUP, name, "signature", "a signature holds over what is said", step)
    for name, content in _other_types(shop):
        step = shop.bundle(content, unauthentic(Code.PAYLOAD_TYPE))
        yield shop.case(GROUP, name, "payload-type", "no record passes for another", step)
    for name, content in _other_keys(shop):
        step = shop.bundle(content, unauthentic(Code.KEY_UNKNOWN))
        yield shop.case(GROUP, name, "signer", "only the trusted key counts", step)
    for name, content, ending in _numbers(shop):
        yield shop.case(GROUP, name, "one-signature", "there is one signature", shop.bundle(content, ending))
    yield from _small_order(shop)


def _resigned(shop: Workshop, change: Callable[[bytes], bytes], keyid: str | None = None) -> bytes:
    """Return the usual bundle with another signature, in the right base64."""
    fields = json.loads(shop.envelope())
    (signature,) = fields["signatures"]
    signature["sig"] = base64.b64encode(change(base64.b64decode(signature["sig"]))).decode()
    signature["keyid"] = keyid or signature["keyid"]
    return shop.enveloped(_compact(fields))


def _compact(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _forged(shop: Workshop) -> Iterator[tuple[str, bytes]]:
    payload = signing.parse_envelope(shop.envelope()).payload
    encoded = signing.pre_authentication_encoding(PAYLOAD_TYPE, payload)
    others = {
        "bare-payload": payload,
        "base64-of-payload": base64.b64encode(payload),
        "other-type": signing.pre_authentication_encoding(receipts.PAYLOAD_TYPE, payload),
        "other-encoding": encoded.replace(b"DSSEv1", b"DSSEv2"),
        "digest": hashlib.sha256(encoded).digest(),
        "longer-payload": signing.pre_authentication_encoding(PAYLOAD_TYPE, payload + b" "),
        "nothing": b"",
    }
    for name, content in others.items():
        yield f"over-{name}", _resigned(shop, lambda _, content=content: shop.release.sign(content))  # type: ignore[misc]
    for place in (0, 31, 32, 63):
        yield f"bit-{place}", _resigned(shop, lambda sig, place=place: changed(sig, place))  # type: ignore[misc]
    for name, change in _CHANGES.items():
        yield name, _resigned(shop, change)
    yield "halves-swapped", _resigned(shop, lambda sig: sig[32:] + sig[:32])
    yield "payload-changed", _with_payload(shop, payload.replace(b'"release":7', b'"release":8'))
    key = signing.raw_public_key(shop.release).hex()
    yield "by-another-key", _resigned(shop, lambda _: shop.stranger.sign(encoded), key)


def _plus_order(signature: bytes) -> bytes:
    """Return the signature with S not reduced: the same to who does not check."""
    scalar = int.from_bytes(signature[32:], "little") + GROUP_ORDER
    return signature[:32] + scalar.to_bytes(32, "little")


_CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "s-not-reduced": _plus_order,
    "s-top-bits": lambda sig: changed(sig, 63, 0x80),
    "r-neutral": lambda sig: b"\1" + bytes(31) + sig[32:],
    "r-zero": lambda sig: bytes(32) + sig[32:],
    "s-zero": lambda sig: sig[:32] + bytes(32),
    "zero": lambda sig: bytes(64),
    "short": lambda sig: sig[:-1],
    "empty": lambda sig: b"",
}


def _with_payload(shop: Workshop, payload: bytes) -> bytes:
    fields = json.loads(shop.envelope()) | {"payload": base64.b64encode(payload).decode()}
    return shop.enveloped(_compact(fields))


def _other_types(shop: Workshop) -> Iterator[tuple[str, bytes]]:
    payload = signing.parse_envelope(shop.envelope()).payload
    for kind in (
        *("application/vnd.in-toto+json", "application/vnd.ecan.manifest.v1+json", PAYLOAD_TYPE.upper(), "", "x"),
        *(receipts.PAYLOAD_TYPE, revocations.PAYLOAD_TYPE, succession.PAYLOAD_TYPE, request.PAYLOAD_TYPE),
        *(offers.OFFER_TYPE, offers.CHECKPOINT_TYPE, succession.CONSENT_TYPE, "ecan/online/v1"),
    ):
        envelope = signing.sign(kind, payload, shop.release)
        name = kind.removeprefix("application/vnd.").replace("/", "-").replace("+json", "") or "none"
        yield f"type-{name}", shop.enveloped(envelope)


def _other_keys(shop: Workshop) -> Iterator[tuple[str, bytes]]:
    payload = signing.parse_envelope(shop.envelope()).payload
    for name, key in (
        ("stranger", shop.stranger),
        ("heir", shop.heirs[0]),
        ("online", shop.online),
        ("own-receipt-key", shop.identity.signing_key),
    ):
        yield f"key-of-{name}", shop.enveloped(signing.sign(PAYLOAD_TYPE, payload, key))
    yield "keyid-of-stranger", _resigned(shop, bytes, signing.raw_public_key(shop.stranger).hex())
    yield "keyid-fingerprint", _resigned(shop, bytes, fingerprint(shop.release).hex())
    yield "keyid-small-order", _resigned(shop, bytes, _TORSION[0])
    yield "keyid-zero", _resigned(shop, bytes, "00" * 32)


def _numbers(shop: Workshop) -> Iterator[tuple[str, bytes, Ending]]:
    fields = json.loads(shop.envelope())
    (first,) = fields["signatures"]
    second = json.loads(signing.sign(PAYLOAD_TYPE, base64.b64decode(fields["payload"]), shop.stranger))["signatures"]
    missing = unauthentic(Code.SIG_MISSING)
    for name, given in (
        ("no-signature", []),
        ("twice-the-same", [first, first]),
        ("one-under-two-keys", [first, first | {"keyid": second[0]["keyid"]}]),
        ("a-second-one", [first, *second]),
        ("a-second-one-first", [*second, first]),
        ("three", [first, first, first]),
        ("object", first),
        ("null", None),
    ):
        yield name, shop.enveloped(_compact(fields | {"signatures": given})), missing
    without = {key: value for key, value in fields.items() if key != "signatures"}
    yield "no-list-of-signatures", shop.enveloped(_compact(without)), missing
    yield "as-many-as-fit", shop.enveloped(_compact(fields | {"signatures": [first] * 60})), malformed(Code.DEPTH)
    yield (
        "ten-thousand",
        frame.assemble(_compact(fields | {"signatures": [first] * 10_000}), shop.weights()),
        malformed(Code.LENGTH),
    )


def _small_order(shop: Workshop) -> Iterator[Case]:
    """Yield signatures under keys that everybody can sign with.

    Where the bare Ed25519 accepts one, nothing but the rule about such keys refuses it.
    """
    for place, point in enumerate(_TORSION):
        key = bytes.fromhex(point)
        issuer = signing.fingerprint_of(key)
        forged = _forge(shop, key, issuer)
        rule = "small-order" if forged else "signature"
        payload, signature = forged or (_stated_by(shop, issuer, 0), bytes.fromhex(_TORSION[0]) + bytes(32))
        content = shop.enveloped(_render(payload, key, signature))
        step = shop.bundle(content, _INVALID)
        site = shop.site(issuer)
        yield shop.case(GROUP, f"small-order-{place}", rule, "a key has one owner", step, site=site)


def _stated_by(shop: Workshop, issuer: bytes, n_utt: int) -> bytes:
    return _compact(shop.stated(issuer=issuer.hex(), n_utt=n_utt))


def _forge(shop: Workshop, key: bytes, issuer: bytes) -> tuple[bytes, bytes] | None:
    """Return a manifest and a signature of nobody that holds, if there is one."""
    for n_utt in range(8):
        payload = _stated_by(shop, issuer, n_utt)
        for point in _TORSION:
            signature = bytes.fromhex(point) + bytes(32)
            if _holds(key, signature, signing.pre_authentication_encoding(PAYLOAD_TYPE, payload)):
                return payload, signature
    return None


def _holds(key: bytes, signature: bytes, content: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, content)
    except (InvalidSignature, ValueError):
        return False
    return True


def _render(payload: bytes, key: bytes, signature: bytes) -> bytes:
    signed = {"keyid": key.hex(), "sig": base64.b64encode(signature).decode()}
    encoded = base64.b64encode(payload).decode()
    return _compact({"payload": encoded, "payloadType": PAYLOAD_TYPE, "signatures": [signed]})
