"""Hand a release key over to its successor; both keys say so.

Both also say how far the old key has really come: the number of its last revocation list and of its last release.
Whoever held the old key for a moment can have signed higher ones, and the heir goes on from the stated ones.

The old key signs a statement that names the new one; within it lies the new key's own signature, so that nobody
can be made a successor of a key without holding that key. A site that trusts the old fingerprint and is given
the statement trusts the new one from then on. See docs/decisions/0006-trust-state-and-sealing.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol import canonical
from protocol.errors import Code, MalformedError
from protocol.identity import signing
from protocol.statements.revocations import MAX_VERSION

PAYLOAD_TYPE = "application/vnd.ecan.succession.v2+json"
CONSENT_TYPE = "ecan/succession/v2"
OLD_PAYLOAD_TYPE = "application/vnd.ecan.succession.v1+json"
"""Of version 1, which is still read: it does not say how far the old key came."""
OLD_CONSENT_TYPE = "ecan/succession/v1"
MAX_SUCCESSION_BYTES = 4096
MAX_NUMBER = 0xFFFF

_WHAT = "succession statement"
_NUMBERS = ("number", "last_list", "last_release")
_OLD_SCHEMA: canonical.Schema = {
    "v": canonical.OneOf((1,)),
    "number": canonical.Int(1, MAX_NUMBER),
    "public_key": canonical.Hex(32),
    "consent": canonical.Hex(64),
}
_SCHEMA: canonical.Schema = {
    **_OLD_SCHEMA,
    "v": canonical.OneOf((2,)),
    "last_list": canonical.Int(0, MAX_VERSION - 1),
    "last_release": canonical.Int(0, 0xFFFF),
}


@dataclass(frozen=True, kw_only=True)
class Succession:
    """Describe how one release key follows another.

    Attributes:
        old: fingerprint of the key that hands over, 32 bytes.
        new: fingerprint of the key that takes over, 32 bytes.
        number: which hand-over of this source it is; the first is 1.
        last_list: number of the last revocation list that the source signed with the old key, 0 if there is none;
            None in a statement of version 1.
        last_release: the same of its releases.
    """

    old: bytes
    new: bytes
    number: int
    last_list: int | None = None
    last_release: int | None = None


def sign_succession(
    old_key: Ed25519PrivateKey, new_key: Ed25519PrivateKey, number: int, *, last_list: int, last_release: int
) -> bytes:
    """Hand over from one release key to another.

    Args:
        old_key: the key that signs the statement; it signs nothing after this.
        new_key: the key that takes over and agrees to it.
        number: which hand-over of this source it is.
        last_list: number of the last revocation list of the old key, 0 if there is none.
        last_release: number of the last release of the old key, 0 if there is none.

    Raises:
        MalformedError: the keys are the same, or a number is out of range.
    """
    old = signing.fingerprint_of(signing.raw_public_key(old_key))
    public_key = signing.raw_public_key(new_key)
    _check_distinct(old, signing.fingerprint_of(public_key))
    numbers = {"number": number, "last_list": last_list, "last_release": last_release}
    consent = signing.bare_signature(CONSENT_TYPE, _agreed(old, numbers), new_key)
    values = {"v": 2, **numbers, "public_key": public_key, "consent": consent}
    return signing.sign(PAYLOAD_TYPE, canonical.write_record(values, _SCHEMA, what=_WHAT), old_key)


def open_succession(data: bytes, issuer: bytes) -> Succession:
    """Verify a succession statement and read it.

    Args:
        data: the signed statement.
        issuer: fingerprint of the key that hands over, 32 bytes.

    Raises:
        MalformedError: it is not the only encoding of a statement, or a key is to succeed itself.
        UnauthenticError: signed by another key, something else, or one of the two signatures does not hold.
    """
    envelope = signing.parse_envelope(data)
    is_old = envelope.payload_type == OLD_PAYLOAD_TYPE
    schema, kind = (_OLD_SCHEMA, OLD_PAYLOAD_TYPE) if is_old else (_SCHEMA, PAYLOAD_TYPE)
    payload = signing.verify_envelope(envelope, payload_type=kind, signer=issuer)
    fields = canonical.read_record(payload, schema, what=_WHAT, max_bytes=MAX_SUCCESSION_BYTES)
    public_key, numbers = fields["public_key"], {name: fields[name] for name in _NUMBERS if name in fields}
    new = signing.fingerprint_of(public_key)
    _check_distinct(issuer, new)
    agreed_as = OLD_CONSENT_TYPE if is_old else CONSENT_TYPE
    signing.verify_signature(public_key, fields["consent"], agreed_as, _agreed(issuer, numbers))
    return Succession(old=issuer, new=new, **numbers)


def _agreed(old: bytes, numbers: Mapping[str, int]) -> bytes:
    """Return what the new key signs: whose place it takes, and when.

    The number of the hand-over says when; the others say where the new key goes on.
    """
    return canonical.encode({**numbers, "old": old.hex()})


def _check_distinct(old: bytes, new: bytes) -> None:
    if old == new:
        raise MalformedError(Code.VALUE, "A key cannot succeed itself; name another new key.")
