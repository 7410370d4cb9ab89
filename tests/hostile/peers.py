"""Peers that misbehave, and the real exporter process that they meet: raw TLS, raw HTTP/2, forged certificates."""

import contextlib
import hashlib
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote

import grpc
import hpack
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from protocol.bundle.frame import split
from protocol.errors import Code
from protocol.identity.identities import Identity, Role
from protocol.identity.key_files import load_identity
from protocol.ledger.grants import QUOTA_FACTOR, GrantRecord, SealedFacts
from protocol.statements.receipts import Receipt, Verdict, sign_receipt
from protocol.statements.request import sign_request
from protocol.wire.address import Address
from protocol.wire.chunks import CHUNK_BYTES
from protocol.wire.codec import encode
from protocol.wire.ecan.v1.release_pb2 import Offer, OpenRequest
from protocol.wire.service import SERVICE
from protocol.wire.status import PUBLIC_FAULTS
from source_site.keys.folder import init_keys, open_ledger, outbox_file
from source_site.release.outbox import request_file
from target_site.receiving.client import Deadline, connect
from tests.support.calls import Calls, calling
from tests.support.loopback import require_loopback
from tests.support.simulated_source import SimulatedSource
from tests.support.sites import Site, new_identity

PATIENCE_S = 20.0
MAX_HONEST_S = 2.0
"""How long an honest delivery may take while somebody attacks, on a machine that runs other tests as well."""
MARKER = "zq7attacker"
"""Stands in whatever an attacker may write; nobody else may ever show it."""

SMALL_BYTES = 100
LARGE_BYTES = 2 * CHUNK_BYTES + 100

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS = 0x1, 0x1, 0x4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

_LISTENING = re.compile(r"listening on 127\.0\.0\.1:(\d+)")


def public(code: Code) -> tuple[grpc.StatusCode, str]:
    """The status and the sentence with which a fault crosses."""
    fault = PUBLIC_FAULTS[code]
    return fault.status, fault.sentence


