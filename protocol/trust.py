"""Every trust decision of the target, in one place and one order: bytes in, a `VerifiedBundle` out, or an
error.

Pure: no file, no network, no clock.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import InitVar, dataclass
from types import MappingProxyType

from protocol import bundle, manifest, signing, weights
from protocol.errors import Code, Refused, Unauthentic
from protocol.manifest import Manifest
from protocol.weights import Array

CLOCK_TOLERANCE_DAYS = 2
"""How far ahead the source's calendar may be."""

_PROOF = object()


@dataclass(frozen=True, kw_only=True)
class VerifiedBundle:
    """A bundle that passed every check; only `verify` can make one.

    Attributes:
        manifest: what the source states.
        tensors: the model's float32 tensors by name, read-only.
        digest: SHA-256 of all bytes of the bundle.
    """

    manifest: Manifest
    tensors: Mapping[str, Array]
    digest: bytes
    proof: InitVar[object]

    def __post_init__(self, proof: object) -> None:
        if proof is not _PROOF:
            raise TypeError("only protocol.trust.verify makes a VerifiedBundle")


def verify(data: bytes, *, issuer: bytes, audience: bytes | None, grant: bytes | None, today: int) -> VerifiedBundle:
    """Verify a bundle; the first rule that is broken ends it.

    Args:
        data: all bytes of the bundle.
        issuer: fingerprint of the only release key that is trusted, 32 bytes.
        audience: fingerprint that the bundle must be released to, 32 bytes; None accepts any.
        grant: grant that it must be released under, 16 bytes; None accepts any.
        today: the present day, in days since 1970.

    Raises:
        Malformed: the bytes are not a bundle in its only encoding, or break a rule for weights.
        Unauthentic: not signed by the issuer.
        Refused: authentic, but for another site or grant, expired, or from the future.
    """
    frame = bundle.split(data)
    payload = signing.verify_envelope(
        signing.parse_envelope(frame.envelope), payload_type=manifest.PAYLOAD_TYPE, signer=issuer
    )
    stated = Manifest.from_bytes(payload)
    _check_policy(stated, issuer=issuer, audience=audience, grant=grant, today=today)
    _check_digest(stated, frame.weights)
    tensors = weights.unpack(frame.weights, stated.arch, len(stated.classes), stated.norm)
    return VerifiedBundle(
        manifest=stated,
        tensors=MappingProxyType(tensors),
        digest=hashlib.sha256(data).digest(),
        proof=_PROOF,
    )


def _check_policy(stated: Manifest, *, issuer: bytes, audience: bytes | None, grant: bytes | None, today: int) -> None:
    if stated.issuer != issuer:
        raise Refused(Code.KEY_UNKNOWN, "The manifest names another issuer than its signer; ask for a new bundle.")
    if audience is not None and stated.audience != audience:
        raise Refused(Code.AUDIENCE, "The bundle was released to another site; ask for one of your own.")
    if grant is not None and stated.grant != grant:
        raise Refused(Code.GRANT, "The bundle was released for another request; send the source your request.")
    if stated.day > today + CLOCK_TOLERANCE_DAYS:
        raise Refused(Code.NOT_YET, f"The bundle is from day {stated.day} and today is day {today}; check both clocks.")
    if today > stated.day + stated.valid_days:
        raise Refused(
            Code.EXPIRED,
            f"The bundle was valid until day {stated.day + stated.valid_days} and today is day {today}; "
            "ask for a new release.",
        )


def _check_digest(stated: Manifest, packed: bytes) -> None:
    if len(packed) != stated.weights_len or hashlib.sha256(packed).digest() != stated.weights_sha256:
        raise Unauthentic(Code.DIGEST, "The weights are not the ones that were signed; ask for a new bundle.")
