"""Serve sealed bundles to their sites until each receipt is here.

Nothing here can seal or sign a release: the server knows finished bytes, the ledger, its TLS key and the online key,
never a model or a corpus. A site's rights follow from the key that TLS has proved, not from what the site says.
"""

import contextlib
import hashlib
import math
import os
import resource
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from protocol.announce import Announce
from protocol.errors import Code, FileError, MalformedError, PeerError, ProtocolError, RefusedError, UnauthenticError
from protocol.identity.identities import ServerIdentity
from protocol.ledger.grants import SECONDS_PER_DAY, GrantRecord, GrantState
from protocol.ledger.store import Ledger
from protocol.statements.offers import NO_HEAD, CheckpointFields, OfferFields, sign_checkpoint, sign_offer
from protocol.statements.receipts import open_receipt
from protocol.statements.request import SiteRequest
from protocol.wire.address import Address
from protocol.wire.channel import start_server
from protocol.wire.chunks import CHUNK_BYTES, chunk_message, is_chunk_start
from protocol.wire.ecan.v1.release_pb2 import (
    AckReply,
    AckRequest,
    FetchRequest,
    Offer,
    OpenRequest,
    TrustReply,
    TrustRequest,
)
from protocol.wire.proof import NONCE_BYTES, check_proof
from protocol.wire.service import Call, pins, release_handler
from source_site.release.outbox import check_receipt

SLOWEST_BYTES_PER_S = 64 * 1024
"""A download that is slower on average is cut."""

PATIENCE_S = 10.0
"""How much longer than that a download may take."""

LARGEST_LEASE_SHARE = 16
"""No more than this part of a bundle is counted at once, so a download that is cut wastes little of the quota."""

_GRACE_S = 5.0
"""How long calls that are under way may take to end once every receipt is here."""

_LOOK_S = 0.5
"""How often to look for downloads that are too slow, and for grants that another process has ended."""

_READ_BYTES = 4 * CHUNK_BYTES
_ENDINGS = {
    GrantState.CLOSED: "closed with the site's receipt",
    GrantState.DENIED: "denied",
    GrantState.EXPIRED: "expired without a receipt",
}


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """Describe an open file of the outbox and whom it is for.

    Attributes:
        grant: 16 bytes.
        site: fingerprint of the only site that may have it, 32 bytes.
        sealed_sha256: SHA-256 of the file.
        size: its bytes.
        file: its descriptor.
    """

    grant: bytes
    site: bytes
    sealed_sha256: bytes
    size: int
    file: int

    def read(self, buffer: memoryview, offset: int) -> memoryview:
        """Fill a buffer from an offset on; return the filled part."""
        length = min(len(buffer), self.size - offset)
        try:
            if os.preadv(self.file, [buffer[:length]], offset) == length:
                return buffer[:length]
        except OSError as error:
            raise _unusable(f"{self.grant.hex()}.sealed") from error
        raise _unusable(f"{self.grant.hex()}.sealed")


