"""Make every trust decision of the target, in one place and order.

Bytes in, a `VerifiedBundle` out, or an error.

Pure: no file, no network, no clock.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import InitVar, dataclass, field
from functools import cached_property
from threading import Thread

from protocol.bundle import frame as bundle
from protocol.bundle import manifest, weights
from protocol.bundle import stated_audit as audit
from protocol.bundle.manifest import Manifest
from protocol.bundle.weights import Array, Arrays, Buffer
from protocol.errors import Code, RefusedError, UnauthenticError
from protocol.identity import signing

CLOCK_TOLERANCE_DAYS = 2
"""How far ahead the source's calendar may be."""
MAX_RELEASE_STEP = 64
"""How many releases a site may have missed: a higher number would lock all later ones out."""
PARALLEL_BYTES = 4 << 20
"""Weights from this size on are hashed beside the check of their values; below, a thread gains nothing."""

_PROOF = object()


@dataclass(frozen=True, kw_only=True)
class AuditTerms:
    """Describe what a site asks of the audit that a source states.

    Attributes:
        least_tier: the lowest tier that a model may have left at.
        accept_overridden: whether its audit may have failed and been overridden at the source.
    """

    least_tier: int = 0
    accept_overridden: bool = False


USUAL_AUDIT = AuditTerms()
"""What a site asks that has no rules of its own: anything but an audit that failed and was overridden."""
ANY_AUDIT = AuditTerms(accept_overridden=True)
"""Asks for nothing: what the source itself does, and who has decided before."""


@dataclass(frozen=True, kw_only=True)
class Anchor:
    """Hold what a site trusts and remembers: the measure of a bundle.

    Attributes:
        issuer: fingerprint of the only release key that is trusted, 32 bytes.
        today: the present day, in days since 1970.
        audience: fingerprint that a bundle must be released to, 32 bytes; None accepts any.
        grants: the grants it may be released under, 16 bytes each; None accepts any.
        last_release: the highest release that was accepted from the issuer; 0 before the first.
        last_weights: SHA-256 of that release's weights.
        revoked: what the issuer has withdrawn: SHA-256 of weights, fingerprints of keys.
        audit: what is asked of the audit.
        suites: the suites that a bundle may be signed in.
        encoders: SHA-256 of each encoder that this site has added; None accepts any.
    """

    issuer: bytes
    today: int
    audience: bytes | None = None
    grants: frozenset[bytes] | None = None
    last_release: int = 0
    last_weights: bytes = b""
    revoked: frozenset[bytes] = frozenset()
    audit: AuditTerms = USUAL_AUDIT
    suites: tuple[str, ...] = signing.SUITES
    encoders: frozenset[bytes] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class VerifiedBundle:
    """Hold a bundle that passed every check; only `verify` makes one.

    It views the verified bytes and has no copy of them, so they must not change while it is in use.

    Attributes:
        manifest: what the source states.
        data: all bytes, a read-only view.
        encoded: the integer tensors by name, views of the data: weights int8 ``[units, inputs]`` or
            ``[units, inputs, kernel]``, biases int16 ``[units]``, row exponents int8 ``[units]``.
    """

    manifest: Manifest
    data: memoryview = field(repr=False)
    encoded: Mapping[str, Array] = field(repr=False)
    proof: InitVar[object]

    def __post_init__(self, proof: object) -> None:
        if proof is not _PROOF:
            raise TypeError("only protocol.bundle.trust.verify makes a VerifiedBundle")

    @cached_property
    def digest(self) -> bytes:
        """Return the SHA-256 of all bytes; computed on first use."""
        return hashlib.sha256(self.data).digest()

    def tensors(self) -> Arrays:
        """Return the model's float32 tensors by name, read-only.

        Computed anew with every call.
        """
        stated = self.manifest
        return weights.dequantize(self.encoded, stated.form)


def verify(data: Buffer, anchor: Anchor) -> VerifiedBundle:
    """Verify a bundle; the first broken rule ends it.

    The order of the checks is fixed:

    1. The frame: magic, version, lengths, nothing after the end.
    2. The envelope: its only encoding, the version's suite, the trusted signer, the payload's type, the signature.
    3. The manifest: its only encoding, known fields within their ranges.
    4. The suite, and the recipient: the issuer, this site, one of its requests.
    5. The release number: not older than the last one and not too far ahead.
    6. The days: neither from the future nor expired.
    7. The revocations: neither the key nor the model is withdrawn.
    8. The audit: its figures agree with its verdict, and it is what this site asks for.
    9. The encoder: one that is named by its hash is here.
    10. The weights: length, digest, then every value.

    Args:
        data: all bytes of the bundle. They are not copied and must not change any more: read a file that others
            can write to before you verify it.
        anchor: what the site trusts and remembers.

    Raises:
        MalformedError: the bytes are not a bundle in its only encoding, or break a rule for weights.
        UnauthenticError: not signed by the issuer.
        RefusedError: authentic, but for another site or grant, withdrawn, older than what was accepted before, too far
            ahead of it, expired, from the future, with less of an audit than is asked for, or read by an encoder that
            is not here.
    """
    frame = bundle.split(data)
    envelope = signing.parse_envelope(frame.envelope)
    frame.check_suite(envelope.suite)
    payload = signing.verify_envelope(envelope, payload_type=manifest.PAYLOAD_TYPE, signer=anchor.issuer)
    stated = Manifest.from_bytes(payload)
    _check_suite(envelope.suite, anchor.suites)
    _check_recipient(stated, anchor)
    _check_release(stated, anchor)
    _check_days(stated, anchor.today)
    _check_revoked(stated, anchor.revoked)
    _check_audit(stated, anchor.audit)
    _check_encoder(stated, anchor.encoders)
    return VerifiedBundle(
        manifest=stated,
        data=memoryview(data).toreadonly(),
        encoded=_check_weights(stated, frame.weights),
        proof=_PROOF,
    )


