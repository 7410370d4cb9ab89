"""Kill both sites at random while a bundle crosses, again and again, and see that "once" holds.

The exporter and `ecan-target receive` run as real processes over mutual TLS on loopback and get SIGKILL at random
moments, half of them aimed at the transfer itself; each starts again until its grant is closed. After every kill the
ledger's hash chain is verified. In the end every grant has had one sealed digest, one receipt, one bundle.
"""

import argparse
import hashlib
import io
import multiprocessing
import os
import random
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

from benchmarks.crossing import Keys, make_keys, source, target
from benchmarks.record import RESULTS, record
from benchmarks.synthetic_speech.synthetic import write_corpus
from protocol.ledger.grants import GrantRecord, GrantState
from protocol.statements.request import grant_id
from source_site.keys.folder import open_ledger, outbox_file

KILLS_PER_GRANT = (3, 9)
LONGEST_LIFE_S = 0.5
PATIENCE_S = 60.0
EXPECTED_ENDINGS = {0, 4, 11, -signal.SIGKILL}
"""Done; the other end is gone; closed meanwhile; killed."""

_forkserver = multiprocessing.get_context("forkserver")
_forkserver.set_forkserver_preload(
    ["source_site.release.exporter", "target_site.commands.bundle", "target_site.receiving.receive"]
)


@dataclass
class Tally:
    """What was seen.

    Attributes:
        kills: SIGKILLs by victim.
        endings: exit codes of the processes that ended by themselves.
        digests: the sealed digests seen for each grant: in the ledger and in the outbox.
    """

    kills: Counter[str] = field(default_factory=Counter)
    endings: Counter[int] = field(default_factory=Counter)
    digests: dict[bytes, set[bytes]] = field(default_factory=dict)


@dataclass
class Side:
    """One of the two programs, started again whenever it has ended."""

    name: str
    log: Path
    start: Callable[[], BaseProcess]
    process: BaseProcess | None = None

    def keep_alive(self, tally: Tally) -> BaseProcess:
        if self.process is None or not self.process.is_alive():
            self.note_ending(tally)
            self.process = self.start()
        return self.process

    def note_ending(self, tally: Tally) -> None:
        if self.process is not None:
            self.process.join(PATIENCE_S)
            code = self.process.exitcode
            if code not in EXPECTED_ENDINGS:
                raise AssertionError(f"the {self.name} ended with {code}: {self.log.read_text()[-500:]}")
            tally.endings[code] += 1
            self.process = None

    def kill(self, tally: Tally) -> None:
        if self.process is not None and self.process.is_alive():
            self.process.kill()
            tally.kills[self.name] += 1
            self.note_ending(tally)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS / "kill_loop.jsonl")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        line = kill_loop(Path(folder), arguments.kills, arguments.seed)
    record(arguments.out, line)


def kill_loop(work: Path, kills: int, seed: int) -> dict[str, object]:
    """Run the loop and judge it.

    Args:
        work: an empty folder.
        kills: how many SIGKILLs at least.
        seed: of the moments and the victims.

    Raises:
        AssertionError: a grant got two digests, was lost, or the ledger does not hold.
    """
    rng, tally, started = random.Random(seed), Tally(), time.monotonic()
    keys, run = make_keys(work), train_something(work)
    number = 0
    while tally.kills.total() < kills:
        cross_once(work, keys, run, number, rng, tally)
        number += 1
    rows = open_ledger(keys.source).records()
    head = open_ledger(keys.source).verify()
    line = {
        "benchmark": "kill_loop",
        "seed": seed,
        "kills": dict(tally.kills),
        "grants": number,
        "grants_with_two_digests": sum(len(seen) > 1 for seen in tally.digests.values()),
        "grants_lost": sum(row.state is not GrantState.CLOSED for row in rows),
        "ledger_lines": head.seq,
        "endings": {str(code): count for code, count in sorted(tally.endings.items())},
        "seconds": round(time.monotonic() - started, 1),
    }
    assert len(rows) == number == len(tally.digests)
    assert line["grants_with_two_digests"] == line["grants_lost"] == 0, line
    return line


