"""HTTP/2 frames written by hand over real mutual TLS, to send what no gRPC library can be made to send."""

import contextlib
import socket
import ssl
import struct
from collections.abc import Iterator
from pathlib import Path

from protocol.identity.identities import Identity
from protocol.wire.address import Address

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, CONTINUATION = 0, 1, 3, 4, 6, 7, 9
END_STREAM, END_HEADERS = 1, 4


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame; its length is stated as it is."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def header(name: bytes, value: bytes) -> bytes:
    """A header in HPACK's simplest form: written out, not remembered."""
    assert max(len(name), len(value)) < 127
    return b"\x10" + bytes([len(name)]) + name + bytes([len(value)]) + value


def call_headers(path: bytes) -> bytes:
    """What opens a gRPC call."""
    fields = {
        b":method": b"POST",
        b":scheme": b"https",
        b":path": path,
        b":authority": b"source",
        b"te": b"trailers",
        b"content-type": b"application/grpc",
        b"grpc-timeout": b"5S",
    }
    return b"".join(header(name, value) for name, value in fields.items())


@contextlib.contextmanager
def raw_connection(address: Address, identity: Identity, folder: Path) -> Iterator[ssl.SSLSocket]:
    """A connection on which the greeting has been sent, and nothing else."""
    pem = folder / "client.pem"
    pem.write_bytes(identity.certificate_pem + identity.tls_key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(pem)
    with (
        socket.create_connection((address.host, address.port), 5) as plain,
        context.wrap_socket(plain) as encrypted,
    ):
        encrypted.sendall(PREFACE + frame(SETTINGS, 0, 0))
        yield encrypted
