import contextlib
import os
import socket
import ssl
import subprocess
import sys
import threading

import grpc
import pytest

from protocol.errors import Code, PeerError, TimedOutError
from protocol.identity.identities import Role
from protocol.wire.address import Address
from protocol.wire.channel import pinned_channel, start_server, trusted_certificate
from protocol.wire.service import OPEN, release_handler
from tests.support.calls import calling
from tests.support.loopback import needs_loopback
from tests.support.simulated_source import SimulatedSource
from tests.support.sites import der, new_identity, new_site

pytestmark = needs_loopback

SOURCE, SITE, STRANGER = new_identity(Role.SOURCE), new_site(), new_identity(Role.TARGET)


@pytest.fixture
def source():
    return SimulatedSource(SOURCE, SITE.request, b"bundle")


@pytest.fixture
def silent_listener():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield Address("127.0.0.1", listener.getsockname()[1])


def assert_no_connection(address, pinned, name):
    with (
        pinned_channel(address, SITE.identity, der(pinned), name) as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        channel.unary_unary(OPEN)(b"", timeout=5)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_the_two_sites_of_a_request_reach_each_other(source):
    with source.listening() as address:
        assert trusted_certificate(address, SOURCE.fingerprint, 5) == der(SOURCE)
        with calling(address, SITE, SOURCE) as calls:
            assert calls.open().size == 6


def test_the_source_accepts_no_other_certificate(source):
    with (
        source.listening() as address,
        calling(address, SITE, SOURCE, shown=STRANGER) as calls,
        pytest.raises(PeerError),
    ):
        calls.open()


@pytest.mark.parametrize(("shown", "greeted"), [(SITE.identity, True), (None, False)])
def test_the_source_says_nothing_to_a_client_without_a_certificate(source, tmp_path, shown, greeted):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    if shown:
        (tmp_path / "client.pem").write_bytes(shown.certificate_pem + shown.tls_key_pem)
        context.load_cert_chain(tmp_path / "client.pem")
    with (
        source.listening() as address,
        socket.create_connection((address.host, address.port), 5) as plain,
        context.wrap_socket(plain) as encrypted,
    ):
        assert bool(encrypted.recv(1024)) == greeted  # HTTP/2 settings, or the end


def test_the_sites_of_several_requests_reach_one_source_and_nobody_else_does():
    sites = [new_site(), new_site()]
    certificates = b"".join(site.identity.certificate_pem for site in sites)
    for number, site in enumerate([*sites, new_site()]):
        source = SimulatedSource(SOURCE, site.request, b"bundle")
        with (
            source.listening(client_certificates=certificates) as address,
            calling(address, site, SOURCE) as calls,
            contextlib.nullcontext() if number < 2 else pytest.raises(PeerError),
        ):
            assert calls.open().size == 6


def test_what_speaks_no_tls_hears_nothing_of_us(source):
    with source.listening() as address, socket.create_connection((address.host, address.port), 5) as plain:
        plain.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
        assert b"ecan" not in plain.recv(1024)


def test_a_handshake_that_stands_still_is_ended_after_some_seconds(source):
    with source.listening() as address, socket.create_connection((address.host, address.port), 5) as plain:
        plain.settimeout(6)
        assert plain.recv(1) == b""


def test_the_target_accepts_no_other_source(source):
    other = new_identity(Role.SOURCE)
    with source.listening() as address:
        with pytest.raises(PeerError, match="compare the fingerprints") as caught:
            trusted_certificate(address, other.fingerprint, 5)
        assert caught.value.code is Code.IDENTITY
        assert_no_connection(address, other, other.fingerprint)


def test_a_target_is_no_source_even_if_its_fingerprint_is_trusted():
    impostor = SimulatedSource(STRANGER, SITE.request, b"bundle")
    with impostor.listening() as address, pytest.raises(PeerError, match="is target"):
        trusted_certificate(address, STRANGER.fingerprint, 5)


def test_a_certificate_of_another_kind_is_named_so_that_a_proxy_can_be_found(tmp_path):
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding

    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "proxy.example")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, SOURCE.tls_key.public_key(), 1, now, now + timedelta(days=1))
        .sign(SOURCE.tls_key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )
    (tmp_path / "proxy.pem").write_bytes(certificate + SOURCE.tls_key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "proxy.pem")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lambda: context.wrap_socket(listener.accept()[0], server_side=True).close())
        thread.start()
        with pytest.raises(PeerError, match="proxy") as caught:
            trusted_certificate(Address("127.0.0.1", listener.getsockname()[1]), SOURCE.fingerprint, 5)
        thread.join()
    assert caught.value.code is Code.IDENTITY


