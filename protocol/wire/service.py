"""Serve every call at the source.

Who may call, how a message is read, how a fault looks from outside.

The four methods are plain functions of messages that raise `ProtocolError`; what is the same for all of
them is written here once.
"""

import contextlib
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from protocol.errors import Code, MalformedError, PeerError, ProtocolError, TimedOutError
from protocol.statements.request import SiteRequest
from protocol.wire.codec import decoder, encode
from protocol.wire.ecan.v1 import release_pb2
from protocol.wire.ecan.v1.release_pb2 import (
    AckReply,
    AckRequest,
    FetchRequest,
    Offer,
    OpenRequest,
    TrustReply,
    TrustRequest,
)
from protocol.wire.metadata import FROM_THE_LIBRARY, refuse_metadata
from protocol.wire.status import public_fault

SERVICE = release_pb2.DESCRIPTOR.services_by_name["Release"].full_name
OPEN, FETCH, ACK, TRUST = (f"/{SERVICE}/{method}" for method in ("Open", "Fetch", "Ack", "Trust"))

MAX_CALL_S = 600.0
"""Longest deadline that a call may set, in seconds; gRPC shows a call without one as centuries."""

CALLS_PER_SITE = 8
"""Calls of one site that are answered at the same time; one more is told to come again, so others find a thread."""

MESSAGE_PATIENCE_S = 5.0
"""How long a call may keep its message back, in seconds, whatever its deadline; then it is cut."""

