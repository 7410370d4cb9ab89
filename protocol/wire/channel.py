"""Connect by TLS 1.3; each side accepts one certificate of the other.

There is no certificate authority and no trusted name. The source requires a certificate from the sites' requests.
The target first fetches the certificate that the source shows, checks that the identity it trusts has endorsed it,
and then accepts that certificate alone.
"""

import contextlib
import hashlib
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import grpc

from protocol.errors import Code, PeerError, TimedOutError, UnauthenticError
from protocol.identity.identities import Role, check_endorsement, server_name
from protocol.wire.address import Address
from protocol.wire.limits import MAX_METADATA_BYTES, MAX_REPLY_BYTES, MAX_REQUEST_BYTES, SOFT_METADATA_BYTES
from protocol.wire.service import MAX_CALL_S

CALLS_AT_ONCE = 64
"""Calls that are answered at the same time; one more is told to come again, so nobody waits behind slow readers."""

_STREAMS_PER_CONNECTION = 8
_HANDSHAKE_TIMEOUT_MS = 3000
_CONNECT_TIMEOUT_S = 10.0
_NO_COMPRESSION_BUT_IDENTITY = 1  # a set of bits

_SERVER_OPTIONS = (
    ("grpc.so_reuseport", 0),  # or a second server could share the port and take half the calls
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.max_send_message_length", MAX_REPLY_BYTES),
    ("grpc.max_metadata_size", SOFT_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.compression_enabled_algorithms_bitset", _NO_COMPRESSION_BUT_IDENTITY),
    ("grpc.server_handshake_timeout_ms", _HANDSHAKE_TIMEOUT_MS),
    ("grpc.max_concurrent_streams", _STREAMS_PER_CONNECTION),
    ("grpc.max_connection_idle_ms", 2 * 60 * 1000),
    ("grpc.max_connection_age_ms", 10 * 60 * 1000),
    ("grpc.max_connection_age_grace_ms", int(MAX_CALL_S) * 1000),
    # A site whose network vanished would count as busy for long: ask it now and then whether it is there.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)
_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_REPLY_BYTES),
    ("grpc.max_send_message_length", MAX_REQUEST_BYTES),
    ("grpc.max_metadata_size", SOFT_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.compression_enabled_algorithms_bitset", _NO_COMPRESSION_BUT_IDENTITY),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),  # or a new try would wait for the back-off of the last one
)


class TlsIdentity(Protocol):
    """Hold what TLS needs of a site: its key and its certificate."""

    @property
    def tls_key_pem(self) -> bytes:
        """Return the private key, PEM."""

    @property
    def certificate_pem(self) -> bytes:
        """Return the certificate, PEM."""


def start_server(
    address: Address,
    identity: TlsIdentity,
    client_certificates: bytes,
    handler: "grpc.GenericRpcHandler[bytes, bytes]",
) -> tuple[grpc.Server, Address]:
    """Listen for some clients.

    Args:
        address: where; port 0 takes a free port.
        identity: the source's.
        client_certificates: the only certificates that may connect, PEM, one behind the other.
        handler: answers the calls.

    Returns:
        The running server and the address with its real port.

    Raises:
        PeerError: the address cannot be listened on.
    """
    credentials = grpc.ssl_server_credentials(
        [(identity.tls_key_pem, identity.certificate_pem)], client_certificates, require_client_auth=True
    )
    server = grpc.server(
        ThreadPoolExecutor(CALLS_AT_ONCE, thread_name_prefix="call"),
        handlers=[handler],
        maximum_concurrent_rpcs=CALLS_AT_ONCE,
        options=_SERVER_OPTIONS,
    )
    try:
        port = server.add_secure_port(str(address), credentials)
    except RuntimeError as error:
        raise _bind_fault(address) from error
    server.start()
    return server, Address(address.host, port)


def trusted_certificate(address: Address, trusted: bytes, timeout_s: float) -> bytes:
    """Return the source's certificate, once the trusted identity vouches.

    It must be endorsed by the identity that we trust.

    Args:
        address: where the source listens.
        trusted: the source's fingerprint, 32 bytes.
        timeout_s: how long it may take, in seconds.

    Returns:
        DER.

    Raises:
        PeerError: nobody listens, or somebody else does.
        TimedOutError: there was no answer in time.
    """
    certificate = shown_certificate(address, min(timeout_s, _CONNECT_TIMEOUT_S))
    try:
        endorsement = check_endorsement(certificate)
    except UnauthenticError as error:
        seen = hashlib.sha256(certificate).hexdigest()
        raise PeerError(
            Code.IDENTITY,
            f"{address} is no ECAN source: its certificate (SHA-256 {seen}) carries no endorsement; "
            "check the address, and whether a proxy opens TLS connections on the way.",
        ) from error
    if endorsement.fingerprint != trusted or endorsement.role is not Role.SOURCE:
        raise PeerError(
            Code.IDENTITY,
            f"{address} is {endorsement.role} {endorsement.fingerprint.hex()}, not the trusted source "
            f"{trusted.hex()}; compare the fingerprints with the source's operator.",
        )
    return certificate


@contextlib.contextmanager
def pinned_channel(
    address: Address, identity: TlsIdentity, certificate: bytes, trusted: bytes
) -> Iterator[grpc.Channel]:
    """Open a channel to the holder of one certificate and nobody else.

    Args:
        address: where the source listens.
        identity: the target's.
        certificate: the source's, DER, from `trusted_certificate`.
        trusted: the source's fingerprint, 32 bytes.
    """
    credentials = grpc.ssl_channel_credentials(
        # Always given: without it gRPC would believe every authority of the machine.
        root_certificates=ssl.DER_cert_to_PEM_cert(certificate).encode("ascii"),
        private_key=identity.tls_key_pem,
        certificate_chain=identity.certificate_pem,
    )
    # The name in the certificate comes from the fingerprint; the address proves nothing.
    options = [("grpc.ssl_target_name_override", server_name(trusted)), *_CHANNEL_OPTIONS]
    with grpc.secure_channel(str(address), credentials, options) as channel:
        yield channel


def shown_certificate(address: Address, timeout_s: float) -> bytes:
    """Return the certificate that a listener shows, DER.

    It makes a handshake that believes nothing and sends nothing but the greeting.

    Raises:
        PeerError: nobody listens, or not by TLS 1.3.
        TimedOutError: there was no answer in time.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection((address.host, address.port), timeout_s) as plain,
            context.wrap_socket(plain) as encrypted,
        ):
            certificate = encrypted.getpeercert(binary_form=True)
    except TimeoutError as error:
        raise TimedOutError(
            Code.DEADLINE,
            f"{address} did not answer within {timeout_s:.0f} s; check the address and the firewall.",
        ) from error
    except ssl.SSLError as error:
        raise PeerError(
            Code.CONNECTION,
            f"{address} does not speak TLS 1.3; check that an `ecan-source export` listens there.",
        ) from error
    except OSError as error:
        raise PeerError(
            Code.CONNECTION,
            f"{address} cannot be reached ({error.strerror}); check the address and that it is exporting.",
        ) from error
    assert certificate is not None  # TLS 1.3 has no server without one
    return certificate


def _bind_fault(address: Address) -> PeerError:
    """Explain why the address cannot be bound; gRPC does not tell."""
    why = "the port is in use"
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(place)
    except socket.gaierror:
        return PeerError(
            Code.ADDRESS,
            f"The name {address.host} is not known on this machine; name an address of this machine, such as 0.0.0.0.",
        )
    except OSError as error:
        why = error.strerror or why
    return PeerError(Code.ADDRESS, f"{address} cannot be listened on ({why}); choose another port.")