def serve(
    grants: Sequence[bytes],
    requests: Sequence[SiteRequest],
    ledger: Ledger,
    identity: ServerIdentity,
    outbox: Path,
    revocations: bytes,
    address: Address,
    *,
    announce: Announce,
    timeout_s: float | None,
    now_s: Callable[[], int] = lambda: int(time.time()),
) -> tuple[GrantRecord, ...]:
    """Serve grants to all their sites until each ends or time is up.

    All sites are served at once.

    Args:
        grants: what is served, 16 bytes each; all are in the ledger.
        requests: those of the grants' sites; nobody else can connect.
        ledger: where the grants are issued.
        identity: the source's, without its release key.
        outbox: folder of the sealed files, ``GRANT.sealed``.
        revocations: the signed list that is told to the sites, or nothing.
        address: where to listen.
        announce: told the address once the server listens, and the end of every grant.
        timeout_s: how long to serve, in seconds; None serves until every grant has ended.
        now_s: the time in seconds since 1970, for the ledger.

    Returns:
        The grants' records as they are at the end, in the order of ``grants``.

    Raises:
        RefusedError: a grant is not in the ledger, or none of the requests is of its site.
        FileError: the ledger cannot be used, or a file is not the one in the ledger.
        PeerError: the address cannot be listened on.
    """
    records = tuple(_record(ledger, grant) for grant in grants)
    lasting = [record for record in records if not record.state.has_ended]
    sites = pins(requests)
    known = {pin.fingerprint for pin in sites.values()}
    if not all(record.audience in known for record in lasting):
        raise RefusedError(
            Code.GRANT, "A grant is for a site whose request was not given; name the request of every site."
        )
    if lasting:
        _allow_many_connections()
        with _deliveries(outbox, lasting) as deliveries:
            release = OnceRelease(deliveries, ledger, identity, revocations, now_s=now_s)
            certificates = b"".join(dict.fromkeys(request.certificate for request in requests))
            server, bound = start_server(address, identity, certificates, release_handler(release, sites))
            try:
                announce(f"listening on {bound} as {identity.fingerprint.hex()}")
                release.watch(announce, timeout_s)
            finally:
                # The reply to the last receipt is still on its way: calls that are under way may end.
                server.stop(_GRACE_S).wait()
    return tuple(_record(ledger, grant) for grant in grants)


@dataclass(kw_only=True)
class _Stream:
    """Describe a download that is under way.

    Attributes:
        grant: what is downloaded.
        call: its call.
        ends: when it must be over, on the monotonic clock.
        halted: whether no byte may leave any more.
    """

    grant: bytes
    call: Call
    ends: float
    halted: bool = field(default=False)

    def halt(self) -> None:
        """Let no further byte out.

        What gRPC has taken but not sent yet is dropped.
        """
        self.halted = True
        self.call.cut()