def cross_once(work: Path, keys: Keys, run: Path, number: int, rng: random.Random, tally: Tally) -> None:
    """One grant from its request to its receipt, with a few kills on the way."""
    request, out = work / f"{number}.request", work / f"{number}.ecan"
    target(work, "request", "--keys", keys.target, "--out", request)
    source(work, "grant", "--model", run, "--keys", keys.source, "--request", request)
    grant = grant_id(request.read_bytes())
    port = free_port()
    logs = work / "exporter.log", work / "receiver.log"
    exporter = Side("exporter", logs[0], lambda: start(run_exporter, keys.source, grant, port, logs[0]))
    receiver = Side("receiver", logs[1], lambda: start(run_receiver, keys, port, out, logs[1]))
    for _ in range(rng.randint(*KILLS_PER_GRANT)):
        if state_of(keys.source, grant).has_ended:
            break
        exporter.keep_alive(tally)
        receiver.keep_alive(tally)
        if rng.random() < 0.5:
            wait_for(lambda: has_begun(keys.source, grant, out), LONGEST_LIFE_S)
            time.sleep(rng.uniform(0, 0.03))
        else:
            time.sleep(rng.uniform(0, LONGEST_LIFE_S))
        for victim in rng.choice(([exporter], [receiver], [receiver], [exporter, receiver])):
            victim.kill(tally)
        note(keys.source, grant, tally)
    finish(exporter, receiver, keys.source, grant, out, tally)
    row = note(keys.source, grant, tally)
    assert hashlib.sha256(out.read_bytes()).digest() == row.bundle_sha256
    assert out.with_name(f"{out.name}.receipt").read_bytes() == row.receipt
    for leftover in work.glob(f"{number}.ecan*"):
        leftover.unlink()


def finish(exporter: Side, receiver: Side, keys_dir: Path, grant: bytes, out: Path, tally: Tally) -> None:
    """Let both run to the end: the receiver reports success and the grant is closed."""
    deadline = time.monotonic() + PATIENCE_S
    succeeded = False
    while not succeeded or not state_of(keys_dir, grant).has_ended:
        assert time.monotonic() < deadline, "the crossing does not end"
        if not state_of(keys_dir, grant).has_ended:
            exporter.keep_alive(tally)
        process = receiver.keep_alive(tally)
        process.join(0.05)
        succeeded = process.exitcode == 0
    for side in (exporter, receiver):
        side.note_ending(tally)


def note(keys_dir: Path, grant: bytes, tally: Tally) -> GrantRecord:
    """Verify the ledger and remember which digests this grant has."""
    ledger = open_ledger(keys_dir)
    ledger.verify()
    row = ledger.find(grant)
    assert row is not None, "the ledger has lost a grant"
    seen = tally.digests.setdefault(grant, set())
    seen.add(row.sealed_sha256)
    sealed = outbox_file(keys_dir, grant)
    if sealed.exists():
        seen.add(hashlib.sha256(sealed.read_bytes()).digest())
    return row


def has_begun(keys_dir: Path, grant: bytes, out: Path) -> bool:
    """Whether bytes are on their way."""
    return out.with_name(f"{out.name}.partial").exists() or state_of(keys_dir, grant) is GrantState.STREAMING


def state_of(keys_dir: Path, grant: bytes) -> GrantState:
    row = open_ledger(keys_dir).find(grant)
    assert row is not None
    return row.state


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.002)


def start(work: Callable[..., None], *arguments: object) -> BaseProcess:
    process = _forkserver.Process(target=work, args=arguments, daemon=True)
    process.start()
    return process


def run_exporter(keys_dir: Path, grant: bytes, port: int, log: Path) -> None:
    from source_site.release import exporter

    words = ["--keys", str(keys_dir), "--listen", f"127.0.0.1:{port}", "--grant", grant.hex(), "--timeout", "60"]
    _command(log, ["ecan-source-exporter", *words], exporter.main)


def run_receiver(keys: Keys, port: int, out: Path, log: Path) -> None:
    from target_site import cli

    words = ["receive", "--keys", str(keys.target), "--from", f"127.0.0.1:{port}", "--trust", keys.fingerprint]
    _command(log, ["ecan-target", *words, "--out", str(out), "--timeout", "60"], cli.main)


def train_something(work: Path) -> Path:
    """A model of a small synthetic corpus: what is in it does not matter here."""
    config = work / "short.yaml"
    config.write_text("epochs: 2\n")
    corpus = work / "corpus"
    write_corpus("harbor", corpus, num_speakers=4, num_per_emotion=2, seed=0)
    source(work, "train", "--corpus", f"csv={corpus / 'labels.csv'}", "--config", config, "--out", work / "run")
    return work / "run"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _command(log: Path, words: list[str], main: Callable[[], object]) -> None:
    """Be a command line: its words, its output in a log, its exit code."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(descriptor, number)
        setattr(sys, name, io.TextIOWrapper(os.fdopen(number, "wb", buffering=0, closefd=False), write_through=True))
    sys.argv = words
    main()


if __name__ == "__main__":
    main()
