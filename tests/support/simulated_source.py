"""A source in a few lines, for attacks and accidents: real gRPC over mutual TLS, but it serves what a test says.

It needs nothing of `source_site`, so the target's tests run where that package is not installed.
"""

import contextlib
import hashlib
from collections.abc import Iterator

from protocol.errors import Code, Refused
from protocol.identity import Identity
from protocol.request import grant_id, open_request
from protocol.wire.address import Address
from protocol.wire.channel import start_server
from protocol.wire.chunks import chunks
from protocol.wire.ecan.v1.release_pb2 import AckReply, AckRequest, Chunk, FetchRequest, Offer, OpenRequest
from protocol.wire.service import release_handler
from tests.support.loopback import require_loopback


class SimulatedSource:
    """An honest source without a ledger; a test overrides the method in which its own does not behave.

    Attributes:
        fetches: the offset of every Fetch, in order.
        receipts: what was acknowledged, in order.
    """

    def __init__(self, identity: Identity, request: bytes, data: bytes) -> None:
        self.identity = identity
        self.request = request
        self.data = data
        self.fetches: list[int] = []
        self.receipts: list[bytes] = []

    def open(self, request: OpenRequest) -> Offer:
        if request.grant != grant_id(self.request):
            raise Refused(Code.GRANT, "unknown")
        digest = hashlib.sha256(self.data).digest()
        return Offer(grant=request.grant, nonce=request.nonce, digest=digest, size=len(self.data))

    def fetch(self, request: FetchRequest) -> Iterator[Chunk]:
        self.fetches.append(request.offset)
        for offset, data in chunks(self.data, request.offset):
            yield Chunk(offset=offset, data=data)

    def ack(self, request: AckRequest) -> AckReply:
        self.receipts.append(request.receipt)
        return AckReply()

    @contextlib.contextmanager
    def listening(self, client_certificate: bytes | None = None) -> Iterator[Address]:
        """Serve on a free port of the loopback."""
        require_loopback()
        certificate = client_certificate or open_request(self.request).certificate
        handler = release_handler(self, certificate)
        server, address = start_server(Address("127.0.0.1", 0), self.identity, certificate, handler)
        try:
            yield address
        finally:
            server.stop(0).wait()