class House:
    """A source that exports: its keys, a stock of open grants, and the exporter as a process of its own.

    Args:
        folder: an empty folder.
        stock: open grants by who has them: how many, and of how many bytes each.
    """

    def __init__(self, folder: Path, stock: Mapping[str, tuple[int, int]]) -> None:
        require_loopback()
        self.folder = folder
        self.keys = folder / "keys"
        init_keys(self.keys)
        self.source = load_identity(self.keys)
        self.identities = {who: new_identity(Role.TARGET) for who in stock}
        self.data: dict[bytes, bytes] = {}
        self.ledger = open_ledger(self.keys)
        self._stock = {
            who: [self.issue(self.identities[who], os.urandom(size)) for _ in range(number)]
            for who, (number, size) in stock.items()
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._messages = folder / "messages"

    def issue(self, identity: Identity, data: bytes) -> Site:
        """Another open grant; an exporter knows it from its next start on."""
        return self.issue_request(
            Site(identity=identity, request=sign_request(identity, nonce=os.urandom(32), day=today())), data
        )

    def issue_request(self, site: Site, data: bytes, plain: bytes | None = None) -> Site:
        """Grant a request; what is inside the sealed bytes is made up unless it is given."""
        known = facts(data)
        if plain is not None:
            weights = hashlib.sha256(split(plain).weights).digest()
            known = replace(known, bundle_sha256=hashlib.sha256(plain).digest(), weights_sha256=weights)
        outbox_file(self.keys, site.grant).write_bytes(data)
        request_file(self.keys, site.grant).write_bytes(site.request)
        audience = site.identity.fingerprint
        self.ledger.issue(site.grant, audience, b"m" * 32, lambda _: known, now_s=int(time.time()))
        self.data[site.grant] = data
        return site

    def fresh(self, who: str) -> Site:
        """A grant that nobody has asked for yet."""
        return self._stock[who].pop()

    def untouched(self, who: str) -> Site:
        """A grant that nobody has asked for yet, and that is not asked for now either."""
        return self._stock[who][-1]

    def start(self) -> None:
        script = Path(sysconfig.get_path("scripts")) / "ecan-source"
        words = ["export", "--keys", self.keys, "--listen", "127.0.0.1:0"]
        with self._messages.open("wb") as messages:
            self._process = subprocess.Popen(
                [sys.executable, script, *words],
                stdout=subprocess.DEVNULL,
                stderr=messages,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        found = wait_for(lambda: _LISTENING.search(self.said()) or self._process.poll())
        assert isinstance(found, re.Match), self.said()
        self.address = Address("127.0.0.1", int(found[1]))

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(PATIENCE_S)
            finally:
                self._process.kill()
                self._process.wait()
            self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def said(self) -> str:
        """What the exporter has written so far."""
        return self._messages.read_text(errors="replace") if self._messages.exists() else ""

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def record(self, site: Site) -> GrantRecord:
        found = self.ledger.find(site.grant)
        assert found is not None
        return found

    def deny(self, site: Site) -> None:
        self.ledger.deny(site.grant, now_s=int(time.time()))

    @contextlib.contextmanager
    def calling(self, site: Site) -> Iterator[Calls]:
        """Connect as an honest library does."""
        with calling(self.address, site, self.source) as calls:
            yield calls

    def receipt(self, site: Site, *, signer: Identity | None = None, **changes: object) -> bytes:
        """A site's word on its bundle, or a lie about it."""
        known = facts(self.data[site.grant])
        said: dict[str, object] = {
            "grant": site.grant,
            "sealed_sha256": known.sealed_sha256,
            "digest": known.bundle_sha256,
            "weights_sha256": known.weights_sha256,
            "verdict": Verdict.ACCEPTED,
            "day": today(),
        }
        return sign_receipt(Receipt(**(said | changes)), (signer or site.identity).signing_key)

    def digest(self, site: Site) -> bytes:
        return facts(self.data[site.grant]).sealed_sha256

    def deliver(self, site: Site, timeout_s: float = PATIENCE_S) -> float:
        """Fetch and acknowledge as an honest site does; how many seconds it took."""
        started = time.monotonic()
        with connect(self.address, site.identity, self.source.fingerprint, Deadline(timeout_s)) as client:
            data = b"".join(map(bytes, client.fetch(client.open([site.grant]), 0)))
            client.ack(self.receipt(site), seen=0)
        assert data == self.data[site.grant]
        return time.monotonic() - started

    def is_sound(self) -> None:
        """What must hold whatever an attacker has done: it lives, serves others soon, and its books are right."""
        assert self.is_alive, self.said()
        assert self.deliver(self.fresh("honest")) < MAX_HONEST_S
        self.ledger.verify()
        assert all(one.sent_bytes <= QUOTA_FACTOR * one.size for one in self.ledger.records())
        assert "Traceback" not in self.said()
        assert MARKER not in self.said()

    def http2(self, shown: "Credentials | Identity | None" = None, **options: object) -> "Http2":
        """A raw connection as the one who misbehaves, or as somebody else."""
        shown = shown or self.identities["mallory"]
        credentials = shown if isinstance(shown, Credentials) else Credentials.of(shown)
        return Http2(self.address, credentials, self.folder, **options)


def facts(data: bytes) -> SealedFacts:
    """What the ledger knows of sealed bytes; what is inside is made up, and the exporter cannot look."""
    return SealedFacts(
        sealed_sha256=hashlib.sha256(data).digest(),
        size=len(data),
        bundle_sha256=hashlib.sha256(b"bundle" + data).digest(),
        weights_sha256=hashlib.sha256(b"weights" + data).digest(),
    )


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """What a client shows: a certificate and its key, PEM; nothing if it shows none."""

    certificate: bytes = b""
    key: bytes = field(default=b"", repr=False)

    @classmethod
    def of(cls, identity: Identity) -> "Credentials":
        return cls(certificate=identity.certificate_pem, key=identity.tls_key_pem)


NOBODY = Credentials()


def forged(
    model: Identity,
    *,
    key: ec.EllipticCurvePrivateKey | None = None,
    issuer: Identity | None = None,
    uris: Sequence[str] | None = None,
    days: tuple[int, int] = (-1, 3650),
    usage: x509.ObjectIdentifier | None = None,
    authority: bool = False,
    endorsed: bool = True,
    subject: str | None = None,
) -> Credentials:
    """A certificate that resembles that of a site.

    Args:
        model: the site; what is not changed below is taken over from it.
        key: the certificate's key, if not the site's.
        issuer: whose TLS key signs it, if not its own.
        uris: names instead of the site's SPIFFE id.
        days: when it is valid, from today.
        usage: the only use that it allows.
        authority: whether it says that it may issue others.
        endorsed: whether it carries the site's endorsement.
        subject: another common name.
    """
    key = key or model.tls_key
    real = model.certificate
    names = real.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    if uris is not None:
        dns = [x509.DNSName(name) for name in names.get_values_for_type(x509.DNSName)]
        names = x509.SubjectAlternativeName([*dns, *map(x509.UniformResourceIdentifier, uris)])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]) if subject else real.subject
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=days[0]))
        .not_valid_after(now + timedelta(days=days[1]))
    )
    if uris is None or uris:
        builder = builder.add_extension(names, critical=False)
    if endorsed:
        builder = builder.add_extension(real.extensions[-1].value, critical=False)
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    if authority:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    certificate = builder.sign(key if issuer is None else issuer.tls_key, hashes.SHA256())
    return Credentials(
        certificate=certificate.public_bytes(Encoding.PEM),
        key=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )


