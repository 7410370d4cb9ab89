"""Sign in a DSSE envelope with exactly one encoding.

There is one signature, in one of two suites: ``classic-1`` is Ed25519, ``hybrid-1`` is Ed25519 beside ML-DSA-65
(`protocol.identity.hybrid`). The file does not choose: the suite follows from the length of the key, and who trusts a
fingerprint has fixed the key.

Source: DSSE 1.0.2. Differs: stricter on purpose. An unknown field is refused instead of ignored, there is one
signature, ``keyid`` is the signer's raw public key, and base64 has one form. So an envelope holds nothing
that its payload and its signer do not determine, save the signature itself.
"""

import base64
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from protocol import canonical
from protocol.errors import Code, MalformedError, UnauthenticError
from protocol.identity import hybrid
from protocol.identity.hybrid import HybridKey

MAX_ENVELOPE_BYTES = 24 * 1024
CLASSIC, HYBRID = SUITES = ("classic-1", "hybrid-1")
"""How something can be signed, the weaker one first."""
KEY_BYTES = {CLASSIC: 32, HYBRID: hybrid.PUBLIC_KEY_BYTES}
SIGNATURE_BYTES = {CLASSIC: 64, HYBRID: hybrid.SIGNATURE_BYTES}

SigningKey = Ed25519PrivateKey | HybridKey

_SMALL_ORDER = frozenset(
    bytes.fromhex(point)
    for point in (
        "00" * 32,
        "01" + "00" * 31,
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
    )
)
"""The points of Edwards25519 whose order divides 8, in every encoding, less the sign: as keys they prove nothing."""

