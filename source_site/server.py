"""Serving one sealed bundle to one site until it is receipted.

Nothing here can seal: the server knows finished bytes, the ledger and its TLS key, never a model or a corpus.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate

from protocol.errors import Code, ConnectionFault, Malformed, ProtocolError, Refused, TimedOut, Unauthentic
from protocol.identity import Identity
from protocol.ledger import GrantState, Ledger, closed_grant
from protocol.receipts import Receipt, Verdict, open_receipt
from protocol.request import SiteRequest
from protocol.wire.address import Address
from protocol.wire.channel import start_server
from protocol.wire.chunks import chunks, is_chunk_start
from protocol.wire.ecan.v1.release_pb2 import AckReply, AckRequest, Chunk, FetchRequest, Offer, OpenRequest
from protocol.wire.proof import NONCE_BYTES, check_proof
from protocol.wire.service import release_handler

_GRACE_S = 5.0
"""How long calls that are under way may take to end once the receipt is here."""

_LOOK_S = 1.0
"""How often to look whether another process has closed the grant."""


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """A bundle that is bound to a grant.

    Attributes:
        grant: 16 bytes.
        release: number of the release.
        site: who it is for.
        data: all bytes of the bundle.
        digest: SHA-256 of ``data``.
        weights_sha256: SHA-256 of the weights in it.
    """

    grant: bytes
    release: int
    site: SiteRequest
    data: bytes
    digest: bytes
    weights_sha256: bytes


def serve_until_receipted(
    delivery: Delivery,
    ledger: Ledger,
    identity: Identity,
    address: Address,
    *,
    today: int,
    announce: Callable[[str], None],
    timeout_s: float | None,
) -> Receipt:
    """Serve a bundle, and stop once the site's receipt is in the ledger.

    Args:
        delivery: what is served, and to whom.
        ledger: where it is reserved.
        identity: the source's.
        address: where to listen.
        today: days since 1970.
        announce: told the address once the server listens, and if another process closed the grant.
        timeout_s: how long to wait for the receipt, in seconds; None waits for ever.

    Raises:
        ConnectionFault: the address cannot be listened on.
        TimedOut: no receipt came in time; the grant stays open for the next try.
    """
    release = OnceRelease(delivery, ledger, identity.certificate.public_bytes(Encoding.DER), today)
    server, bound = start_server(
        address, identity, delivery.site.certificate, release_handler(release, delivery.site.certificate)
    )
    try:
        announce(f"listening on {bound} as {identity.fingerprint.hex()}")
        if _closed_elsewhere(release, timeout_s):
            announce(f"another process closed grant {delivery.grant.hex()} with the site's receipt")
    finally:
        # The reply to the receipt is still on its way: calls that are under way may end.
        server.stop(_GRACE_S).wait()
    if release.receipt is None:
        raise TimedOut(
            Code.DEADLINE, f"No receipt came within {timeout_s} s; run the command again to serve the same bundle."
        )
    return release.receipt


def _closed_elsewhere(release: "OnceRelease", timeout_s: float | None) -> bool:
    """Wait for the receipt until the time is up; whether it came to another process and not to this one."""
    end = math.inf if timeout_s is None else time.monotonic() + timeout_s
    while (left_s := end - time.monotonic()) > 0:
        if release.receipted.wait(min(left_s, _LOOK_S)):
            return False
        if release.find_receipt():
            return True
    return False


class OnceRelease:
    """The service `ecan.v1.Release` for one delivery.

    Attributes:
        receipted: set once the receipt is in the ledger.
        receipt: the receipt, once it is there.
    """

    def __init__(self, delivery: Delivery, ledger: Ledger, certificate: bytes, today: int) -> None:
        self.receipted = threading.Event()
        self.receipt: Receipt | None = None
        self._delivery = delivery
        self._ledger = ledger
        self._server_certificate = certificate
        self._client_certificate = load_pem_x509_certificate(delivery.site.certificate).public_bytes(Encoding.DER)
        self._today = today
        self._opened = False
        self._closing = threading.Lock()

    def open(self, request: OpenRequest) -> Offer:
        """Name the bundle to whoever proves to be the site."""
        self._check_grant(request.grant)
        if len(request.nonce) != NONCE_BYTES:
            raise Malformed(Code.PROTOCOL, "The nonce does not have 32 bytes.")
        try:
            check_proof(
                request.proof,
                self._delivery.site.fingerprint,
                grant=request.grant,
                nonce=request.nonce,
                server_certificate=self._server_certificate,
                client_certificate=self._client_certificate,
            )
        except Unauthentic as error:
            raise ConnectionFault(Code.IDENTITY, "The opening is not proved by the site's key.") from error
        record = self._ledger.find(request.grant)
        if record is None or record.state is GrantState.CLOSED:
            raise closed_grant()
        self._opened = True
        delivery = self._delivery
        return Offer(grant=delivery.grant, nonce=request.nonce, digest=delivery.digest, size=len(delivery.data))

    def fetch(self, request: FetchRequest) -> Iterator[Chunk]:
        """Stream the bundle; the ledger knows before the first byte leaves."""
        self._check_grant(request.grant)
        if not self._opened:
            raise Refused(Code.PROTOCOL, "The grant was not opened.")
        if request.digest != self._delivery.digest:
            raise Refused(Code.DIGEST, "Another bundle was asked for.")
        if not is_chunk_start(request.offset, len(self._delivery.data)):
            raise Malformed(Code.OFFSET, "The offset is not the start of a chunk.")
        self._ledger.start(request.grant, self._today)
        for offset, data in chunks(self._delivery.data, request.offset):
            if self.receipted.is_set():
                raise closed_grant()
            yield Chunk(offset=offset, data=data)

    def ack(self, request: AckRequest) -> AckReply:
        """Close the grant with the site's receipt; the same answer if it is closed already."""
        try:
            receipt = check_receipt(request.receipt, self._delivery)
        except ProtocolError as error:
            raise Refused(Code.RECEIPT, "The receipt does not fit the delivery.") from error
        with self._closing:
            self._ledger.close(self._delivery.grant, request.receipt, self._today)
            self._end(receipt)
        return AckReply()

    def find_receipt(self) -> bool:
        """Take over the receipt with which another process closed the grant; whether there is one."""
        with self._closing:
            record = self._ledger.find(self._delivery.grant)
            if self.receipted.is_set() or record is None or record.receipt is None:
                return False
            self._end(check_receipt(record.receipt, self._delivery))
            return True

    def _end(self, receipt: Receipt) -> None:
        self.receipt = receipt
        self.receipted.set()

    def _check_grant(self, grant: bytes) -> None:
        if grant != self._delivery.grant:
            raise Refused(Code.GRANT, "Another grant was asked for.")


def check_receipt(data: bytes, delivery: Delivery) -> Receipt:
    """Verify that a receipt is the site's word that it accepted this very bundle.

    Raises:
        Malformed: it is not a receipt.
        Unauthentic: another key signed it.
        Refused: it speaks of another bundle, or does not accept it.
    """
    receipt = open_receipt(data, signer=delivery.site.fingerprint)
    said = (receipt.grant, receipt.digest, receipt.weights_sha256, receipt.verdict)
    if said != (delivery.grant, delivery.digest, delivery.weights_sha256, Verdict.ACCEPTED):
        raise Refused(
            Code.RECEIPT,
            "The receipt does not accept this bundle; ask the site for the receipt of this grant.",
        )
    return receipt
