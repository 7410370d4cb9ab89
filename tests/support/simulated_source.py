"""A source in a few lines, for attacks and accidents: real gRPC over mutual TLS, but it serves what a test says.

It needs nothing of `source_site`, so the target's tests run where that package is not installed.
"""

import contextlib
import hashlib
from collections.abc import Iterator

from protocol.errors import Code, RefusedError
from protocol.identity.identities import Identity
from protocol.statements.offers import NO_HEAD, CheckpointFields, OfferFields, sign_checkpoint, sign_offer
from protocol.statements.request import grant_id, open_request
from protocol.wire.address import Address
from protocol.wire.channel import start_server
from protocol.wire.chunks import CHUNK_BYTES
from protocol.wire.ecan.v1.release_pb2 import (
    AckReply,
    AckRequest,
    Chunk,
    FetchRequest,
    Offer,
    OpenRequest,
    TrustReply,
    TrustRequest,
)
from protocol.wire.service import Call, Pins, pins, release_handler
from tests.support.loopback import require_loopback

DAY = 20_000
HEAD = b"h" * 32


class SimulatedSource:
    """An honest source, in whose ledger all lines have one hash; a test overrides what its own does differently.

    Attributes:
        fetches: the offset of every Fetch, in order.
        receipts: what was acknowledged, in order.
        revocations: what Trust answers.
        release: the number in the offers.
    """

    def __init__(self, identity: Identity, request: bytes, data: bytes) -> None:
        self.identity = identity
        self.request = request
        self.data = data
        self.fetches: list[int] = []
        self.receipts: list[bytes] = []
        self.revocations = b""
        self.release = 1

    def offered(self, request: OpenRequest) -> OfferFields:
        """What an honest source offers."""
        return OfferFields(
            grant=request.grant,
            nonce=request.nonce,
            sealed_sha256=hashlib.sha256(self.data).digest(),
            size=len(self.data),
            release=self.release,
            expires_s=(DAY + 1) * 86_400,
        )

    def signed(self, offer: OfferFields) -> Offer:
        """An offer as the source signs it."""
        return Offer(
            statement=sign_offer(offer, self.identity.online_key), endorsement=self.identity.online_endorsement
        )

    def open(self, request: OpenRequest) -> Offer:
        if request.grant != grant_id(self.request):
            raise RefusedError(Code.GRANT, "unknown")
        return self.signed(self.offered(request))

    def fetch(self, request: FetchRequest) -> Iterator[Chunk | bytes]:
        """The chunks, as messages or as their bytes."""
        self.fetches.append(request.offset)
        for start in range(request.offset, len(self.data), CHUNK_BYTES):
            yield Chunk(offset=start, data=self.data[start : start + CHUNK_BYTES])

    def ack(self, request: AckRequest) -> AckReply:
        self.receipts.append(request.receipt)
        checkpoint = CheckpointFields(
            grant=grant_id(self.request),
            seq=len(self.receipts),
            head=HEAD,
            seen=request.seen,
            seen_head=HEAD if 0 < request.seen <= len(self.receipts) else NO_HEAD,
            day=DAY,
        )
        return AckReply(checkpoint=sign_checkpoint(checkpoint, self.identity.online_key))

    def trust(self, request: TrustRequest) -> TrustReply:
        return TrustReply(revocations=self.revocations)

    @contextlib.contextmanager
    def listening(self, sites: Pins | None = None, client_certificates: bytes | None = None) -> Iterator[Address]:
        """Serve on a free port of the loopback.

        Args:
            sites: who may call, if not the site of the request.
            client_certificates: what TLS lets in, if not the certificate of the request; PEM.
        """
        require_loopback()
        request = open_request(self.request)
        handler = release_handler(_Unencoded(self), pins([request]) if sites is None else sites)
        server, address = start_server(
            Address("127.0.0.1", 0), self.identity, client_certificates or request.certificate, handler
        )
        try:
            yield address
        finally:
            server.stop(0).wait()


class _Unencoded:
    """The service of a simulated source: its methods need not know who calls, and may say what no codec would."""

    def __init__(self, source: SimulatedSource) -> None:
        self._source = source

    def open(self, request: OpenRequest, call: Call) -> Offer:
        return self._source.open(request)

    def fetch(self, request: FetchRequest, call: Call) -> Iterator[bytes]:
        for chunk in self._source.fetch(request):
            yield chunk if isinstance(chunk, bytes) else chunk.SerializeToString(deterministic=True)

    def ack(self, request: AckRequest, call: Call) -> AckReply:
        return self._source.ack(request)

    def trust(self, request: TrustRequest, call: Call) -> TrustReply:
        return self._source.trust(request)
