"""Sign receipts: the target's word that one bundle arrived.

A receipt also says whether the bundle was accepted.
"""

from dataclasses import asdict, dataclass
from enum import StrEnum

from protocol import canonical
from protocol.identity import signing

PAYLOAD_TYPE = "application/vnd.ecan.receipt.v1+json"
MAX_RECEIPT_BYTES = 4096

_WHAT = "receipt"


class Verdict(StrEnum):
    """Name what the target made of the bundle."""

    ACCEPTED = "accepted"
    REFUSED = "refused"


_SCHEMA: canonical.Schema = {
    "v": canonical.OneOf((1,)),
    "grant": canonical.Hex(16),
    "sealed_sha256": canonical.Hex(32),
    "digest": canonical.Hex(32),
    "weights_sha256": canonical.Hex(32),
    "verdict": canonical.OneOf(tuple(Verdict)),
    "day": canonical.Int(0, 0xFFFF),
}


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """Describe what was received.

    Attributes:
        grant: the grant it was received under, 16 bytes.
        sealed_sha256: SHA-256 of all bytes as they were delivered, 32 bytes.
        digest: SHA-256 of all bytes of the bundle that was inside, 32 bytes.
        weights_sha256: SHA-256 of its weights, 32 bytes.
        verdict: whether the target's verifier accepted it.
        day: day of the verdict, in days since 1970.
    """

    grant: bytes
    sealed_sha256: bytes
    digest: bytes
    weights_sha256: bytes
    verdict: Verdict
    day: int


def sign_receipt(receipt: Receipt, key: signing.SigningKey) -> bytes:
    """Write a receipt and sign it with the target's receipt key."""
    return signing.sign(PAYLOAD_TYPE, canonical.write_record({"v": 1, **asdict(receipt)}, _SCHEMA, what=_WHAT), key)


def open_receipt(data: bytes, *, signer: bytes) -> Receipt:
    """Verify a receipt and read it.

    Args:
        data: the signed receipt.
        signer: fingerprint of the receipt key that the grant was given to, 32 bytes.

    Raises:
        MalformedError: it is not the only encoding of a receipt.
        UnauthenticError: signed by another key, or the signature does not hold.
    """
    payload = signing.verify_envelope(signing.parse_envelope(data), payload_type=PAYLOAD_TYPE, signer=signer)
    fields = canonical.read_record(payload, _SCHEMA, what=_WHAT, max_bytes=MAX_RECEIPT_BYTES)
    del fields["v"]
    return Receipt(**fields)
