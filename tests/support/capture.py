"""Every packet of a network namespace, seen from inside: run as a program there, it says in the end what it saw.

It prints one line when it listens, and when its standard input ends a JSON object: for every kind of packet how many
there were, and how many were missed.
"""

import ctypes
import json
import select
import socket
import struct
import sys
from collections import Counter

_ALL = 0x0003
_SOL_PACKET, _STATISTICS, _SO_ATTACH_FILTER = 263, 6, 26
_OUTGOING = 4
_SNAP = 128
_COUNTS = struct.Struct("II")
_FIRST_OF_CONNECTIONS = (
    (0x28, 0, 0, 12),  # ethertype
    (0x15, 0, 6, 0x0800),  # not IPv4: take
    (0x30, 0, 0, 23),  # protocol
    (0x15, 0, 4, socket.IPPROTO_TCP),  # not TCP: take
    (0xB1, 0, 0, 14),  # length of the header
    (0x50, 0, 0, 27),  # flags
    (0x54, 0, 0, 0x12),  # SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN alone: take
    (0x06, 0, 0, 0xFFFF),
    (0x06, 0, 0, 0),
)
"""A filter for loopback (classic BPF), where a federation sends more than can be looked at."""


def main() -> None:
    sockets = [listening(name) for name in sys.argv[1:]]
    print("there", flush=True)
    seen, is_over = Counter[str](), False
    while True:
        ready, _, _ = select.select([sys.stdin, *sockets] if not is_over else sockets, [], [], 0.5)
        if is_over and not ready:
            break
        for one in ready:
            if one is sys.stdin:
                is_over = True
            elif (kind := kind_of(*one.recvfrom(_SNAP))) is not None:
                seen[kind] += 1
    missed = sum(_COUNTS.unpack(one.getsockopt(_SOL_PACKET, _STATISTICS, _COUNTS.size))[1] for one in sockets)
    print(json.dumps({"seen": seen, "missed": missed}))


def listening(interface: str) -> socket.socket:
    one = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)  # deaf until it is bound
    if interface == "lo":
        program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in _FIRST_OF_CONNECTIONS))
        length, place = len(_FIRST_OF_CONNECTIONS), ctypes.addressof(program)
        one.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", length, place))
    one.bind((interface, _ALL))
    return one


def kind_of(frame: bytes, place: tuple) -> str | None:
    """An interface and what a packet is; each packet of loopback once."""
    interface, _, direction = place[:3]
    if interface == "lo" and direction == _OUTGOING:
        return None
    if frame[12:14] != b"\x08\x00":
        return f"{interface} ethertype {frame[12:14].hex()}"
    start = 14 + 4 * (frame[14] & 0xF)
    protocol, to = frame[23], socket.inet_ntoa(frame[30:34])
    port = struct.unpack_from("!H", frame, start + 2)[0] if protocol in (socket.IPPROTO_TCP, socket.IPPROTO_UDP) else 0
    return f"{interface} {protocol} {to}:{port}"


if __name__ == "__main__":
    main()
