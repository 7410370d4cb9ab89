"""Whether somebody who opens many connections and never finishes the TLS handshake keeps honest targets away.

Opens them on the loopback only, to a source of its own in another process, bounded in number and in time; some send
nothing, some the beginning of a greeting. Measures honest calls, each over a connection of its own, beside them, and
how long it takes until the source has ended all of them. Appends one JSON line to ``--out``.
"""

import argparse
import contextlib
import resource
import selectors
import socket
import tempfile
import time
from pathlib import Path

from benchmarks.exchange import Site, Source, issue, new_site, new_source, serving
from benchmarks.record import RESULTS, record
from protocol.wire.address import Address
from target_site.receiving.client import Deadline, connect

MOST_CONNECTIONS = 2000
PATIENCE_S = 15.0
HONEST_CALLS = 10
GREETING = bytes.fromhex("16030100f8010000f40303")  # a TLS record that never ends


def main() -> None:
    arguments = parse()
    number = min(arguments.connections, MOST_CONNECTIONS)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        source, site = new_source(Path(folder) / "source"), new_site()
        issue(source, site, 2**20)
        with serving(source, [site]) as served:
            alone = [honest_call(source, site, served.address) for _ in range(HONEST_CALLS)]
            began = time.monotonic()
            open_ones = {
                stack.enter_context(half_open(served.address, index)): time.monotonic() for index in range(number)
            }
            opened_s = time.monotonic() - began
            beside = [honest_call(source, site, served.address) for _ in range(HONEST_CALLS)]
            left, last_s = wait_for_ends(open_ones)
            after = honest_call(source, site, served.address)
    row = {
        "half_open": number,
        "opened_in_s": round(opened_s, 2),
        "honest_call_alone_max_s": round(max(alone), 3),
        "honest_call_beside_max_s": round(max(beside), 3),
        "honest_call_after_s": round(after, 3),
        "still_open": left,
        "last_ended_after_s": round(last_s, 2),
    }
    record(arguments.out, row)
    if max(beside) >= 1 or left or last_s >= 5:
        raise SystemExit("half-open connections do harm")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=RESULTS / "half_open.jsonl")
    return parser.parse_args()


def half_open(address: Address, index: int) -> socket.socket:
    """A connection that stands still in its handshake: before it, or in the middle of its first message."""
    plain = socket.create_connection((address.host, address.port), PATIENCE_S)
    if index % 2:
        plain.sendall(GREETING)
    return plain


def honest_call(source: Source, site: Site, address: Address) -> float:
    """Seconds from nothing to the source's offer and its list of revocations."""
    began = time.monotonic()
    options = (site.identity, source.identity.fingerprint, Deadline(PATIENCE_S))
    with connect(address, *options, max_bytes=2**40) as client:
        client.open([site.grant])
        client.trust()
    return time.monotonic() - began


def wait_for_ends(connections: dict[socket.socket, float]) -> tuple[int, float]:
    """How many the source has not ended in time, and how long the last one that it ended was open, in seconds.

    Args:
        connections: when each was opened.
    """
    end = time.monotonic() + PATIENCE_S
    longest_s = 0.0
    with selectors.DefaultSelector() as selector:
        for plain in connections:
            selector.register(plain, selectors.EVENT_READ)
        while selector.get_map() and time.monotonic() < end:
            for key, _ in selector.select(0.1):
                readable = key.fileobj
                if isinstance(readable, socket.socket) and _has_ended(readable):
                    selector.unregister(readable)
                    longest_s = max(longest_s, time.monotonic() - connections[readable])
        return len(selector.get_map()), longest_s


def _has_ended(plain: socket.socket) -> bool:
    try:
        return plain.recv(4096) == b""
    except OSError:
        return True


if __name__ == "__main__":
    main()
