"""A tap on the wire: sees in clear what two sites say to each other over mutual TLS.

It holds both sites' TLS keys, which only a test can, and is the real server to one and the real client to the
other: the certificates, and so all pins and proofs, stay those of the sites.
"""

import contextlib
import socket
import ssl
from dataclasses import dataclass, field
from pathlib import Path

import hpack

from protocol.identity.key_files import PUBLIC_FILE, TLS_KEY_FILE
from protocol.wire.address import Address
from tests.support.detour import PATIENCE_S, Detour, shut

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _CONTINUATION = 0x0, 0x1, 0x9
_END_HEADERS, _PADDED, _PRIORITY = 0x4, 0x8, 0x20


@dataclass
class Conversation:
    """What was said over one connection, decrypted."""

    to_source: bytearray = field(default_factory=bytearray)
    to_target: bytearray = field(default_factory=bytearray)


class Tap(Detour):
    """Listens between a target and a source.

    Args:
        source: where the source listens.
        source_keys: the source's keys folder.
        target_keys: the target's keys folder.
    """

    def __init__(self, source: Address, source_keys: Path, target_keys: Path) -> None:
        super().__init__(source)
        self._server = _context(ssl.PROTOCOL_TLS_SERVER, source_keys)
        self._client = _context(ssl.PROTOCOL_TLS_CLIENT, target_keys)
        self.conversations: list[Conversation] = []

    @property
    def to_target(self) -> bytes:
        """Every decrypted byte that the source sent."""
        return b"".join(bytes(one.to_target) for one in self.conversations)

    @property
    def to_source(self) -> bytes:
        """Every decrypted byte that the target sent."""
        return b"".join(bytes(one.to_source) for one in self.conversations)

    def take(self, near: socket.socket) -> None:
        self.start(self._join, near)

    def _join(self, near: socket.socket) -> None:
        with contextlib.suppress(OSError):
            near.settimeout(PATIENCE_S)
            target_end = self._server.wrap_socket(near, server_side=True)
            self.keep(target_end)
            # Only now: the source gives a connection few seconds for its handshake.
            far = socket.create_connection((self._source.host, self._source.port), PATIENCE_S)
            self.keep(far)
            source_end = self._client.wrap_socket(far)
            self.keep(source_end)
            conversation = Conversation()
            self.conversations.append(conversation)
            self.start(_pump, target_end, source_end, conversation.to_source)
            _pump(source_end, target_end, conversation.to_target)


@dataclass(frozen=True)
class Heard:
    """One direction of a conversation, taken apart.

    Attributes:
        headers: every header block, decoded, in order.
        messages: the data of every stream, put together, by stream.
    """

    headers: list[list[tuple[str, str]]]
    messages: dict[int, bytes]


def take_apart(said: bytes) -> Heard:
    """The headers and the messages of one direction of an HTTP/2 connection."""
    said = said.removeprefix(_PREFACE)
    decoder = hpack.Decoder()
    headers: list[list[tuple[str, str]]] = []
    messages: dict[int, bytes] = {}
    block = b""
    while len(said) >= 9:
        length, kind, flags = int.from_bytes(said[:3], "big"), said[3], said[4]
        stream = int.from_bytes(said[5:9], "big") & 0x7FFFFFFF
        payload, said = said[9 : 9 + length], said[9 + length :]
        if flags & _PADDED and kind in (_DATA, _HEADERS):
            payload = payload[1 : len(payload) - payload[0]]
        if kind == _DATA:
            messages[stream] = messages.get(stream, b"") + payload
        elif kind in (_HEADERS, _CONTINUATION):
            if kind == _HEADERS and flags & _PRIORITY:
                payload = payload[5:]
            block += payload
            if flags & _END_HEADERS:
                headers.append([(str(name), str(value)) for name, value in decoder.decode(block)])
                block = b""
    return Heard(headers, messages)


def grpc_messages(data: bytes) -> list[bytes]:
    """The messages of a gRPC stream; none is compressed."""
    messages = []
    while data:
        compressed, length = data[0], int.from_bytes(data[1:5], "big")
        assert compressed == 0
        messages.append(data[5 : 5 + length])
        data = data[5 + length :]
    return messages


def _context(protocol: int, keys_dir: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(keys_dir / PUBLIC_FILE, keys_dir / TLS_KEY_FILE)
    return context


def _pump(near: ssl.SSLSocket, far: ssl.SSLSocket, heard: bytearray) -> None:
    with contextlib.suppress(OSError):
        while data := near.recv(1 << 16):
            heard += data
            far.sendall(data)
    shut(far)