def read_stated(plain: Buffer) -> Manifest:
    """Read what a bundle says of itself, without believing it.

    Nothing in it is to be believed before `verify`.

    Raises:
        MalformedError: it is not laid out as a bundle.
        UnauthenticError: it carries no signature.
    """
    return Manifest.from_bytes(signing.parse_envelope(bundle.split(plain).envelope).payload)


def _check_suite(suite: str, accepted: tuple[str, ...]) -> None:
    if suite not in accepted:
        raise RefusedError(
            Code.POLICY,
            f"The bundle is signed in the suite {suite} and this site accepts {' and '.join(accepted)}; ask its source "
            "to rotate its keys, or add the suite to `signature_suites` in the site's settings.",
        )


def _check_recipient(stated: Manifest, anchor: Anchor) -> None:
    if stated.issuer != anchor.issuer:
        raise RefusedError(Code.KEY_UNKNOWN, "The manifest names another issuer than its signer; ask for a new bundle.")
    if anchor.audience is not None and stated.audience != anchor.audience:
        raise RefusedError(Code.AUDIENCE, "The bundle was released to another site; ask for one of your own.")
    if anchor.grants is not None and stated.grant not in anchor.grants:
        raise RefusedError(Code.GRANT, "The bundle was released for another request; send the source your request.")


def _check_release(stated: Manifest, anchor: Anchor) -> None:
    """Refuse to go back, and refuse a leap that blocks later releases.

    After such a leap no later release could come.
    """
    last = anchor.last_release
    if stated.release < last or (stated.release == last and stated.weights_sha256 != anchor.last_weights):
        raise RefusedError(
            Code.ROLLBACK,
            f"The bundle is release {stated.release} and release {last} was accepted before; ask for the newest one.",
        )
    if 0 < last < stated.release - MAX_RELEASE_STEP:
        raise RefusedError(
            Code.FAST_FORWARD,
            f"The bundle is release {stated.release}, more than {MAX_RELEASE_STEP} after {last}; ask the source why.",
        )


def _check_days(stated: Manifest, today: int) -> None:
    if stated.day > today + CLOCK_TOLERANCE_DAYS:
        raise RefusedError(
            Code.NOT_YET, f"The bundle is from day {stated.day} and today is day {today}; check both clocks."
        )
    if today > stated.day + stated.valid_days:
        raise RefusedError(
            Code.EXPIRED,
            f"The bundle was valid until day {stated.day + stated.valid_days} and today is day {today}; "
            "ask for a new release.",
        )


def _check_revoked(stated: Manifest, revoked: frozenset[bytes]) -> None:
    if stated.issuer in revoked:
        raise RefusedError(
            Code.REVOKED, "The key that signed the bundle was withdrawn; ask the source for its new key."
        )
    if stated.weights_sha256 in revoked:
        raise RefusedError(Code.REVOKED, "The source has withdrawn this model; ask for a new release.")


def _check_audit(stated: Manifest, asked: AuditTerms) -> None:
    """Check the stated audit against its own figures and the site's terms."""
    if stated.audit == audit.PASSED and not stated.clears_its_tier:
        raise RefusedError(
            Code.AUDIT,
            f"The source states that the model's audit passed tier {stated.tier}, and its figures fail that tier; "
            "ask its operator for a new bundle.",
        )
    if stated.audit == audit.OVERRIDDEN and not asked.accept_overridden:
        raise RefusedError(
            Code.AUDIT,
            f"The model's audit failed tier {stated.tier} and the source has overridden that; ask its operator why, "
            "or allow it by `accept_overridden: true` in the site's settings.",
        )
    if stated.tier < asked.least_tier:
        raise RefusedError(
            Code.AUDIT,
            f"The model left its source at tier {stated.tier} and this site asks for tier {asked.least_tier}; ask for "
            "a model of that tier, or lower `least_tier` in the site's settings.",
        )


def _check_encoder(stated: Manifest, added: frozenset[bytes] | None) -> None:
    """Refuse a hash of a file that is not here, which could say anything."""
    if stated.encoder and added is not None and stated.encoder not in added:
        raise RefusedError(
            Code.NOT_FOUND,
            f"The model is read by the encoder {stated.encoder.hex()}, which this site has not added; ask the source "
            "which public encoder that is, run `ecan-target encoder add FOLDER`, and receive again.",
        )


def _check_weights(stated: Manifest, packed: memoryview) -> Arrays:
    """Check length, digest and values of the weights.

    Large weights are hashed while their values are checked; a wrong digest is reported first.
    """
    if len(packed) != stated.weights_len:
        raise _other_weights()
    if len(packed) < PARALLEL_BYTES:
        _check_digest(stated, hashlib.sha256(packed).digest())
        return weights.unpack(packed, stated.form)
    state = hashlib.sha256()
    hashing = Thread(target=state.update, args=(packed,))  # hashlib lets go of the interpreter while it works
    hashing.start()
    try:
        return weights.unpack(packed, stated.form)
    finally:
        hashing.join()
        _check_digest(stated, state.digest())


def _check_digest(stated: Manifest, digest: bytes) -> None:
    if digest != stated.weights_sha256:
        raise _other_weights()


def _other_weights() -> UnauthenticError:
    return UnauthenticError(Code.DIGEST, "The weights are not the ones that were signed; ask for a new bundle.")