def test_a_port_that_nobody_listens_on_is_a_connection_fault(silent_listener):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free = listener.getsockname()[1]
    with pytest.raises(PeerError, match="refused"):
        trusted_certificate(Address("127.0.0.1", free), SOURCE.fingerprint, 5)


def test_a_host_that_does_not_exist_is_a_connection_fault():
    with pytest.raises(PeerError, match="cannot be reached"):
        trusted_certificate(Address("nowhere.invalid", 1), SOURCE.fingerprint, 5)


def test_a_listener_that_says_nothing_times_out(silent_listener):
    with pytest.raises(TimedOutError):
        trusted_certificate(silent_listener, SOURCE.fingerprint, 0.1)


def test_a_listener_that_speaks_something_else_is_a_connection_fault(silent_listener):
    def greet():
        peer, _ = listener.accept()
        peer.sendall(b"220 mail.example ESMTP\r\n" * 10)
        peer.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=greet)
        thread.start()
        with pytest.raises(PeerError):
            trusted_certificate(Address("127.0.0.1", listener.getsockname()[1]), SOURCE.fingerprint, 5)
        thread.join()


class Nothing:
    """A service that is never asked."""

    open = fetch = ack = trust = None


def listen_on(address):
    return start_server(address, SOURCE, SITE.identity.certificate_pem, release_handler(Nothing(), {}))


def test_a_port_in_use_is_named_with_the_reason(source):
    with source.listening() as address, pytest.raises(PeerError, match="already in use") as caught:
        listen_on(address)
    assert caught.value.code is Code.ADDRESS


def test_an_address_of_another_machine_is_named_with_the_reason():
    with pytest.raises(PeerError, match="cannot be listened on"):
        listen_on(Address("192.0.2.1", 0))


def test_a_name_that_nobody_knows_is_named():
    with pytest.raises(PeerError, match=r"The name no-such-host\.invalid is not known on this machine") as caught:
        listen_on(Address("no-such-host.invalid", 7443))
    assert caught.value.code is Code.ADDRESS


def test_roots_of_the_machine_are_never_believed(source, monkeypatch, tmp_path):
    roots = tmp_path / "roots.pem"
    roots.write_bytes(STRANGER.certificate_pem + SOURCE.certificate_pem)
    monkeypatch.setenv("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", str(roots))
    with source.listening() as address:
        assert_no_connection(address, STRANGER, SOURCE.fingerprint)


NOISY = """
import socket
from datetime import UTC, datetime
from protocol.errors import PeerError
from protocol.identity.identities import Role, create_identity
from protocol.wire.address import Address
from protocol.wire.channel import start_server, trusted_certificate
source = create_identity(Role.SOURCE, datetime.now(UTC))
class Nothing:
    open = fetch = ack = trust = None
from protocol.wire.service import release_handler
arguments = (source, source.certificate_pem, release_handler(Nothing(), {}))
server, address = start_server(Address("127.0.0.1", 0), *arguments)
with socket.create_connection((address.host, address.port)) as plain:
    plain.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
    plain.recv(100)
trusted_certificate(address, source.fingerprint, 5)
try:
    start_server(address, *arguments)
except PeerError as fault:
    print(fault)
server.stop(0).wait()
"""


def test_the_library_prints_nothing_of_its_own():
    # Flower, which other tests of this process import, lets gRPC speak; an operator's environment says nothing of it.
    plain = {name: value for name, value in os.environ.items() if name != "GRPC_VERBOSITY"}
    done = subprocess.run([sys.executable, "-c", NOISY], capture_output=True, text=True, check=True, env=plain)
    assert "already in use" in done.stdout
    assert done.stderr == ""


OLDER = """
import socket, ssl, sys
from pathlib import Path
from datetime import UTC, datetime
from protocol.identity.identities import Role, create_identity
from protocol.wire.address import Address
from protocol.wire.channel import start_server
from protocol.wire.service import release_handler
class Nothing:
    open = fetch = ack = trust = None
source, site = create_identity(Role.SOURCE, datetime.now(UTC)), create_identity(Role.TARGET, datetime.now(UTC))
server, address = start_server(Address("127.0.0.1", 0), source, site.certificate_pem, release_handler(Nothing(), {}))
pem = Path(sys.argv[1])
pem.write_bytes(site.certificate_pem + site.tls_key_pem)
for version in (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(pem)
    context.maximum_version = version
    try:
        with socket.create_connection((address.host, address.port), 5) as plain, context.wrap_socket(plain) as peer:
            print(peer.version())
    except OSError:
        print("refused")
server.stop(0).wait()
"""


def test_an_older_tls_than_1_3_has_no_handshake(tmp_path):
    """In a process of its own: the library looks at its settings once, and here it was imported before them."""
    command = [sys.executable, "-c", OLDER, str(tmp_path / "site.pem")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["TLSv1.3", "refused"]