SERVER_ONLY = ExtendedKeyUsageOID.SERVER_AUTH


def tls(
    address: Address,
    credentials: Credentials,
    folder: Path,
    *,
    version: ssl.TLSVersion | None = None,
    protocols: Sequence[str] = ("h2",),
) -> ssl.SSLSocket:
    """A TLS connection that believes any server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(list(protocols))
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if credentials.certificate:
        shown = folder / f"shown-{os.urandom(4).hex()}.pem"
        shown.write_bytes(credentials.certificate + credentials.key)
        context.load_cert_chain(shown)
        shown.unlink()
    plain = socket.create_connection((address.host, address.port), PATIENCE_S)
    try:
        return context.wrap_socket(plain)
    except BaseException:
        plain.close()
        raise


@dataclass
class Heard:
    """What came back on one stream.

    Attributes:
        status: the gRPC status, None if there was none.
        sentence: the text with it.
        http: the HTTP status.
        data: the message bytes.
        reset: error code with which the stream was reset.
        over: whether the stream ended in an orderly way.
    """

    status: grpc.StatusCode | None = None
    sentence: str = ""
    http: str = ""
    data: bytearray = field(default_factory=bytearray)
    reset: int | None = None
    over: bool = False

    @property
    def fault(self) -> tuple[grpc.StatusCode | None, str]:
        return self.status, self.sentence


class Http2:
    """An HTTP/2 connection that sends any frame in any order.

    Args:
        address: where to.
        credentials: what is shown.
        folder: where they may be written for a moment.
        window: bytes that the peer may send on a stream before it is told more.
        more: `tls`'s options.
    """

    def __init__(
        self, address: Address, credentials: Credentials, folder: Path, *, window: int | None = None, **more: object
    ) -> None:
        self.socket = tls(address, credentials, folder, **more)
        self._encoder, self._decoder = hpack.Encoder(), hpack.Decoder()
        self._received = b""
        self.streams: dict[int, Heard] = {}
        self.went_away: int | None = None
        self.closed = False
        self.frames = 0
        settings = b"" if window is None else b"\x00\x04" + window.to_bytes(4, "big")
        self.send(PREFACE, frame(SETTINGS, payload=settings))

    def __enter__(self) -> "Http2":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *frames: bytes) -> None:
        """Send frames; an end that is closed is noted and no error."""
        try:
            self.socket.sendall(b"".join(frames))
        except OSError:
            self.closed = True

    def headers(self, path: str, changes: Mapping[str, str | None] | None = None) -> bytes:
        """A header block as gRPC's own; a change of None leaves a header out."""
        usual = {
            ":method": "POST",
            ":scheme": "https",
            ":path": path,
            ":authority": "source",
            "te": "trailers",
            "content-type": "application/grpc",
            "user-agent": "grpc-python/1.0",
            "grpc-timeout": "10S",
        }
        wanted = {name: value for name, value in (usual | dict(changes or {})).items() if value is not None}
        return bytes(self._encoder.encode(wanted.items(), huffman=False))

    def call(
        self,
        method: str,
        message: bytes = b"",
        *,
        stream: int = 1,
        headers: Mapping[str, str | None] | None = None,
        framed: bytes | None = None,
        wait: bool = True,
        timeout_s: float = PATIENCE_S,
    ) -> Heard:
        """One gRPC call.

        Args:
            method: its path, or the name of one of ours.
            message: what is sent.
            stream: number of the stream, odd and rising.
            headers: changes of the headers.
            framed: the bytes that cross instead of the message with gRPC's five bytes in front.
            wait: whether to wait for the answer.
            timeout_s: for how long.
        """
        path = method if method.startswith("/") else f"/{SERVICE}/{method}"
        body = b"\0" + len(message).to_bytes(4, "big") + message if framed is None else framed
        parts = [frame(HEADERS, END_HEADERS, stream, self.headers(path, headers))]
        pieces = [body[start : start + 16384] for start in range(0, len(body), 16384)] or [b""]
        parts += [frame(DATA, 0, stream, piece) for piece in pieces[:-1]]
        parts += [frame(DATA, END_STREAM if wait or framed is None else 0, stream, pieces[-1])]
        self.send(*parts)
        heard = self.streams.setdefault(stream, Heard())
        if wait:
            self.listen(lambda: heard.over or heard.reset is not None, timeout_s)
        return heard

    def listen(self, until: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
        """Take in frames until something holds, the peer closes, or the time is up."""
        end = time.monotonic() + timeout_s
        while not until() and not self.closed and (left := end - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                data = self.socket.recv(1 << 16)
            except TimeoutError:
                return
            except OSError:
                data = b""
            if not data:
                self.closed = True
            self._received += data
            self._take_apart()

    def _take_apart(self) -> None:
        while len(self._received) >= 9:
            length = int.from_bytes(self._received[:3], "big")
            if len(self._received) < 9 + length:
                return
            kind, flags = self._received[3], self._received[4]
            stream = int.from_bytes(self._received[5:9], "big") & 0x7FFFFFFF
            payload, self._received = self._received[9 : 9 + length], self._received[9 + length :]
            self.frames += 1
            self._take(kind, flags, self.streams.setdefault(stream, Heard()), payload)

    def _take(self, kind: int, flags: int, heard: Heard, payload: bytes) -> None:
        if kind == SETTINGS and not flags & ACK:
            self.send(frame(SETTINGS, ACK))
        elif kind == PING and not flags & ACK:
            self.send(frame(PING, ACK, 0, payload))
        elif kind == GOAWAY:
            self.went_away = int.from_bytes(payload[4:8], "big")
        elif kind == RST_STREAM:
            heard.reset = int.from_bytes(payload, "big")
        elif kind == DATA:
            heard.data += payload
        elif kind == HEADERS:
            said = dict(self._decoder.decode(payload))
            heard.http = said.get(":status", heard.http)
            if "grpc-status" in said:
                number = int(said["grpc-status"])
                heard.status = next(code for code in grpc.StatusCode if code.value[0] == number)
                heard.sentence = unquote(said.get("grpc-message", ""))
        if kind in (DATA, HEADERS) and flags & END_STREAM:
            heard.over = True


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """One HTTP/2 frame."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


class Impostor:
    """Whoever listens where the source should be; takes note of what it is told.

    Args:
        folder: where its keys may lie for a moment.
        shown: its certificate and key; None speaks no TLS.
        says: what it says at once.
        patience_s: how long it listens.
    """

    def __init__(self, folder: Path, shown: Credentials | None, says: bytes = b"", patience_s: float = 1.0) -> None:
        self.heard = b""
        self._says, self._patience_s = says, patience_s
        self._context = None
        if shown is not None:
            path = folder / "impostor.pem"
            path.write_bytes(shown.certificate + shown.key)
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(path)
            self._context.set_alpn_protocols(["h2"])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = Address("127.0.0.1", self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> "Impostor":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._listener.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._meet(self._listener.accept()[0])

    def _meet(self, peer: socket.socket) -> None:
        with peer, contextlib.suppress(OSError):
            peer.settimeout(self._patience_s)
            if self._context is not None:
                peer = self._context.wrap_socket(peer, server_side=True)
            peer.sendall(self._says)
            while data := peer.recv(4096):
                self.heard += data
        peer.close()


def tampered(envelope: bytes) -> bytes:
    """A signed envelope with another signature: one letter of its last few, which all count."""
    return envelope[:-8] + (b"B" if envelope[-8:-7] == b"A" else b"A") + envelope[-7:]


def wait_for(condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> object:
    """Wait until something is true; what it is."""
    end = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < end, "nothing happens"
        time.sleep(0.02)
    return found


def today() -> int:
    return int(time.time()) // 86_400


@contextlib.contextmanager
def raw_source(
    source: SimulatedSource,
    site: Site,
    answers: Mapping[str, Callable[[bytes, grpc.ServicerContext], bytes | Iterator[bytes]]],
    **options: object,
) -> Iterator[Address]:
    """A source behind the right certificate that answers some methods with any bytes, and the others as it should.

    Args:
        source: the honest one whose other methods are used.
        site: who may connect.
        answers: by method; that of Fetch gives the messages.
        options: of `grpc.server`.
    """

    def usual(method: str) -> Callable[[bytes, grpc.ServicerContext], bytes]:
        plain = {"Open": lambda data: source.open(OpenRequest.FromString(data)), "Trust": source.trust}
        return lambda data, context: encode(plain[method](data))

    def fetch(data: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        return iter([])

    handlers = {
        **{name: grpc.unary_unary_rpc_method_handler(answers.get(name, usual(name))) for name in ("Open", "Trust")},
        "Fetch": grpc.unary_stream_rpc_method_handler(answers.get("Fetch", fetch)),
    }
    server = grpc.server(
        ThreadPoolExecutor(2), handlers=[grpc.method_handlers_generic_handler(SERVICE, handlers)], **options
    )
    credentials = grpc.ssl_server_credentials(
        [(source.identity.tls_key_pem, source.identity.certificate_pem)],
        site.identity.certificate_pem,
        require_client_auth=True,
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        yield Address("127.0.0.1", port)
    finally:
        server.stop(0).wait()


def offer_bytes(source: SimulatedSource, request: bytes) -> bytes:
    """The honest answer to an Open message."""
    offer: Offer = source.open(OpenRequest.FromString(request))
    return encode(offer)
