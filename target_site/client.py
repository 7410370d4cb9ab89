"""The target's end of the three calls; nothing that the source says is used before it is checked."""

import contextlib
import secrets
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import grpc
from cryptography.hazmat.primitives.serialization import Encoding

from protocol.bundle import MAX_BUNDLE_BYTES
from protocol.errors import Code, ConnectionFault, Refused, TimedOut
from protocol.identity import Identity
from protocol.wire.address import Address
from protocol.wire.channel import pinned_channel, trusted_certificate
from protocol.wire.chunks import CHUNK_BYTES
from protocol.wire.codec import decoder, encode
from protocol.wire.ecan.v1.release_pb2 import AckReply, AckRequest, Chunk, FetchRequest, Offer, OpenRequest
from protocol.wire.proof import NONCE_BYTES, prove
from protocol.wire.service import ACK, FETCH, MAX_CALL_S, OPEN
from protocol.wire.status import explained_faults


class Deadline:
    """A moment by which everything must be done, on a clock that nobody sets."""

    def __init__(self, timeout_s: float) -> None:
        self._end = time.monotonic() + timeout_s

    def remaining_s(self) -> float:
        """Seconds that are left.

        Raises:
            TimedOut: none are.
        """
        remaining = self._end - time.monotonic()
        if remaining <= 0:
            raise TimedOut(Code.DEADLINE, "The time is up; run the command again, with a longer time-out: it goes on.")
        return remaining


@dataclass(frozen=True, kw_only=True)
class AcceptedOffer:
    """What the source offers for a grant, within our limits.

    Attributes:
        grant: 16 bytes.
        digest: SHA-256 of the bundle.
        size: its size in bytes.
    """

    grant: bytes
    digest: bytes
    size: int


class SourceClient:
    """One connection to the source."""

    def __init__(
        self,
        channel: grpc.Channel,
        address: Address,
        identity: Identity,
        server_certificate: bytes,
        deadline: Deadline,
    ) -> None:
        self._address = address
        self._identity = identity
        self._server_certificate = server_certificate
        self._deadline = deadline
        self._open = channel.unary_unary(OPEN, encode, decoder(Offer))
        self._fetch = channel.unary_stream(FETCH, encode, decoder(Chunk))
        self._ack = channel.unary_unary(ACK, encode, decoder(AckReply))

    def open(self, grants: Iterable[bytes]) -> AcceptedOffer:
        """The offer for the first of our grants that the source serves.

        Raises:
            Refused: it serves none of them, or the one is closed.
        """
        unknown = Refused(Code.GRANT, "This site has made no request; run `ecan-target request` first.")
        for grant in grants:
            try:
                return self._open_one(grant)
            except Refused as refusal:
                if refusal.code is not Code.GRANT:
                    raise
                unknown = refusal
        raise unknown

    def fetch(self, offer: AcceptedOffer, offset: int) -> Iterator[bytes]:
        """The bundle's chunks from an offset on, each checked to be the next one.

        Args:
            offer: what was offered.
            offset: in bytes, the start of a chunk.
        """
        request = FetchRequest(grant=offer.grant, digest=offer.digest, offset=offset)
        with explained_faults(str(self._address)):
            for chunk in self._fetch(request, timeout=self._call_timeout_s()):
                expected = min(CHUNK_BYTES, offer.size - offset)
                if chunk.offset != offset or len(chunk.data) != expected or expected == 0:
                    raise self._strange("a chunk that is not the next one")
                offset += expected
                yield chunk.data
        if offset != offer.size:
            raise self._strange("fewer bytes than it offered")

    def ack(self, receipt: bytes) -> None:
        """Hand in the signed receipt."""
        with explained_faults(str(self._address)):
            self._ack(AckRequest(receipt=receipt), timeout=self._call_timeout_s())

    def _open_one(self, grant: bytes) -> AcceptedOffer:
        nonce = secrets.token_bytes(NONCE_BYTES)
        proof = prove(
            self._identity.signing_key,
            grant=grant,
            nonce=nonce,
            server_certificate=self._server_certificate,
            client_certificate=self._identity.certificate.public_bytes(Encoding.DER),
        )
        request = OpenRequest(grant=grant, nonce=nonce, proof=proof)
        with explained_faults(str(self._address)):
            offer = self._open(request, timeout=self._call_timeout_s())
        if offer.grant != grant or offer.nonce != nonce or len(offer.digest) != 32:
            raise self._strange("an offer for something else")
        if not 0 < offer.size <= MAX_BUNDLE_BYTES:
            raise self._strange("an offer of a size that no bundle has")
        return AcceptedOffer(grant=grant, digest=offer.digest, size=offer.size)

    def _call_timeout_s(self) -> float:
        return min(self._deadline.remaining_s(), MAX_CALL_S)

    def _strange(self, what: str) -> ConnectionFault:
        return ConnectionFault(
            Code.PROTOCOL, f"{self._address} sent {what}; install the same release of ecan-ser at both sites."
        )


@contextlib.contextmanager
def connect(address: Address, identity: Identity, trusted: bytes, deadline: Deadline) -> Iterator[SourceClient]:
    """A connection to the trusted source and to nobody else.

    Args:
        address: where it listens.
        identity: the target's.
        trusted: the source's fingerprint, 32 bytes.
        deadline: for everything that is done with it.

    Raises:
        ConnectionFault: nobody listens, or somebody else does.
        TimedOut: there was no answer in time.
    """
    certificate = trusted_certificate(address, trusted, deadline.remaining_s())
    with pinned_channel(address, identity, certificate, trusted) as channel:
        yield SourceClient(channel, address, identity, certificate, deadline)
