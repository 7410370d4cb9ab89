"""Call the source, and check all that it says before using it.

This is the target's end of the four calls.
"""

import contextlib
import random
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
from cryptography.hazmat.primitives.serialization import Encoding

from protocol.bundle.sealing import MAX_SEALED_BYTES
from protocol.errors import (
    Code,
    MalformedError,
    PeerError,
    ProtocolError,
    RefusedError,
    TimedOutError,
    UnauthenticError,
)
from protocol.identity.identities import Identity
from protocol.statements.offers import OfferFields, open_checkpoint, open_offer
from protocol.wire.address import Address
from protocol.wire.channel import pinned_channel, trusted_certificate
from protocol.wire.chunks import chunk_data, chunk_length
from protocol.wire.codec import decoder, encode
from protocol.wire.ecan.v1.release_pb2 import (
    AckReply,
    AckRequest,
    FetchRequest,
    Offer,
    OpenRequest,
    TrustReply,
    TrustRequest,
)
from protocol.wire.metadata import refuse_metadata
from protocol.wire.proof import NONCE_BYTES, prove
from protocol.wire.service import ACK, FETCH, MAX_CALL_S, OPEN, TRUST
from protocol.wire.status import explained_faults
from target_site.trust.checkpoints import SignedCheckpoint

T = TypeVar("T")

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
"""How long to wait before coming again when the source is busy: twice as long every time, up to this, and a random
part of it, so that many targets do not come again together."""


class Deadline:
    """Hold the moment by which everything must be done.

    It is counted on a clock that nobody sets.
    """

    def __init__(self, timeout_s: float) -> None:
        self._end = time.monotonic() + timeout_s

    def remaining_s(self) -> float:
        """Return the seconds that are left.

        Raises:
            TimedOutError: none are.
        """
        remaining = self._end - time.monotonic()
        if remaining <= 0:
            raise TimedOutError(
                Code.DEADLINE, "The time is up; run the command again, with a longer time-out: it goes on."
            )
        return remaining


@dataclass(frozen=True, kw_only=True)
class AcceptedOffer:
    """Hold what the source offers for a grant: signed, and within limits.

    Attributes:
        grant: 16 bytes.
        digest: SHA-256 of the sealed bundle.
        size: its size in bytes.
        release: number of the release.
        issuer: fingerprint of the source, 32 bytes.
        message: the Offer message as it came: the source's signed word, to be kept as evidence.
    """

    grant: bytes
    digest: bytes
    size: int
    release: int
    issuer: bytes
    message: bytes


def read_offer(message: bytes, issuer: bytes) -> tuple[OfferFields, bytes]:
    """Verify the bytes of an Offer message.

    Args:
        message: as it came, or as it was kept.
        issuer: the source's fingerprint, 32 bytes.

    Returns:
        What is offered, and the endorsement of the key that signed it.

    Raises:
        MalformedError: it is not the only encoding of an offer.
        UnauthenticError: the source has not signed it.
    """
    offer = decoder(Offer)(message)
    return open_offer(offer.statement, offer.endorsement, issuer), offer.endorsement


