"""Sign what the source's online key may say.

Which sealed bundle it offers for a grant, and where its ledger stands.

The online key lies on the machine that serves, so it may sign these two statements and nothing else. The release key
endorses it and stays away from the network. A statement is signed evidence: whoever holds two offers that contradict
each other can show them to anybody.
"""

from dataclasses import asdict, dataclass
from typing import Any

from protocol import canonical
from protocol.errors import Code, MalformedError
from protocol.identity import signing
from protocol.identity.identities import check_online

OFFER_TYPE = "application/vnd.ecan.offer.v1+json"
CHECKPOINT_TYPE = "application/vnd.ecan.checkpoint.v1+json"
MAX_STATEMENT_BYTES = 2048

_MAX_INTEGER = 10**15 - 1

MAX_SEQ = _MAX_INTEGER
"""The highest number of a ledger's line that can be spoken of."""

NO_HEAD = bytes(32)
"""Stands for the hash of a line that there is not."""

_OFFER: canonical.Schema = {
    "v": canonical.OneOf((1,)),
    "grant": canonical.Hex(16),
    "nonce": canonical.Hex(32),
    "sealed_sha256": canonical.Hex(32),
    "size": canonical.Int(1, _MAX_INTEGER),
    "release": canonical.Int(1, 2**32 - 1),
    "expires_s": canonical.Int(0, _MAX_INTEGER),
}
_CHECKPOINT: canonical.Schema = {
    "v": canonical.OneOf((1,)),
    "grant": canonical.Hex(16),
    "seq": canonical.Int(1, MAX_SEQ),
    "head": canonical.Hex(32),
    "seen": canonical.Int(0, MAX_SEQ),
    "seen_head": canonical.Hex(32),
    "day": canonical.Int(0, 0xFFFF),
}


@dataclass(frozen=True, kw_only=True)
class OfferFields:
    """Describe what is offered.

    Attributes:
        grant: 16 bytes.
        nonce: nonce of the request to open, 32 bytes: it shows that the offer is fresh and not a recording.
        sealed_sha256: SHA-256 of the sealed bundle.
        size: its size in bytes.
        release: number of the release.
        expires_s: when the offer ends, in seconds since 1970.
    """

    grant: bytes
    nonce: bytes
    sealed_sha256: bytes
    size: int
    release: int
    expires_s: int


@dataclass(frozen=True, kw_only=True)
class CheckpointFields:
    """Describe where the ledger stood when it took a receipt.

    It is the source's ledger.

    Attributes:
        grant: the grant that was closed, 16 bytes.
        seq: number of the last entry.
        head: hash of the last entry, 32 bytes; it stands for all entries before.
        seen: number of the last entry that the site has seen before, 0 for none; the site has said it.
        seen_head: hash of that entry in this ledger, `NO_HEAD` for none and where the ledger is shorter. Whoever
            remembers another one knows that the ledger was rewritten.
        day: days since 1970.
    """

    grant: bytes
    seq: int
    head: bytes
    seen: int
    seen_head: bytes
    day: int

    @property
    def lines(self) -> tuple[tuple[int, bytes], ...]:
        """Return the numbers and hashes of all entries that it states."""
        seen = ((self.seen, self.seen_head),) if self.seen else ()
        return (*seen, (self.seq, self.head))


def sign_offer(offer: OfferFields, online_key: signing.SigningKey) -> bytes:
    """Write an offer and sign it."""
    return _sign(OFFER_TYPE, asdict(offer), _OFFER, "offer", online_key)


def open_offer(data: bytes, endorsement: bytes, issuer: bytes) -> OfferFields:
    """Verify an offer and read it.

    Args:
        data: the signed statement.
        endorsement: the release key's word on the key that signed it, 96 bytes.
        issuer: fingerprint of the only release key that is trusted, 32 bytes.

    Raises:
        MalformedError: it is not the only encoding of an offer.
        UnauthenticError: signed by a key that the issuer has not endorsed, or a signature does not hold.
    """
    return OfferFields(**_open(OFFER_TYPE, data, _OFFER, "offer", endorsement, issuer))


def sign_checkpoint(checkpoint: CheckpointFields, online_key: signing.SigningKey) -> bytes:
    """Write a checkpoint and sign it."""
    _check_seen(checkpoint)
    return _sign(CHECKPOINT_TYPE, asdict(checkpoint), _CHECKPOINT, "checkpoint", online_key)


def open_checkpoint(data: bytes, endorsement: bytes, issuer: bytes) -> CheckpointFields:
    """Verify a checkpoint and read it; see `open_offer`."""
    checkpoint = CheckpointFields(**_open(CHECKPOINT_TYPE, data, _CHECKPOINT, "checkpoint", endorsement, issuer))
    _check_seen(checkpoint)
    return checkpoint


def _check_seen(checkpoint: CheckpointFields) -> None:
    """Check that a checkpoint without an earlier entry has no hash of one."""
    if checkpoint.seen == 0 and checkpoint.seen_head != NO_HEAD:
        raise MalformedError(
            Code.RANGE, "The checkpoint tells the hash of an entry that has no number; tell the source."
        )


def _sign(
    kind: str, fields: dict[str, Any], schema: canonical.Schema, what: str, online_key: signing.SigningKey
) -> bytes:
    return signing.sign(kind, canonical.write_record({"v": 1, **fields}, schema, what=what), online_key)


def _open(
    kind: str, data: bytes, schema: canonical.Schema, what: str, endorsement: bytes, issuer: bytes
) -> dict[str, Any]:
    envelope = signing.parse_envelope(data)
    check_online(endorsement, envelope.public_key, issuer)
    payload = signing.verify_envelope(envelope, payload_type=kind, signer=envelope.signer)
    fields = canonical.read_record(payload, schema, what=what, max_bytes=MAX_STATEMENT_BYTES)
    del fields["v"]
    return fields
