"""One source and any number of sites on this machine, with real keys and a real ledger, but with random bytes to send.

The source serves in a process of its own, as `ecan-source export --listen` does.
"""

import contextlib
import hashlib
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path

from protocol.identity.identities import Identity, Role, create_identity
from protocol.identity.key_files import load_server_identity, write_identity
from protocol.ledger.grants import SECONDS_PER_DAY, SealedFacts
from protocol.ledger.store import Ledger
from protocol.statements.receipts import Receipt, Verdict, sign_receipt
from protocol.statements.request import grant_id, open_request, sign_request
from protocol.wire.address import Address, parse_address

PATIENCE_S = 120.0
BLOCK_BYTES = 2**20


@dataclass(frozen=True, kw_only=True)
class Site:
    """A target that asked for something."""

    identity: Identity
    request: bytes

    @property
    def grant(self) -> bytes:
        return grant_id(self.request)

    def receipt(self, facts: SealedFacts) -> bytes:
        """Its word that it accepted what was sent."""
        receipt = Receipt(
            grant=self.grant,
            sealed_sha256=facts.sealed_sha256,
            digest=facts.bundle_sha256,
            weights_sha256=facts.weights_sha256,
            verdict=Verdict.ACCEPTED,
            day=today(),
        )
        return sign_receipt(receipt, self.identity.signing_key)


@dataclass(frozen=True, kw_only=True)
class Source:
    """A source with its keys, its ledger and its outbox in a folder."""

    identity: Identity
    folder: Path

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.folder / "ledger.sqlite")


def new_site() -> Site:
    identity = create_identity(Role.TARGET, datetime.now(UTC))
    return Site(identity=identity, request=sign_request(identity, nonce=os.urandom(32), day=today()))


def new_source(folder: Path) -> Source:
    identity = create_identity(Role.SOURCE, datetime.now(UTC))
    write_identity(identity, folder)
    (folder / "outbox").mkdir()
    Ledger.create(folder / "ledger.sqlite")
    return Source(identity=identity, folder=folder)


def issue(source: Source, site: Site, size: int) -> SealedFacts:
    """Put random bytes for a site into the outbox, as if they were sealed."""
    digest = hashlib.sha256()
    with (source.folder / "outbox" / f"{site.grant.hex()}.sealed").open("wb") as file:
        for start in range(0, size, BLOCK_BYTES):
            block = os.urandom(min(BLOCK_BYTES, size - start))
            digest.update(block)
            file.write(block)
        file.flush()
        os.fsync(file.fileno())  # as the product does, or the ledger would wait for these bytes
    facts = SealedFacts(
        sealed_sha256=digest.digest(), size=size, bundle_sha256=os.urandom(32), weights_sha256=os.urandom(32)
    )
    source.ledger.issue(site.grant, site.identity.fingerprint, bytes(32), lambda release: facts, now_s=int(time.time()))
    return facts


@dataclass
class Served:
    """Where a process listens, and after its end how much memory and processor time it took."""

    address: Address
    peak_mib: float = 0.0
    cpu_s: float = 0.0


@contextlib.contextmanager
def serving(source: Source, sites: Sequence[Site]) -> Iterator[Served]:
    """Serve the grants of some sites in a process of its own."""
    arguments = (source.folder, [site.request for site in sites])
    with process(_serve, *arguments) as served:
        yield served


@contextlib.contextmanager
def process(work: Callable[..., None], *arguments: object) -> Iterator[Served]:
    """Run ``work(pipe, *arguments)``; it sends its address, waits for a word, and sends `costs`."""
    near, far = multiprocessing.Pipe()
    child = multiprocessing.get_context("spawn").Process(target=work, args=(far, *arguments), daemon=True)
    child.start()
    far.close()
    try:
        if not near.poll(PATIENCE_S):
            raise TimeoutError("the source does not listen")
        served = Served(parse_address(near.recv()))
        yield served
        near.send("end")
        if near.poll(PATIENCE_S):
            served.peak_mib, served.cpu_s = near.recv()
    finally:
        near.close()
        child.join(10)
        if child.is_alive():
            child.kill()


def _serve(pipe: Connection, folder: Path, requests: Sequence[bytes]) -> None:
    import threading

    from source_site.release.server import serve

    def announce(sentence: str) -> None:
        if sentence.startswith("listening on "):
            listens(pipe, sentence.split()[2])

    arguments = (
        [grant_id(request) for request in requests],
        [open_request(request) for request in requests],
        Ledger(folder / "ledger.sqlite"),
        load_server_identity(folder),
        folder / "outbox",
        b"",
        Address("127.0.0.1", 0),
    )
    thread = threading.Thread(
        target=serve, args=arguments, kwargs={"announce": announce, "timeout_s": None}, daemon=True
    )
    thread.start()
    with contextlib.suppress(EOFError):
        pipe.recv()
        pipe.send(costs())
    os._exit(0)  # some grants may be open still


_started_cpu_s = 0.0


def listens(pipe: Connection, address: str) -> None:
    """Say where this process listens; from now on its processor time counts."""
    global _started_cpu_s
    _started_cpu_s = time.process_time()
    pipe.send(address)


def peak_mib() -> float:
    """The largest resident memory of this process so far."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def costs() -> tuple[float, float]:
    """The peak memory of this process in MiB and its processor time since it listens, in seconds."""
    return peak_mib(), time.process_time() - _started_cpu_s


def today() -> int:
    return int(time.time()) // SECONDS_PER_DAY
