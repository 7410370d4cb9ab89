"""The source's end of every call: who may call, how a message is read, how a fault looks from outside.

The three methods are plain functions of messages that raise `ProtocolError`; what is the same for all of
them is written here once.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from protocol.errors import Code, ConnectionFault, ProtocolError, TimedOut
from protocol.wire.codec import decoder, encode
from protocol.wire.ecan.v1 import release_pb2
from protocol.wire.ecan.v1.release_pb2 import AckReply, AckRequest, Chunk, FetchRequest, Offer, OpenRequest
from protocol.wire.status import public_fault

SERVICE = release_pb2.DESCRIPTOR.services_by_name["Release"].full_name
OPEN, FETCH, ACK = (f"/{SERVICE}/{method}" for method in ("Open", "Fetch", "Ack"))

MAX_CALL_S = 600.0
"""Longest deadline that a call may set, in seconds; gRPC shows a call without one as centuries."""

_log = logging.getLogger(__name__)


class Release(Protocol):
    """What a source answers; each method raises `ProtocolError` to refuse."""

    def open(self, request: OpenRequest) -> Offer:
        """Name the bundle of a grant."""

    def fetch(self, request: FetchRequest) -> Iterator[Chunk]:
        """Stream the bundle."""

    def ack(self, request: AckRequest) -> AckReply:
        """Take the receipt."""


def release_handler(release: Release, client_certificate: bytes) -> "grpc.GenericRpcHandler[bytes, bytes]":
    """The gRPC side of a service that one client may call.

    Args:
        release: answers the calls.
        client_certificate: whose key must be at the other end, PEM.
    """
    gate = _Gate(_public_key_info(client_certificate))
    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            "Open": grpc.unary_unary_rpc_method_handler(gate.unary(release.open, OpenRequest)),
            "Fetch": grpc.unary_stream_rpc_method_handler(gate.stream(release.fetch, FetchRequest)),
            "Ack": grpc.unary_unary_rpc_method_handler(gate.unary(release.ack, AckRequest)),
        },
    )


@dataclass(frozen=True)
class _Gate:
    """What every call passes first. gRPC hands over and takes raw bytes, so nothing is decoded before it."""

    client_key: bytes

    def unary(
        self, method: Callable[[Any], Any], request_type: type[Any]
    ) -> Callable[[bytes, grpc.ServicerContext], bytes]:
        decode = decoder(request_type)

        def call(data: bytes, context: grpc.ServicerContext) -> bytes:
            with _public_faults(context):
                self._admit(context)
                return encode(method(decode(data)))

        return call

    def stream(
        self, method: Callable[[Any], Iterator[Any]], request_type: type[Any]
    ) -> Callable[[bytes, grpc.ServicerContext], Iterator[bytes]]:
        decode = decoder(request_type)

        def call(data: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            with _public_faults(context):
                self._admit(context)
                yield from map(encode, method(decode(data)))

        return call

    def _admit(self, context: grpc.ServicerContext) -> None:
        peer: Mapping[str, Any] = context.auth_context()
        keys = [_public_key_info(certificate) for certificate in peer.get("x509_pem_cert", ())]
        if peer.get("ssl_tls_version") != [b"TLSv1.3"] or keys != [self.client_key]:
            raise ConnectionFault(Code.IDENTITY, "The peer is not the site that the grant is for.")
        remaining_s = context.time_remaining()
        if remaining_s is None or remaining_s > MAX_CALL_S:
            raise TimedOut(Code.DEADLINE, "The call sets no deadline.")


@contextlib.contextmanager
def _public_faults(context: grpc.ServicerContext) -> Iterator[None]:
    try:
        yield
    except ProtocolError as error:
        fault = public_fault(error.code)
    except Exception:
        _log.exception("a call failed")  # the traceback stays at this site
        fault = public_fault(Code.INTERNAL)
    else:
        return
    context.abort(fault.status, fault.sentence)


def _public_key_info(certificate: bytes) -> bytes:
    key = x509.load_pem_x509_certificate(certificate).public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
