"""Flip every single bit of a default bundle and ask the verifier each time: none may be accepted.

Each process flips the bits of its share in one buffer and back again; what refuses is `trust.verify` itself, as any
target calls it. The result is appended as one JSON line.
"""

import argparse
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat

from benchmarks.record import RESULTS, record
from protocol.bundle import trust
from protocol.errors import ProtocolError
from tests.protocol.samples import ANCHOR, sealed

CHUNKS = 200


def try_share(first: int, step: int) -> Counter[str]:
    """Try every ``step``-th bit from ``first`` on; counts the codes of the refusals."""
    data = bytearray(sealed())
    verdicts = Counter[str]()
    for bit in range(first, 8 * len(data), step):
        data[bit // 8] ^= 1 << bit % 8
        try:
            trust.verify(data, ANCHOR)
            verdicts["ACCEPTED"] += 1
        except ProtocolError as refusal:
            verdicts[refusal.code] += 1
        data[bit // 8] ^= 1 << bit % 8
    trust.verify(data, ANCHOR)  # the buffer is whole again, so nothing else was refused above
    return verdicts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    started = time.perf_counter()
    verdicts = Counter[str]()
    with ProcessPoolExecutor(options.processes) as pool:
        for share in pool.map(try_share, range(CHUNKS), repeat(CHUNKS)):
            verdicts += share
    row = {
        "bundle_bytes": len(sealed()),
        "bits_flipped": verdicts.total(),
        "accepted": verdicts["ACCEPTED"],
        "refused_by_code": dict(verdicts.most_common()),
        "wall_s": round(time.perf_counter() - started, 1),
        "processes": options.processes,
    }
    assert row["bits_flipped"] == 8 * len(sealed())
    record(RESULTS / "bit_flips.jsonl", row)


if __name__ == "__main__":
    main()
