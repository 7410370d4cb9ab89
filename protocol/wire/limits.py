"""Limit the size of every field and message on the wire.

One table for both sites. A field that is not in it cannot be sent or read, so nobody adds one in passing.
"""

from collections.abc import Mapping

from protocol.bundle.sealing import MAX_SEALED_BYTES
from protocol.identity.identities import ONLINE_ENDORSEMENT_BYTES
from protocol.statements.offers import MAX_SEQ, MAX_STATEMENT_BYTES
from protocol.statements.receipts import MAX_RECEIPT_BYTES
from protocol.statements.request import GRANT_BYTES
from protocol.statements.revocations import MAX_REVOCATIONS_BYTES
from protocol.wire.chunks import CHUNK_BYTES
from protocol.wire.proof import NONCE_BYTES, PROOF_BYTES

DIGEST_BYTES = 32

FIELD_LIMITS: Mapping[str, int] = {
    "OpenRequest.grant": GRANT_BYTES,
    "OpenRequest.nonce": NONCE_BYTES,
    "OpenRequest.proof": PROOF_BYTES,
    "Offer.statement": MAX_STATEMENT_BYTES,
    "Offer.endorsement": ONLINE_ENDORSEMENT_BYTES,
    "FetchRequest.grant": GRANT_BYTES,
    "FetchRequest.digest": DIGEST_BYTES,
    "FetchRequest.offset": MAX_SEALED_BYTES,
    "Chunk.offset": MAX_SEALED_BYTES,
    "Chunk.data": CHUNK_BYTES,
    "AckRequest.receipt": MAX_RECEIPT_BYTES,
    "AckRequest.seen": MAX_SEQ,
    "AckReply.checkpoint": MAX_STATEMENT_BYTES,
    "TrustReply.revocations": MAX_REVOCATIONS_BYTES,
}
"""The longest value of a field of bytes, in bytes, or the largest value of a field of integers."""

MAX_REQUEST_BYTES = 16 * 1024
"""No message to the source is longer."""

MAX_REPLY_BYTES = 96 * 1024
"""No message to the target is longer."""

SOFT_METADATA_BYTES = 4 * 1024
MAX_METADATA_BYTES = 8 * 1024
"""gRPC refuses calls with metadata between the two at random, and beyond the second always."""
