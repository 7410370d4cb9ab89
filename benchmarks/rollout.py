"""A roll-out to many targets: receipts, releases per grant, time and memory.

The source is the product's: its ledger, its outbox, its half of the Flower app. The targets are simulated in the same
process: each has keys and a request of its own and answers with a receipt that it signed, but opens nothing. With
``--real N`` all is real: N times `ecan-target node`, each of which receives its bundle and adapts it to recordings of
its own, and `ecan-source rollout`, over TLS on loopback. Appends one JSON line to ``--out``.
"""

import argparse
import json
import os
import resource
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from benchmarks.crossing import source, target
from benchmarks.demo_federation import PROGRAMS, free_port
from benchmarks.exchange import Site, Source, issue, new_site
from benchmarks.memory import MemoryWatch
from benchmarks.record import RESULTS, ROOT, latest, record, write_section
from ecan_core.corpora.synthetic import write_corpus
from protocol.grants import GrantState, SealedFacts
from protocol.in_process import InProcessGrid
from protocol.key_files import load_identity
from protocol.ledger import Ledger
from source_site.federation.rollout import GRANT, GRANTS, RECEIPT, RECORD, SEALED, roll_out
from source_site.keys import init_keys, open_ledger


@dataclass(frozen=True, kw_only=True)
class RealSource(Source):
    """A source whose keys folder is as the product makes it."""

    @property
    def ledger(self) -> Ledger:
        return open_ledger(self.folder)


def main() -> None:
    arguments = parse()
    if arguments.table:
        write_table()
        return
    row = roll_out_for_real(arguments.real) if arguments.real else simulate(arguments.targets, arguments.size)
    record(arguments.out, row)
    if row["receipts"] < row["targets"] or row["most_releases_per_grant"] != 1 or row.get("sent_again"):
        raise SystemExit("not every grant was delivered once")


