"""The four calls with nothing around them, to say to a server what no honest target says."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import grpc

from protocol.identity.identities import Identity
from protocol.statements.offers import OfferFields, open_offer
from protocol.wire.address import Address
from protocol.wire.channel import pinned_channel
from protocol.wire.codec import decoder, encode
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
from protocol.wire.proof import prove
from protocol.wire.service import ACK, FETCH, OPEN, TRUST
from protocol.wire.status import explained_faults
from tests.support.sites import Site, der

TIMEOUT_S = 10.0


class Calls:
    """One connection; a refusal comes back as the error of ours that it stands for."""

    def __init__(self, channel, site: Site, source: Identity) -> None:
        self.channel = channel
        self.site = site
        self.source = source

    def opening(self, **changes) -> OpenRequest:
        """An honest opening with some fields changed."""
        nonce = os.urandom(32)
        proof = prove(
            self.site.identity.signing_key,
            grant=self.site.grant,
            nonce=nonce,
            server_certificate=der(self.source),
            client_certificate=der(self.site.identity),
        )
        return OpenRequest(**{"grant": self.site.grant, "nonce": nonce, "proof": proof, **changes})

    def open(self, request: OpenRequest | None = None) -> OfferFields:
        offer = self._unary(OPEN, request or self.opening(), Offer)
        return open_offer(offer.statement, offer.endorsement, self.source.fingerprint)

    def fetch(self, digest: bytes, offset: int = 0, grant: bytes | None = None) -> Iterator[Chunk]:
        request = FetchRequest(grant=grant or self.site.grant, digest=digest, offset=offset)
        with explained_faults("the source"):
            yield from self.channel.unary_stream(FETCH, encode, decoder(Chunk))(request, timeout=TIMEOUT_S)

    def ack(self, receipt: bytes, seen: int = 0) -> AckReply:
        return self._unary(ACK, AckRequest(receipt=receipt, seen=seen), AckReply)

    def trust(self) -> bytes:
        return self._unary(TRUST, TrustRequest(), TrustReply).revocations

    def raw(self, method: str, data: bytes, **options: Any) -> tuple[grpc.StatusCode, str]:
        """How a call with any bytes ends: the status and the details that crossed."""
        try:
            self.channel.unary_unary(method)(data, **{"timeout": TIMEOUT_S, **options})
        except grpc.RpcError as error:
            return error.code(), error.details()
        return grpc.StatusCode.OK, ""

    def _unary(self, method: str, request: Any, reply: Any) -> Any:
        with explained_faults("the source"):
            return self.channel.unary_unary(method, encode, decoder(reply))(request, timeout=TIMEOUT_S)


@contextlib.contextmanager
def calling(address: Address, site: Site, source: Identity, shown: Identity | None = None) -> Iterator[Calls]:
    """Connect as the site, or with the certificate of another identity."""
    client = shown or site.identity
    with pinned_channel(address, client, der(source), source.fingerprint) as channel:
        yield Calls(channel, site, source)
