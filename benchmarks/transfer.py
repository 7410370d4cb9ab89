"""How fast a sealed bundle crosses, beside the fastest that grpcio can send the same bytes.

Both run over mutual TLS with chunks of 64 KiB, the source in one process and the target in another, taking turns:
first a bare stream of constant bytes, then the real service with its ledger, limits and checks, read once into
nothing and once into a file. Appends one JSON line to ``--out``.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import grpc

from benchmarks.exchange import (
    Site,
    Source,
    costs,
    issue,
    listens,
    new_site,
    new_source,
    peak_mib,
    process,
    serving,
)
from benchmarks.record import RESULTS, record
from protocol.identity.identities import server_name
from protocol.wire.address import Address
from protocol.wire.chunks import CHUNK_BYTES
from target_site.receiving.client import Deadline, connect
from target_site.receiving.partial import PartialDownload

METHOD = "/bare.Stream/Fetch"
TIMEOUT_S = 600.0


def main() -> None:
    arguments = parse()
    size = int(arguments.size * 2**20)
    rounds: dict[str, list[Took]] = {"bare": [], "service": [], "into_file": []}
    with tempfile.TemporaryDirectory() as folder:
        source = new_source(Path(folder) / "source")
        peak_source = 0.0
        for number in range(arguments.rounds):
            site = new_site()
            issue(source, site, size)
            out = Path(folder) / "target" / "model.ecan"
            out.parent.mkdir()
            # Turn about, so that neither always comes first.
            ways = [("bare", None), ("service", None)]
            for name, place in [*ways[:: -1 if number % 2 else 1], ("into_file", out)]:
                if name == "bare":
                    rounds[name].append(bare(source, site, size))
                    continue
                with serving(source, [site]) as served:
                    seconds, target_cpu_s = fetch(source, site, served.address, place)
                rounds[name].append(Took(seconds, served.cpu_s + target_cpu_s))
                peak_source = max(peak_source, served.peak_mib)
            shutil.rmtree(out.parent)
            (source.folder / "outbox" / f"{site.grant.hex()}.sealed").unlink()
    rates = {name: [size / 2**20 / took.wall_s for took in times] for name, times in rounds.items()}
    shares = [ours / theirs for ours, theirs in zip(rates["service"], rates["bare"], strict=True)]
    row = {
        "size_mib": arguments.size,
        "rounds": arguments.rounds,
        **{f"{name}_mib_per_s": [round(rate, 1) for rate in values] for name, values in rates.items()},
        "share_of_bare": round(statistics.median(shares), 3),
        "share_of_bare_best": round(max(rates["service"]) / max(rates["bare"]), 3),
        "shares": [round(share, 3) for share in shares],
        **{
            f"{name}_cpu_s_per_gib": round(min(took.cpu_s for took in times) * 2**30 / size, 2)
            for name, times in rounds.items()
        },
        "peak_source_mib": round(peak_source, 1),
        "peak_target_mib": round(peak_mib(), 1),
        "load": round(os.getloadavg()[0], 1),
    }
    record(arguments.out, row)


@dataclass(frozen=True)
class Took:
    """What a transfer took: wall time, and processor time of both ends."""

    wall_s: float
    cpu_s: float


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=float, default=1024, help="of the sealed bundle, in MiB")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS / "transfer.jsonl")
    return parser.parse_args()


def fetch(source: Source, site: Site, address: Address, out: Path | None) -> tuple[float, float]:
    """Wall and processor seconds of the target from the request to the last byte, over the real service."""
    deadline = Deadline(TIMEOUT_S)
    with connect(address, site.identity, source.identity.fingerprint, deadline, max_bytes=2**40) as client:
        offer = client.open([site.grant])
        started, cpu = time.monotonic(), time.process_time()
        if out is None:
            assert sum(map(len, client.fetch(offer, 0))) == offer.size
        else:
            partial = PartialDownload(out)
            partial.append(client.fetch(offer, partial.resume(offer)))
        return time.monotonic() - started, time.process_time() - cpu


def bare(source: Source, site: Site, size: int) -> Took:
    """What the same number of bytes takes with nothing around gRPC."""
    arguments = (source.identity.tls_key_pem, source.identity.certificate_pem, site.identity.certificate_pem, size)
    with process(serve_bare, *arguments) as served:
        credentials = grpc.ssl_channel_credentials(
            source.identity.certificate_pem, site.identity.tls_key_pem, site.identity.certificate_pem
        )
        options = [("grpc.ssl_target_name_override", server_name(source.identity.fingerprint))]
        with grpc.secure_channel(str(served.address), credentials, options) as channel:
            grpc.channel_ready_future(channel).result(10)
            started, cpu = time.monotonic(), time.process_time()
            chunks: Iterable[bytes] = channel.unary_stream(METHOD, None, None)(b"", timeout=TIMEOUT_S)
            assert sum(map(len, chunks)) == size
            wall_s, cpu_s = time.monotonic() - started, time.process_time() - cpu
    return Took(wall_s, cpu_s + served.cpu_s)


def serve_bare(pipe: Connection, key: bytes, certificate: bytes, client_certificate: bytes, size: int) -> None:
    chunk = bytes(range(256)) * (CHUNK_BYTES // 256)

    def stream(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        for _ in range(size // CHUNK_BYTES):
            yield chunk

    service, method = METHOD.strip("/").split("/")
    handlers = grpc.method_handlers_generic_handler(service, {method: grpc.unary_stream_rpc_method_handler(stream)})
    server = grpc.server(ThreadPoolExecutor(8), handlers=[handlers])
    credentials = grpc.ssl_server_credentials([(key, certificate)], client_certificate, require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    listens(pipe, f"127.0.0.1:{port}")
    pipe.recv()
    server.stop(0).wait()
    pipe.send(costs())


if __name__ == "__main__":
    main()
