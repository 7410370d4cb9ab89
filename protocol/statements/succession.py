"""Hand a release key over to its successor; both keys say so.

Both also say how far the old key has really come: the number of its last revocation list and of its last release.
Whoever held the old key for a moment can have signed higher ones, and the heir goes on from the stated ones.

The old key signs a statement that names the new one; within it lies the new key's own signature, so that nobody
can be made a successor of a key without holding that key. A site that trusts the old fingerprint and is given
the statement trusts the new one from then on. See docs/decisions/0006-trust-state-and-sealing.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from protocol import canonical
from protocol.errors import Code, MalformedError, RefusedError
from protocol.identity import signing
from protocol.statements.revocations import MAX_VERSION

PAYLOAD_TYPE = "application/vnd.ecan.succession.v2+json"
CONSENT_TYPE = "ecan/succession/v2"
OLD_PAYLOAD_TYPE = "application/vnd.ecan.succession.v1+json"
"""Of version 1, which is still read: it does not say how far the old key came."""
OLD_CONSENT_TYPE = "ecan/succession/v1"
HYBRID_PAYLOAD_TYPE = "application/vnd.ecan.succession.v3+json"
"""Of version 3, whose heir signs in the suite hybrid-1; it says the same as version 2."""
HYBRID_CONSENT_TYPE = "ecan/succession/v3"
MAX_SUCCESSION_BYTES = 16 * 1024
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
_HYBRID_SCHEMA: canonical.Schema = {
    **_SCHEMA,
    "v": canonical.OneOf((3,)),
    "public_key": canonical.Hex(signing.KEY_BYTES[signing.HYBRID]),
    "consent": canonical.Hex(signing.SIGNATURE_BYTES[signing.HYBRID]),
}
_FORMS = {
    OLD_PAYLOAD_TYPE: (_OLD_SCHEMA, OLD_CONSENT_TYPE),
    PAYLOAD_TYPE: (_SCHEMA, CONSENT_TYPE),
    HYBRID_PAYLOAD_TYPE: (_HYBRID_SCHEMA, HYBRID_CONSENT_TYPE),
}
"""What each form holds, and as what its heir agrees to it."""


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
    old_key: signing.SigningKey, new_key: signing.SigningKey, number: int, *, last_list: int, last_release: int
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
        RefusedError: the new key is of a weaker suite.
    """
    old_public, public_key = signing.raw_public_key(old_key), signing.raw_public_key(new_key)
    old = signing.fingerprint_of(old_public)
    _check_distinct(old, signing.fingerprint_of(public_key))
    check_no_weaker(signing.suite_of(old_public), signing.suite_of(public_key))
    is_hybrid = signing.suite_of(public_key) == signing.HYBRID
    kind, version = (HYBRID_PAYLOAD_TYPE, 3) if is_hybrid else (PAYLOAD_TYPE, 2)
    schema, agreed_as = _FORMS[kind]
    numbers = {"number": number, "last_list": last_list, "last_release": last_release}
    consent = signing.bare_signature(agreed_as, _agreed(old, numbers), new_key)
    values = {"v": version, **numbers, "public_key": public_key, "consent": consent}
    return signing.sign(kind, canonical.write_record(values, schema, what=_WHAT), old_key)


def open_succession(data: bytes, issuer: bytes) -> Succession:
    """Verify a succession statement and read it.

    Args:
        data: the signed statement.
        issuer: fingerprint of the key that hands over, 32 bytes.

    Raises:
        MalformedError: it is not the only encoding of a statement, or a key is to succeed itself.
        UnauthenticError: signed by another key, something else, or one of the two signatures does not hold.
        RefusedError: the new key is of a weaker suite.
    """
    envelope = signing.parse_envelope(data)
    kind = envelope.payload_type if envelope.payload_type in _FORMS else PAYLOAD_TYPE
    schema, agreed_as = _FORMS[kind]
    payload = signing.verify_envelope(envelope, payload_type=kind, signer=issuer)
    fields = canonical.read_record(payload, schema, what=_WHAT, max_bytes=MAX_SUCCESSION_BYTES)
    public_key, numbers = fields["public_key"], {name: fields[name] for name in _NUMBERS if name in fields}
    new = signing.fingerprint_of(public_key)
    _check_distinct(issuer, new)
    check_no_weaker(envelope.suite, signing.suite_of(public_key))
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


def check_no_weaker(old: str, new: str) -> None:
    """Refuse to go back from two algorithms to one."""
    if signing.SUITES.index(new) < signing.SUITES.index(old):
        raise RefusedError(Code.POLICY, f"A key of {old} is not handed over to one of {new}; name a new key of {old}.")
