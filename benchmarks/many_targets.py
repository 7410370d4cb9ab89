"""Whether many targets can fetch at once from one exporter, and how long each of them waits.

The source serves in one process. Every target has its own keys, its own grant and its own connection, and does the
whole exchange with the client of the product: look at the certificate, open, fetch into nothing, trust, hand in the
receipt. All of them begin at the same moment. Appends one JSON line to ``--out``.
"""

import argparse
import hashlib
import statistics
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.exchange import Site, Source, issue, new_site, new_source, serving
from benchmarks.record import RESULTS, record
from protocol.ledger.grants import GrantState, SealedFacts
from protocol.wire.address import Address
from protocol.wire.channel import CALLS_AT_ONCE
from target_site.receiving.client import Deadline, connect


def main() -> None:
    arguments = parse()
    size = int(arguments.size * 2**20)
    sites = [new_site() for _ in range(arguments.targets)]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(arguments.targets) as pool:
        source = new_source(Path(folder) / "source")
        known = [issue(source, site, size) for site in sites]
        start = threading.Barrier(arguments.targets + 1)
        with serving(source, sites) as served:
            targets = [
                pool.submit(receive, source, site, facts, served.address, start, arguments.timeout)
                for site, facts in zip(sites, known, strict=True)
            ]
            start.wait()
            began = time.monotonic()
            faults = [target.exception() for target in targets]
            wall_s = time.monotonic() - began
        closed = sum(entry.state is GrantState.CLOSED for entry in source.ledger.records())
        source.ledger.verify()
        counted = sum(entry.sent_bytes for entry in source.ledger.records())
    waits = sorted(target.result() for target, fault in zip(targets, faults, strict=True) if fault is None)
    row = {
        "targets": arguments.targets,
        "size_mib": arguments.size,
        "calls_at_once": CALLS_AT_ONCE,
        "succeeded": len(waits),
        "closed_in_ledger": closed,
        "faults": sorted({str(fault) for fault in faults if fault is not None}),
        "wall_s": round(wall_s, 2),
        "p50_s": round(statistics.median(waits), 2) if waits else None,
        "p99_s": round(waits[int(0.99 * (len(waits) - 1))], 2) if waits else None,
        "sent_share": round(counted / (size * arguments.targets), 3),
        "peak_source_mib": round(served.peak_mib, 1),
    }
    record(arguments.out, row)
    if len(waits) < arguments.targets:
        raise SystemExit("not every target got its bundle")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", type=int, default=200)
    parser.add_argument("--size", type=float, default=1, help="of each sealed bundle, in MiB")
    parser.add_argument("--timeout", type=float, default=120, help="of each target, in seconds")
    parser.add_argument("--out", type=Path, default=RESULTS / "many_targets.jsonl")
    return parser.parse_args()


def receive(
    source: Source, site: Site, facts: SealedFacts, address: Address, start: threading.Barrier, timeout_s: float
) -> float:
    """Seconds from the common start to this target's acknowledged receipt."""
    start.wait()
    began = time.monotonic()
    options = (site.identity, source.identity.fingerprint, Deadline(timeout_s))
    with connect(address, *options, max_bytes=2**40) as client:
        offer = client.open([site.grant])
        digest = hashlib.sha256()
        for chunk in client.fetch(offer, 0):
            digest.update(chunk)
        assert digest.digest() == facts.sealed_sha256 == offer.digest
        client.trust()
        client.ack(site.receipt(facts), seen=0)
    return time.monotonic() - began


if __name__ == "__main__":
    main()
