"""Sign what a source withdraws, as one numbered list.

A bundle that has left cannot be called back; what can be done is to say so where it is opened. The list names
weights by their SHA-256 and keys by their fingerprint, and nothing else. A site keeps the newest list that it
has seen of a source and refuses an older one, so that nobody can hide a revocation by repeating the past.
"""

import re
from collections.abc import Set
from dataclasses import dataclass

from protocol import canonical
from protocol.errors import Code, MalformedError
from protocol.identity import signing

PAYLOAD_TYPE = "application/vnd.ecan.revocations.v1+json"
MAX_REVOCATIONS_BYTES = signing.MAX_ENVELOPE_BYTES
MAX_REVOKED = 64
"""How many weights, and how many keys, one list can name."""
MAX_VERSION = 0xFFFF

DIGESTS = canonical.Text(64 * MAX_REVOKED)
"""A set of SHA-256 digests in one string; see `join_digests`."""

_WHAT = "revocation list"
_SCHEMA: canonical.Schema = {
    "v": canonical.OneOf((1,)),
    "version": canonical.Int(1, MAX_VERSION),
    "day": canonical.Int(0, 0xFFFF),
    "weights": DIGESTS,
    "keys": DIGESTS,
}


@dataclass(frozen=True, kw_only=True)
class Revocations:
    """Hold what a source has withdrawn so far.

    Attributes:
        version: running number of the list; a higher one replaces a lower one.
        day: day of the list, in days since 1970.
        weights: SHA-256 of weights that nobody shall use any more.
        keys: fingerprints of keys that nobody shall trust any more.
    """

    version: int
    day: int
    weights: frozenset[bytes]
    keys: frozenset[bytes]

    @property
    def revoked(self) -> frozenset[bytes]:
        """Return weights and keys together.

        Both are SHA-256 digests that cannot be taken for each other.
        """
        return self.weights | self.keys


def sign_revocations(revocations: Revocations, release_key: signing.SigningKey) -> bytes:
    """Write a list and sign it with the source's release key.

    Raises:
        MalformedError: it names more than `MAX_REVOKED` weights or keys.
    """
    values = {
        "v": 1,
        "version": revocations.version,
        "day": revocations.day,
        "weights": join_digests(revocations.weights),
        "keys": join_digests(revocations.keys),
    }
    return signing.sign(PAYLOAD_TYPE, canonical.write_record(values, _SCHEMA, what=_WHAT), release_key)


def open_revocations(data: bytes, issuer: bytes) -> Revocations:
    """Verify a list and read it.

    Args:
        data: the signed list.
        issuer: fingerprint of the release key that must have signed it, 32 bytes.

    Raises:
        MalformedError: it is not the only encoding of a list.
        UnauthenticError: signed by another key, something else, or the signature does not hold.
    """
    payload = signing.verify_envelope(signing.parse_envelope(data), payload_type=PAYLOAD_TYPE, signer=issuer)
    fields = canonical.read_record(payload, _SCHEMA, what=_WHAT, max_bytes=MAX_REVOCATIONS_BYTES)
    return Revocations(
        version=fields["version"],
        day=fields["day"],
        weights=split_digests(fields["weights"], "weights"),
        keys=split_digests(fields["keys"], "keys"),
    )


def join_digests(digests: Set[bytes]) -> str:
    """Write a set of digests in its one form.

    They are hexadecimal and sorted, one after the other.
    """
    return "".join(sorted(digest.hex() for digest in digests))


def split_digests(text: str, field: str) -> frozenset[bytes]:
    """Read what `join_digests` wrote.

    Raises:
        MalformedError: it is anything else: another alphabet, a part of a digest, unsorted, one twice.
    """
    digests = frozenset(bytes.fromhex(digit) for digit in re.findall(r"[0-9a-f]{64}", text))
    if join_digests(digests) != text:
        raise MalformedError(
            Code.NOT_CANONICAL, f"Field {field} is not a sorted list of SHA-256 digests; ask for a new file."
        )
    return digests