class SourceClient:
    """Hold one connection to the source."""

    def __init__(
        self,
        channel: grpc.Channel,
        address: Address,
        identity: Identity,
        server_certificate: bytes,
        trusted: bytes,
        deadline: Deadline,
        *,
        max_bytes: int = MAX_SEALED_BYTES,
    ) -> None:
        self._address = address
        self._identity = identity
        self._server_certificate = server_certificate
        self._trusted = trusted
        self._deadline = deadline
        self._max_bytes = max_bytes
        self._opened = self._endorsement = b""  # what was offered last, and the word for the key that signed it
        self._open = channel.unary_unary(OPEN, encode, bytes)
        self._fetch = channel.unary_stream(FETCH, encode, bytes)
        self._ack = channel.unary_unary(ACK, encode, bytes)
        self._trust = channel.unary_unary(TRUST, encode, bytes)

    def open(self, grants: Iterable[bytes]) -> AcceptedOffer:
        """Open the first of our grants that the source serves.

        Returns the source's offer.

        Raises:
            RefusedError: it serves none of them, or the one has ended.
            PeerError: what it offers is not its signed word on this grant.
        """
        unknown = RefusedError(Code.GRANT, "This site has made no request; run `ecan-target request` first.")
        for grant in grants:
            try:
                return self._open_one(grant)
            except RefusedError as refusal:
                if refusal.code is not Code.GRANT:
                    raise
                unknown = refusal
        raise unknown

    def fetch(self, offer: AcceptedOffer, offset: int) -> Iterator[memoryview]:
        """Yield the sealed bundle's chunks from an offset on, checked.

        Each is checked to be the next one.

        The views are valid until the next one is taken. Whatever is not the next chunk ends the call at once.

        Args:
            offer: what was offered.
            offset: in bytes, the start of a chunk.
        """
        stream = self._patiently(lambda: self._begin(offer, offset))
        try:
            with self._explained():
                for message in stream:
                    num_bytes = chunk_length(offset, offer.size)
                    if num_bytes == 0:
                        raise self._strange("more bytes than it offered")
                    try:
                        data = chunk_data(message, offset, num_bytes)
                    except MalformedError as error:
                        raise self._strange("a chunk that is not the next one") from error
                    offset += num_bytes
                    yield data
            if offset != offer.size:
                raise self._strange("fewer bytes than it offered")
            refuse_metadata(stream.call.trailing_metadata())
        finally:
            stream.call.cancel()

    def ack(self, receipt: bytes, *, seen: int) -> SignedCheckpoint:
        """Hand in the signed receipt.

        Args:
            receipt: the signed receipt.
            seen: number of the last entry of the source's ledger that this site knows of, 0 for none.

        Returns:
            The source's signed word on where its ledger stands now and what it holds at ``seen``, to be compared with
            what this site knows.

        Raises:
            PeerError: the checkpoint is not the source's signed word on the grant that was opened and on the
                entry that was asked for.
        """
        data = self._unary(self._ack, AckRequest(receipt=receipt, seen=seen))
        try:
            statement = decoder(AckReply)(data).checkpoint
            stated = open_checkpoint(statement, self._endorsement, self._trusted)
        except (MalformedError, UnauthenticError) as error:
            raise self._strange("a checkpoint that it has not signed") from error
        if stated.grant != self._opened:
            raise self._strange("a checkpoint of another grant")
        if stated.seen != seen:
            raise self._strange("a checkpoint that speaks of another entry than was asked for")
        return SignedCheckpoint(stated=stated, statement=statement, endorsement=self._endorsement)

    def trust(self) -> bytes:
        """Fetch the source's signed revocation list, unread.

        Empty if it has none.
        """
        data = self._unary(self._trust, TrustRequest())
        try:
            return bytes(decoder(TrustReply)(data).revocations)
        except MalformedError as error:
            raise self._strange("a list of another form") from error

    def _open_one(self, grant: bytes) -> AcceptedOffer:
        nonce = secrets.token_bytes(NONCE_BYTES)
        proof = prove(
            self._identity.signing_key,
            grant=grant,
            nonce=nonce,
            server_certificate=self._server_certificate,
            client_certificate=self._identity.certificate.public_bytes(Encoding.DER),
        )
        message = self._unary(self._open, OpenRequest(grant=grant, nonce=nonce, proof=proof))
        try:
            offer, endorsement = read_offer(message, self._trusted)
        except (MalformedError, UnauthenticError) as error:
            raise self._no_offer("an offer that it has not signed") from error
        if offer.grant != grant or offer.nonce != nonce:
            raise self._no_offer("an offer for something else")
        if offer.size > self._max_bytes:
            raise self._no_offer("an offer of a size that no bundle has")
        self._opened, self._endorsement = grant, endorsement
        return AcceptedOffer(
            grant=grant,
            digest=offer.sealed_sha256,
            size=offer.size,
            release=offer.release,
            issuer=self._trusted,
            message=message,
        )

    def _unary(self, method: Any, request: Any) -> bytes:
        """Make one call with one answer, both as bytes.

        The bytes are those of a message.
        """

        def attempt() -> bytes:
            with self._explained():
                data, call = method.with_call(request, timeout=self._call_timeout_s())
                refuse_metadata(call.initial_metadata())
                refuse_metadata(call.trailing_metadata())
                return bytes(data)

        return self._patiently(attempt)

    def _begin(self, offer: AcceptedOffer, offset: int) -> "_Begun":
        """Ask for the stream and wait for its first message.

        A busy source is noticed here.
        """
        request = FetchRequest(grant=offer.grant, digest=offer.digest, offset=offset)
        with self._explained():
            call: Any = self._fetch(request, timeout=self._call_timeout_s())
            try:
                refuse_metadata(call.initial_metadata())
                return _Begun(call, next(call, None))
            except BaseException:
                call.cancel()
                raise

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what gRPC raises in the block into an error of ours.

        An error that carries metadata is refused.
        """
        with explained_faults(str(self._address)):
            try:
                yield
            except grpc.RpcError as error:
                refuse_metadata(error.trailing_metadata())
                raise

    def _patiently(self, attempt: Callable[[], T]) -> T:
        """Retry, less and less often, while the source is busy.

        It stops when the time is up.
        """
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                return attempt()
            except ProtocolError as fault:
                if fault.code is not Code.BUSY:
                    raise
            time.sleep(min(pause_s * random.uniform(0.5, 1.0), self._deadline.remaining_s()))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _call_timeout_s(self) -> float:
        return min(self._deadline.remaining_s(), MAX_CALL_S)

    def _no_offer(self, what: str) -> PeerError:
        return self._strange(what, Code.OFFER)

    def _strange(self, what: str, code: Code = Code.PROTOCOL) -> PeerError:
        return PeerError(code, f"{self._address} sent {what}; install the same release of ecan-ser at both sites.")


@dataclass(frozen=True)
class _Begun:
    """Hold a stream whose first message has come.

    ``first`` is None if the stream ended without a message.
    """

    call: Any
    first: bytes | None

    def __iter__(self) -> Iterator[bytes]:
        if self.first is not None:
            yield self.first
            yield from self.call


@contextlib.contextmanager
def connect(
    address: Address,
    identity: Identity,
    trusted: bytes,
    deadline: Deadline,
    *,
    max_bytes: int = MAX_SEALED_BYTES,
) -> Iterator[SourceClient]:
    """Connect to the trusted source and to nobody else.

    Args:
        address: where it listens.
        identity: the target's.
        trusted: the source's fingerprint, 32 bytes.
        deadline: for everything that is done with it.
        max_bytes: the largest file that an offer may be for.

    Raises:
        PeerError: nobody listens, or somebody else does.
        TimedOutError: there was no answer in time.
    """
    certificate = trusted_certificate(address, trusted, deadline.remaining_s())
    with pinned_channel(address, identity, certificate, trusted) as channel:
        yield SourceClient(channel, address, identity, certificate, trusted, deadline, max_bytes=max_bytes)
