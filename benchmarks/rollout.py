"""A roll-out to many targets: receipts, releases per grant, time and memory.

The source is the product's: its ledger, its outbox, its half of the Flower app. The targets are simulated in the same
process: each has keys and a request of its own and answers with a receipt that it signed, but opens nothing. Appends
one JSON line to ``--out``.
"""

import argparse
import resource
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from benchmarks.exchange import Site, Source, issue, new_site
from benchmarks.record import RESULTS, ROOT, latest, record, write_section
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
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder) / "keys"
        init_keys(keys)
        source = RealSource(identity=load_identity(keys, None), folder=keys)
        sites = [new_site() for _ in range(arguments.targets)]
        known = {site.grant: issue(source, site, int(arguments.size * 2**20)) for site in sites}
        got: Counter[str] = Counter()
        grid = InProcessGrid(simulated(sites, known, got), [{"number": number} for number in range(len(sites))])
        began = time.monotonic()
        deliveries = roll_out(grid, keys, num_nodes=len(sites))
        wall_s = time.monotonic() - began
        again = roll_out(grid, keys, num_nodes=len(sites))
        records = open_ledger(keys).records()
        open_ledger(keys).verify()
    row = {
        "targets": len(sites),
        "size_mib": arguments.size,
        "receipts": sum(one.closed for one in deliveries),
        "closed_in_ledger": sum(one.state is GrantState.CLOSED for one in records),
        "most_releases_per_grant": max(got.values()),
        "sent_again": len(again),
        "wall_s": round(wall_s, 1),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }
    record(arguments.out, row)
    if row["receipts"] < len(sites) or row["most_releases_per_grant"] != 1 or again:
        raise SystemExit("not every grant was delivered once")


def write_table() -> None:
    """Write what the last run showed into the guide."""
    row = latest("rollout")
    write_section(
        ROOT / "docs" / "federation.md",
        "rollout",
        f"{row['targets']:,} simulated targets in one process, {row['size_mib']} MiB each: "
        f"{row['receipts']:,} receipts, {row['most_releases_per_grant']} release per grant, "
        f"{row['sent_again']} sent again by a second roll-out, "
        f"{row['wall_s']:.0f} s, {row['peak_mib']:.0f} MiB at most ({row['day']}, {row['machine']}, shared).",
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
    parser.add_argument("--table", action="store_true", help="write docs/federation.md")
    parser.add_argument("--out", type=Path, default=RESULTS / "rollout.jsonl")
    return parser.parse_args()


if __name__ == "__main__":
    main()