def simulate(targets: int, size_mib: float) -> dict[str, Any]:
    """Roll out to targets that live in this process."""
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder) / "keys"
        init_keys(keys)
        origin = RealSource(identity=load_identity(keys, None), folder=keys)
        sites = [new_site() for _ in range(targets)]
        known = {site.grant: issue(origin, site, int(size_mib * 2**20)) for site in sites}
        got: Counter[str] = Counter()
        grid = InProcessGrid(simulated(sites, known, got), [{"number": number} for number in range(len(sites))])
        began = time.monotonic()
        deliveries = roll_out(grid, keys, num_nodes=len(sites))
        wall_s = time.monotonic() - began
        again = roll_out(grid, keys, num_nodes=len(sites))
        records = open_ledger(keys).records()
        open_ledger(keys).verify()
    return {
        "targets": len(sites),
        "size_mib": size_mib,
        "receipts": sum(one.closed for one in deliveries),
        "closed_in_ledger": sum(one.state is GrantState.CLOSED for one in records),
        "most_releases_per_grant": max(got.values()),
        "sent_again": len(again),
        "wall_s": round(wall_s, 1),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


def roll_out_for_real(targets: int) -> dict[str, Any]:
    """Roll out to nodes that are processes of their own, each with its own keys and recordings."""
    with tempfile.TemporaryDirectory() as folder:
        work, address = Path(folder), f"127.0.0.1:{free_port()}"
        write_corpus("harbor", work / "harbor", num_speakers=4, num_per_emotion=4, seed=0)
        source(work, "train", "--corpus", f"csv={work / 'harbor' / 'labels.csv'}", "--out", work / "run")
        trust = source(work, "keys", "init", "--out", work / "keys").stdout.strip()
        source(work, "federate", "keys", "--host", "127.0.0.1", "--out", work / "fleet")
        nodes = [new_node(work, number, address, trust) for number in range(targets)]
        requests = [word for number in range(targets) for word in ("--request", work / f"{number}.request")]
        source(work, "grant", "--model", work / "run", "--keys", work / "keys", *requests)
        keys = [word for number in range(targets) for word in ("--node", work / f"{number}.pub")]
        words = ("--federation", work / "fleet", "--listen", address, "--keys", work / "keys", *keys)
        memory, began = MemoryWatch(os.getpid()), time.monotonic()
        with ExitStack() as running:
            rolling = running.enter_context(
                started(work, "rollout", "ecan-source", "rollout", *words, "--out", work / "out.jsonl")
            )
            while not (work / "out.jsonl.flower" / "run.toml").exists() and rolling.poll() is None:
                time.sleep(0.5)
            for number, node in enumerate(nodes):
                running.enter_context(started(work, f"node{number}", "ecan-target", *node))
            if rolling.wait():
                raise SystemExit((work / "rollout.log").read_text())
            wall_s = time.monotonic() - began
            peak_mib = memory.stop()
        answers = [json.loads(line) for line in (work / "out.jsonl").read_text().splitlines()]
        records = open_ledger(work / "keys").records()
    return {
        "targets": targets,
        "real": True,
        "receipts": sum(answer["closed"] for answer in answers),
        "closed_in_ledger": sum(one.state is GrantState.CLOSED for one in records),
        "most_releases_per_grant": max(Counter(answer["grant"] for answer in answers).values()),
        "verdicts": dict(Counter(answer["told"]["verdict"] for answer in answers)),
        "wall_s": round(wall_s, 1),
        "peak_mib": round(peak_mib, 1),
    }


def new_node(work: Path, number: int, address: str, trust: str) -> list[object]:
    """A target with keys, a request and recordings; returns the command of its node."""
    recordings, rules = work / f"audio{number}", work / "site.yaml"
    write_corpus("valley", recordings, num_speakers=2, num_per_emotion=2, seed=number)
    rules.write_text("purpose: research\nsubjects: volunteer\napproval: not-needed\n")
    keys = work / f"target{number}"
    target(work, "request", "--keys", keys, "--out", work / f"{number}.request")
    words = [
        *("node", "--to", address, "--ca", work / "fleet" / "ca.crt", "--key", work / f"{number}.key"),
        *("--keys", keys, "--trust", trust, "--audio", recordings / "labels.csv", "--config", rules),
        *("--out", work / f"model{number}", "--home", work / f"home{number}", "--runtime-port", free_port()),
    ]
    target(work, *words)  # without a key, it makes one
    return words


@contextmanager
def started(work: Path, name: str, program: str, *words: object) -> Iterator["subprocess.Popen[bytes]"]:
    """A command as long as the block lasts, with a log."""
    with (work / f"{name}.log").open("wb") as log:
        process = subprocess.Popen([PROGRAMS / program, *map(str, words)], stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.terminate()
            process.wait()


def write_table() -> None:
    """Write what the last run showed into the guide."""
    row, real = latest("rollout", size_mib=0.2), latest("rollout", real=True)
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in real["verdicts"].items())
    write_section(
        ROOT / "docs" / "federation.md",
        "rollout",
        f"{row['targets']:,} simulated targets in one process, {row['size_mib']} MiB each: "
        f"{row['receipts']:,} receipts, {row['most_releases_per_grant']} release per grant, "
        f"{row['sent_again']} sent again by a second roll-out, "
        f"{row['wall_s']:.0f} s, {row['peak_mib']:.0f} MiB at most ({row['day']}, {row['machine']}, shared).\n\n"
        f"{real['targets']} real nodes on one machine, each of which receives, adapts to recordings of its own and "
        f"answers: {real['receipts']} receipts, {verdicts}; {real['wall_s']:.0f} s from the start of `rollout`, "
        f"{real['peak_mib']:,.0f} MiB for all processes together ({real['day']}, {real['machine']}, shared).",
    )


def simulated(sites: list[Site], known: dict[bytes, SealedFacts], got: Counter[str]) -> ClientApp:
    """Targets that believe everything and sign for it; counts the bundles that came for each grant."""
    app = ClientApp()

    @app.query("grants")
    def grants(message: Message, context: Context) -> Message:
        site = sites[int(context.node_config["number"])]
        return Message(RecordDict({RECORD: ConfigRecord({GRANTS: site.grant.hex()})}), reply_to=message)

    @app.query("take")
    def take(message: Message, context: Context) -> Message:
        site, content = sites[int(context.node_config["number"])], message.content.config_records[RECORD]
        assert content[GRANT] == site.grant.hex()
        assert len(content[SEALED]) == known[site.grant].size
        got[content[GRANT]] += 1
        return Message(RecordDict({RECORD: ConfigRecord({RECEIPT: site.receipt(known[site.grant])})}), reply_to=message)

    return app


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", type=int, default=1000)
    parser.add_argument("--size", type=float, default=0.2, help="of each sealed bundle, in MiB")
    parser.add_argument("--real", type=int, help="so many nodes that are processes of their own, such as 8")
    parser.add_argument("--table", action="store_true", help="write docs/federation.md")
    parser.add_argument("--out", type=Path, default=RESULTS / "rollout.jsonl")
    return parser.parse_args()


if __name__ == "__main__":
    main()
