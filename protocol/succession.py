"""Hand a release key over to its successor; both keys say so.

The old key signs a statement that names the new one; within it lies the new key's own signature, so that nobody
can be made a successor of a key without holding that key. A site that trusts the old fingerprint and is given
the statement trusts the new one from then on. See docs/decisions/0006-trust-state-and-sealing.md.
"""

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol import canonical, signing
from protocol.errors import Code, Malformed

PAYLOAD_TYPE = "application/vnd.ecan.succession.v1+json"
CONSENT_TYPE = "ecan/succession/v1"
MAX_SUCCESSION_BYTES = 4096
MAX_NUMBER = 0xFFFF

_WHAT = "succession statement"
_SCHEMA: canonical.Schema = {
    "v": canonical.OneOf((1,)),
    "number": canonical.Int(1, MAX_NUMBER),
    "public_key": canonical.Hex(32),
    "consent": canonical.Hex(64),
}


@dataclass(frozen=True, kw_only=True)
class Succession:
    """Describe how one release key follows another.

    Attributes:
        old: fingerprint of the key that hands over, 32 bytes.
        new: fingerprint of the key that takes over, 32 bytes.
        number: which hand-over of this source it is; the first is 1.
    """

    old: bytes
    new: bytes
    number: int


def sign_succession(old_key: Ed25519PrivateKey, new_key: Ed25519PrivateKey, number: int) -> bytes:
    """Hand over from one release key to another.

    Args:
        old_key: the key that signs the statement; it signs nothing after this.
        new_key: the key that takes over and agrees to it.
        number: which hand-over of this source it is.

    Raises:
        Malformed: the keys are the same, or the number is out of range.
    """
    old = signing.fingerprint_of(signing.raw_public_key(old_key))
    public_key = signing.raw_public_key(new_key)
    _check_distinct(old, signing.fingerprint_of(public_key))
    consent = signing.bare_signature(CONSENT_TYPE, _agreed(old, number), new_key)
    values = {"v": 1, "number": number, "public_key": public_key, "consent": consent}
    return signing.sign(PAYLOAD_TYPE, canonical.write_record(values, _SCHEMA, what=_WHAT), old_key)


def open_succession(data: bytes, issuer: bytes) -> Succession:
    """Verify a succession statement and read it.

    Args:
        data: the signed statement.
        issuer: fingerprint of the key that hands over, 32 bytes.

    Raises:
        Malformed: it is not the only encoding of a statement, or a key is to succeed itself.
        Unauthentic: signed by another key, something else, or one of the two signatures does not hold.
    """
    payload = signing.verify_envelope(signing.parse_envelope(data), payload_type=PAYLOAD_TYPE, signer=issuer)
    fields = canonical.read_record(payload, _SCHEMA, what=_WHAT, max_bytes=MAX_SUCCESSION_BYTES)
    new = signing.fingerprint_of(fields["public_key"])
    _check_distinct(issuer, new)
    signing.verify_signature(fields["public_key"], fields["consent"], CONSENT_TYPE, _agreed(issuer, fields["number"]))
    return Succession(old=issuer, new=new, number=fields["number"])


def _agreed(old: bytes, number: int) -> bytes:
    """Return what the new key signs: whose place it takes, and when.

    The number of the hand-over says when.
    """
    return canonical.encode({"number": number, "old": old.hex()})


def _check_distinct(old: bytes, new: bytes) -> None:
    if old == new:
        raise Malformed(Code.VALUE, "A key cannot succeed itself; name another new key.")