_NAMED_BY = "x509_subject_alternative_name"
"""How gRPC must have named the peer; a certificate without such names would be named by its subject."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Pin:
    """Describe a site that may call, and what its certificate must show.

    The certificate must also hold the site's key.

    Attributes:
        fingerprint: the site's, 32 bytes.
        spiffe_id: the only one in its certificate.
    """

    fingerprint: bytes
    spiffe_id: str


Pins = Mapping[bytes, Pin]
"""The sites that may call, by the public key of their certificate (SubjectPublicKeyInfo, DER)."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """Describe an admitted call.

    Attributes:
        site: fingerprint of the site at the other end, 32 bytes: the only source of its rights.
        certificate: the one that it shows, DER.
        cut: ends the call at once, whatever it is doing.
        when_over: has a function called once the call is over; False if it is over already.
    """

    site: bytes
    certificate: bytes
    cut: Callable[[], object]
    when_over: Callable[[Callable[[], None]], bool]


class Release(Protocol):
    """Answer as a source does; each method raises `ProtocolError` to refuse."""

    def open(self, request: OpenRequest, call: Call) -> Offer:
        """Name the bundle of a grant."""

    def fetch(self, request: FetchRequest, call: Call) -> Iterator[bytes]:
        """Stream the bundle as Chunk messages, see `protocol.wire.chunks`."""

    def ack(self, request: AckRequest, call: Call) -> AckReply:
        """Take the receipt."""

    def trust(self, request: TrustRequest, call: Call) -> TrustReply:
        """Tell what is revoked."""


def pins(requests: Iterable[SiteRequest]) -> dict[bytes, Pin]:
    """Return who may call: the sites of some requests and nobody else."""
    found = {}
    for request in requests:
        certificate = x509.load_pem_x509_certificate(request.certificate)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        (spiffe_id,) = names.get_values_for_type(x509.UniformResourceIdentifier)
        found[_public_key_info(certificate)] = Pin(fingerprint=request.fingerprint, spiffe_id=spiffe_id)
    return found


def release_handler(release: Release, sites: Pins) -> "grpc.GenericRpcHandler[bytes, bytes]":
    """Make the gRPC side of the service.

    Args:
        release: answers the calls.
        sites: who may call; looked up anew in every call, so whoever is taken out is refused from the next one on.
    """
    gate = _Admission(sites)
    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            "Open": grpc.stream_unary_rpc_method_handler(gate.unary(release.open, OpenRequest)),
            "Fetch": grpc.stream_stream_rpc_method_handler(gate.stream(release.fetch, FetchRequest)),
            "Ack": grpc.stream_unary_rpc_method_handler(gate.unary(release.ack, AckRequest)),
            "Trust": grpc.stream_unary_rpc_method_handler(gate.unary(release.trust, TrustRequest)),
        },
    )


@dataclass(frozen=True)
class _Admission:
    """Admit calls: every call passes here first.

    gRPC hands over and takes raw bytes, so nothing is decoded before it.

    Every request is declared to gRPC as a stream, though it has one message. Otherwise gRPC would itself wait for the
    message, with a thread and as long as the peer likes, before it asked here whether the peer may call.
    """

    sites: Pins
    _running: Counter[bytes] = field(default_factory=Counter, init=False)  # calls by site
    _counting: threading.Lock = field(default_factory=threading.Lock, init=False)

    def unary(
        self, method: Callable[[Any, Call], Any], request_type: type[Any]
    ) -> Callable[[Iterator[bytes], grpc.ServicerContext], bytes]:
        decode = decoder(request_type)

        def answer(messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
            with _public_faults(context), self._admitted(context) as call:
                return encode(method(decode(_only_message(messages, call)), call))

        return answer

    def stream(
        self, method: Callable[[Any, Call], Iterator[bytes]], request_type: type[Any]
    ) -> Callable[[Iterator[bytes], grpc.ServicerContext], Iterator[bytes]]:
        decode = decoder(request_type)

        def answer(messages: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            with _public_faults(context), self._admitted(context) as call:
                yield from method(decode(_only_message(messages, call)), call)

        return answer

    @contextlib.contextmanager
    def _admitted(self, context: grpc.ServicerContext) -> Iterator[Call]:
        """Take one of the site's places while the call has a thread."""
        call = self._admit(context)
        with self._counting:
            if self._running[call.site] >= CALLS_PER_SITE:
                raise PeerError(Code.BUSY, "The site has too many calls at once.")
            self._running[call.site] += 1
        try:
            yield call
        finally:
            with self._counting:
                self._running[call.site] -= 1

    def _admit(self, context: grpc.ServicerContext) -> Call:
        certificate, site = self._identify(context)
        refuse_metadata(context.invocation_metadata(), allowed=FROM_THE_LIBRARY)
        remaining_s = context.time_remaining()
        if remaining_s is None or remaining_s > MAX_CALL_S:
            raise TimedOutError(Code.DEADLINE, "The call sets no deadline.")
        return Call(
            site=site,
            certificate=certificate.public_bytes(Encoding.DER),
            cut=context.cancel,
            when_over=context.add_callback,
        )

    def _identify(self, context: grpc.ServicerContext) -> tuple[x509.Certificate, bytes]:
        """Identify the certificate at the other end.

        TLS has already checked that the peer holds its key.
        """
        peer: Mapping[str, Any] = context.auth_context()
        shown = peer.get("x509_pem_cert", ())
        if (
            peer.get("transport_security_type") == [b"ssl"]
            and peer.get("ssl_tls_version") == [b"TLSv1.3"]
            and context.peer_identity_key() == _NAMED_BY
            and len(shown) == 1
        ):
            certificate = x509.load_pem_x509_certificate(shown[0])
            pin = self.sites.get(_public_key_info(certificate))
            if pin is not None and peer.get("peer_spiffe_id") == [pin.spiffe_id.encode("ascii")]:
                return certificate, pin.fingerprint
        raise PeerError(Code.IDENTITY, "The peer is not a site that anything is exported for.")


def _only_message(messages: Iterator[bytes], call: Call) -> bytes:
    """Return the message of a call, and check that it is the only one.

    The call is cut if it does not arrive in time.
    """
    patience = threading.Timer(MESSAGE_PATIENCE_S, call.cut)
    patience.daemon = True
    patience.start()
    try:
        data = next(messages, None)
        if data is None or next(messages, None) is not None:
            raise MalformedError(Code.NOT_CANONICAL, "A call has exactly one message.")
    finally:
        patience.cancel()
    return data


@contextlib.contextmanager
def _public_faults(context: grpc.ServicerContext) -> Iterator[None]:
    try:
        yield
    except grpc.RpcError:  # the peer has gone, or was cut, before its message was here: nobody is left to answer
        raise
    except ProtocolError as error:
        fault = public_fault(error.code)
    except Exception:
        _log.exception("a call failed")  # the traceback stays at this site
        fault = public_fault(Code.INTERNAL)
    else:
        return
    context.abort(fault.status, fault.sentence)


def _public_key_info(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