_ENVELOPE: canonical.Schema = {
    "payload": canonical.Text(MAX_ENVELOPE_BYTES),
    "payloadType": canonical.Text(100),
}
_SIGNATURES: dict[str, canonical.Schema] = {
    suite: {"keyid": canonical.Hex(KEY_BYTES[suite]), "sig": canonical.Text(-(-SIGNATURE_BYTES[suite] // 3) * 4)}
    for suite in SUITES
}


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """Hold a signed payload as it was read.

    Nothing in it is to be believed before `verify_envelope`.

    Attributes:
        payload_type: what the payload says it is.
        payload: the signed bytes.
        public_key: the signer's raw public key, 32 or 1984 bytes.
        signature: 64 or 3373 bytes.
    """

    payload_type: str
    payload: bytes
    public_key: bytes
    signature: bytes

    @property
    def suite(self) -> str:
        """Return the suite of the key that the envelope names."""
        return suite_of(self.public_key)

    @property
    def signer(self) -> bytes:
        """Return the fingerprint of the key that the envelope names."""
        return fingerprint_of(self.public_key)


def fingerprint_of(public_key: bytes) -> bytes:
    """Return the fingerprint of a raw public key: SHA-256, 32 bytes."""
    return hashlib.sha256(public_key).digest()


def suite_of(public_key: bytes) -> str:
    """Return the suite of a raw public key."""
    return HYBRID if len(public_key) == KEY_BYTES[HYBRID] else CLASSIC


def generate_key(suite: str) -> SigningKey:
    """Make a new key of a suite."""
    return HybridKey.generate() if suite == HYBRID else Ed25519PrivateKey.generate()


def raw_public_key(key: SigningKey) -> bytes:
    """Return the raw public half of a private key, 32 or 1984 bytes."""
    return key.raw_public_key() if isinstance(key, HybridKey) else key.public_key().public_bytes_raw()


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """Return the bytes that are signed: type and payload with lengths.

    This is DSSE's PAE.
    """
    kind = payload_type.encode("ascii")
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def sign(payload_type: str, payload: bytes, key: SigningKey) -> bytes:
    """Sign a payload and return the envelope."""
    return _render(
        Envelope(
            payload_type=payload_type,
            payload=payload,
            public_key=raw_public_key(key),
            signature=bare_signature(payload_type, payload, key),
        )
    )


def bare_signature(payload_type: str, payload: bytes, key: SigningKey) -> bytes:
    """Sign a typed payload without an envelope, in 64 or 3373 bytes.

    See `verify_signature`.
    """
    return key.sign(pre_authentication_encoding(payload_type, payload))


def parse_envelope(data: bytes) -> Envelope:
    """Read an envelope's structure; believe nothing.

    Raises:
        MalformedError: it is not the only encoding of an envelope.
        UnauthenticError: there is not exactly one signature.
    """
    value = canonical.parse_object(data, what="envelope", max_bytes=MAX_ENVELOPE_BYTES)
    signatures = value.pop("signatures", None)
    fields = canonical.load_fields(value, _ENVELOPE, what="envelope")
    if not isinstance(signatures, list) or len(signatures) != 1:
        raise UnauthenticError(Code.SIG_MISSING, "The envelope must carry one signature; ask for a signed file.")
    signature = canonical.load_fields(signatures[0], _SIGNATURES[_stated_suite(signatures[0])], what="signature")
    envelope = Envelope(
        payload_type=fields["payloadType"],
        payload=_decode64(fields["payload"]),
        public_key=signature["keyid"],
        signature=_decode64(signature["sig"]),
    )
    if _render(envelope) != data:
        raise MalformedError(Code.NOT_CANONICAL, "The envelope is not in its canonical form; ask for a new file.")
    return envelope


def _stated_suite(signature: object) -> str:
    """Return the suite whose keys are as long as the stated one."""
    keyid = signature.get("keyid") if isinstance(signature, dict) else None
    return HYBRID if isinstance(keyid, str) and len(keyid) == 2 * KEY_BYTES[HYBRID] else CLASSIC


def verify_envelope(envelope: Envelope, *, payload_type: str, signer: bytes) -> bytes:
    """Verify who signed what, and return the very bytes verified.

    Args:
        envelope: what was read.
        payload_type: what the payload must be.
        signer: fingerprint of the only key that is trusted for it, 32 bytes.

    Raises:
        UnauthenticError: another key, another type, or a signature that does not hold.
    """
    if envelope.signer != signer:
        raise UnauthenticError(
            Code.KEY_UNKNOWN,
            f"Signed by {envelope.signer.hex()}, but {signer.hex()} is trusted; compare the fingerprints.",
        )
    if envelope.payload_type != payload_type:
        raise UnauthenticError(Code.PAYLOAD_TYPE, f"The signed content is not {payload_type}; ask for the right file.")
    verify_signature(envelope.public_key, envelope.signature, payload_type, envelope.payload)
    return envelope.payload


def verify_signature(public_key: bytes, signature: bytes, payload_type: str, payload: bytes) -> None:
    """Verify a bare signature over a typed payload.

    Raises:
        UnauthenticError: it does not hold, or the key is one under which everything is signed.
    """
    content = pre_authentication_encoding(payload_type, payload)
    if _without_sign(public_key[-32:]) in _SMALL_ORDER:
        raise UnauthenticError(
            Code.SIG_INVALID, "The key is none that anybody alone can sign with; ask for a new file."
        )
    try:
        if suite_of(public_key) == HYBRID:
            hybrid.verify(public_key, signature, content)
        else:
            Ed25519PublicKey.from_public_bytes(public_key).verify(signature, content)
    except (InvalidSignature, ValueError) as error:
        raise UnauthenticError(
            Code.SIG_INVALID, "The signature does not hold: the content was changed; ask for a new file."
        ) from error


def _without_sign(public_key: bytes) -> bytes:
    """Return an Ed25519 public key without the sign of its point."""
    return public_key[:31] + bytes(byte & 0x7F for byte in public_key[31:])


def _render(envelope: Envelope) -> bytes:
    return canonical.encode(
        {
            "payload": encode64(envelope.payload),
            "payloadType": envelope.payload_type,
            "signatures": [{"keyid": envelope.public_key.hex(), "sig": encode64(envelope.signature)}],
        }
    )


def encode64(data: bytes) -> str:
    """Return the one base64 form of bytes in an envelope."""
    return base64.b64encode(data).decode("ascii")


def _decode64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise MalformedError(Code.NOT_CANONICAL, "The envelope's base64 is damaged; ask for a new file.") from error