class OnceRelease:
    """Serve `ecan.v1.Release` for the grants of any number of sites.

    Args:
        deliveries: what is served, by grant.
        ledger: has the last word on every grant.
        identity: the source's.
        revocations: what `trust` answers.
        now_s: the time in seconds since 1970.
    """

    def __init__(
        self,
        deliveries: Mapping[bytes, Delivery],
        ledger: Ledger,
        identity: ServerIdentity,
        revocations: bytes,
        *,
        now_s: Callable[[], int],
    ) -> None:
        self._deliveries = deliveries
        self._ledger = ledger
        self._identity = identity
        self._certificate = identity.certificate.public_bytes(Encoding.DER)
        self._revocations = revocations
        self._now_s = now_s
        self._counting = threading.Lock()  # no bytes are let out while a grant is being closed
        self._streams: dict[bytes, _Stream] = {}
        self._streams_lock = threading.Lock()
        self._ended: dict[bytes, GrantState] = {}
        self._receipted = threading.Event()

    def open(self, request: OpenRequest, call: Call) -> Offer:
        """Name the sealed bundle to whoever proves to be the site."""
        delivery = self._granted(request.grant, call)
        if len(request.nonce) != NONCE_BYTES:
            raise MalformedError(Code.PROTOCOL, "The nonce does not have 32 bytes.")
        try:
            check_proof(
                request.proof,
                call.site,
                grant=request.grant,
                nonce=request.nonce,
                server_certificate=self._certificate,
                client_certificate=call.certificate,
            )
        except UnauthenticError as error:
            raise PeerError(Code.IDENTITY, "The opening is not proved by the site's key.") from error
        record = self._ledger.open(delivery.grant, now_s=self._now_s())
        offer = OfferFields(
            grant=delivery.grant,
            nonce=request.nonce,
            sealed_sha256=delivery.sealed_sha256,
            size=delivery.size,
            release=record.release,
            expires_s=record.expires_s or 0,
        )
        return Offer(
            statement=sign_offer(offer, self._identity.online_key), endorsement=self._identity.online_endorsement
        )

    def fetch(self, request: FetchRequest, call: Call) -> Iterator[bytes]:
        """Stream the sealed bundle; the ledger knows before a byte leaves."""
        delivery = self._granted(request.grant, call)
        if request.digest != delivery.sealed_sha256:
            raise RefusedError(Code.DIGEST, "Another bundle was asked for.")
        if not is_chunk_start(request.offset, delivery.size):
            raise MalformedError(Code.OFFSET, "The offset is not the start of a chunk.")
        with self._only_download(delivery, request.offset, call) as stream:
            with self._counting:
                self._ledger.begin_fetch(delivery.grant, now_s=self._now_s())
            yield from self._messages(delivery, request.offset, stream)

    def ack(self, request: AckRequest, call: Call) -> AckReply:
        """Close the grant with the site's receipt.

        A grant that is closed already is answered again.

        The answer says where the ledger stands now, and what it holds at the line that the site has seen last. If
        there is no such line the answer leaves it empty: the site notices that the ledger was cut short.
        """
        try:
            receipt = open_receipt(request.receipt, signer=call.site)
            record = _record(self._ledger, self._granted(receipt.grant, call).grant)
            check_receipt(request.receipt, record)
        except FileError:
            raise
        except ProtocolError as error:
            raise RefusedError(Code.RECEIPT, "The receipt does not fit the delivery.") from error
        if record.fetches and record.sent_bytes < record.size:
            raise RefusedError(Code.RECEIPT, "The receipt comes before all bytes have left.")
        with self._counting:
            self._halt(record.grant)
            self._ledger.close(record.grant, request.receipt, now_s=self._now_s())
            head = self._ledger.head()
        self._receipted.set()
        checkpoint = CheckpointFields(
            grant=record.grant,
            seq=head.seq,
            head=head.digest,
            seen=request.seen,
            seen_head=self._ledger.digest_at(request.seen) or NO_HEAD,
            day=self._now_s() // SECONDS_PER_DAY,
        )
        return AckReply(checkpoint=sign_checkpoint(checkpoint, self._identity.online_key))

    def trust(self, request: TrustRequest, call: Call) -> TrustReply:
        """Tell what is revoked."""
        return TrustReply(revocations=self._revocations)

    def watch(self, announce: Announce, timeout_s: float | None) -> None:
        """Watch until every grant has ended or the time is up."""
        end = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while not self.look(announce) and (left_s := end - time.monotonic()) > 0:
            self._receipted.wait(min(left_s, _LOOK_S))
            self._receipted.clear()

    def look(self, announce: Announce) -> bool:
        """Cut downloads that are too slow or whose grant has ended.

        Another process may have ended it.

        Returns:
            Whether every grant has ended.
        """
        now = time.monotonic()
        with self._streams_lock:
            slow = [stream for stream in self._streams.values() if now > stream.ends]
        for stream in slow:
            stream.halt()
        for record in self._ledger.records():
            if record.grant in self._deliveries and record.state is not self._ended.get(record.grant):
                self._end(record, announce)
        return self._ended.keys() >= self._deliveries.keys()

    def _end(self, record: GrantRecord, announce: Announce) -> None:
        """Note that a grant has ended, if it has."""
        if record.state.has_ended:
            self._halt(record.grant)
            self._ended[record.grant] = record.state
            announce(f"grant {record.grant.hex()} {_ENDINGS[record.state]}")
        elif record.expires_s is not None and self._now_s() >= record.expires_s:
            with contextlib.suppress(RefusedError):  # the ledger notes the end of a window when it is asked
                self._ledger.open(record.grant, now_s=self._now_s())

    def _granted(self, grant: bytes, call: Call) -> Delivery:
        """Return a grant of the calling site.

        One that does not exist and one of another site are treated alike.
        """
        delivery = self._deliveries.get(grant)
        if delivery is None or delivery.site != call.site:
            raise RefusedError(Code.GRANT, "The site has no such grant.")
        return delivery

    @contextlib.contextmanager
    def _only_download(self, delivery: Delivery, offset: int, call: Call) -> Iterator[_Stream]:
        """Keep a site from a second download at the same time.

        It does not matter of which grant.
        """
        may_take_s = PATIENCE_S + (delivery.size - offset) / SLOWEST_BYTES_PER_S
        stream = _Stream(grant=delivery.grant, call=call, ends=time.monotonic() + may_take_s)
        with self._streams_lock:
            if self._streams.setdefault(call.site, stream) is not stream:
                raise RefusedError(Code.BUSY, "The site is downloading already.")

        def leave() -> None:
            with self._streams_lock:
                if self._streams.get(call.site) is stream:
                    del self._streams[call.site]

        try:
            # If the site hangs up, its next try must not find this one still waiting to send.
            stream.halted = not call.when_over(leave)
            yield stream
        finally:
            leave()

    def _messages(self, delivery: Delivery, offset: int, stream: _Stream) -> Iterator[bytes]:
        """Yield the Chunk messages from an offset on.

        Each is read only after the ledger has counted it.

        A lease is half of what has left before, so the ledger is written some dozen times for a bundle of any size.
        """
        buffer = memoryview(bytearray(_READ_BYTES))
        begin = leased = offset
        while offset < delivery.size:
            if offset == leased:
                leased += self._lease(delivery, offset, (offset - begin) // 2)
            part = delivery.read(buffer[: leased - offset], offset)
            for start in range(0, len(part), CHUNK_BYTES):
                if stream.halted:
                    raise RefusedError(Code.STATE, "The grant has ended while its bundle was on its way.")
                yield chunk_message(offset + start, part[start : start + CHUNK_BYTES])
            offset += len(part)

    def _lease(self, delivery: Delivery, offset: int, wanted: int) -> int:
        """Count bytes in the ledger before they leave; return how many."""
        chunks = min(wanted, delivery.size // LARGEST_LEASE_SHARE) // CHUNK_BYTES
        num_bytes = min(max(chunks, 1) * CHUNK_BYTES, delivery.size - offset)
        with self._counting:
            self._ledger.lease(delivery.grant, num_bytes, now_s=self._now_s())
        return num_bytes

    def _halt(self, grant: bytes) -> None:
        with self._streams_lock:
            under_way = [stream for stream in self._streams.values() if stream.grant == grant]
        for stream in under_way:
            stream.halt()


@contextlib.contextmanager
def _deliveries(outbox: Path, records: Sequence[GrantRecord]) -> Iterator[dict[bytes, Delivery]]:
    """Open the files of the outbox, each checked against the ledger."""
    with contextlib.ExitStack() as files:
        deliveries = {}
        for record in records:
            path = outbox / f"{record.grant.hex()}.sealed"
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
                file = files.enter_context(os.fdopen(descriptor, "rb", buffering=0))
                status = os.fstat(descriptor)
                whole = stat.S_ISREG(status.st_mode) and status.st_size == record.size
                if not whole or hashlib.file_digest(file, "sha256").digest() != record.sealed_sha256:
                    raise _unusable(path.name)
            except OSError as error:
                raise _unusable(path.name) from error
            deliveries[record.grant] = Delivery(
                grant=record.grant,
                site=record.audience,
                sealed_sha256=record.sealed_sha256,
                size=record.size,
                file=descriptor,
            )
        yield deliveries


def _allow_many_connections() -> None:
    """Allow as many descriptors as this process may have.

    Half-open connections would use up the usual 1024.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # then it stays as it is
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _record(ledger: Ledger, grant: bytes) -> GrantRecord:
    record = ledger.find(grant)
    if record is None:
        raise RefusedError(Code.GRANT, "This grant is not in the ledger; export first.")
    return record


def _unusable(name: str) -> FileError:
    return FileError(
        Code.STORAGE,
        f"{name} in the outbox is not the sealed bundle in the ledger; restore it or ask the site for a new request.",
    )
