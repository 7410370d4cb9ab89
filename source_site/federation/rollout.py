"""The source's half of the Flower app of a roll-out: to each node the bundle that is sealed to its site, once.

It sends ciphertext from the outbox, as the exporter does, and keeps the same ledger: a grant is carried before its
first byte leaves, and closed by its site's signed receipt.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

from protocol.averaging import wait_for_nodes
from protocol.errors import ProtocolError
from protocol.files import read_bounded
from protocol.grants import GrantRecord
from protocol.key_files import load_public
from protocol.ledger import Ledger
from protocol.sealing import MAX_SEALED_BYTES
from source_site.keys import open_ledger, outbox_file
from source_site.outbox import clear_ended
from source_site.revoke import refuse_withdrawn
from source_site.server import check_receipt

RECORD = "config"
GRANT, GRANTS, SEALED, RECEIPT = "grant", "grants", "sealed", "receipt"
AT_ONCE = 50
"""Nodes that are served at a time: so many bundles are in memory."""
PATIENCE_S = 1800.0

app = ServerApp()


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """What became of one grant.

    Attributes:
        grant: the grant, in hexadecimal.
        closed: whether its site's receipt is in the ledger.
        told: what else the site said, such as its verdict.
    """

    grant: str
    closed: bool
    told: dict[str, object]


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Serve the open grants of the keys folder that the run's configuration names."""
    import json

    deliveries = roll_out(grid, Path(str(context.run_config["keys"])), num_nodes=int(str(context.run_config["nodes"])))
    lines = [json.dumps(vars(delivery)) + "\n" for delivery in deliveries]
    Path(str(context.run_config["out"])).write_text("".join(lines))


def roll_out(grid: Grid, keys_dir: Path, *, num_nodes: int) -> list[Delivery]:
    """Bring every open grant to the node whose site asked for it.

    A grant whose node does not answer stays open, and a next roll-out brings the same bytes again.

    Args:
        grid: Flower's way to the nodes.
        keys_dir: the source's keys: ledger and outbox are used.
        num_nodes: how many nodes to wait for.

    Raises:
        Refused: a model that is still to go out, or the release key, is withdrawn.
        StorageFault: a file of the outbox is missing.
    """
    nodes = wait_for_nodes(grid, num_nodes, PATIENCE_S)
    ledger = open_ledger(keys_dir)
    waiting = {record.grant: record for record in ledger.records() if not record.state.has_ended}
    refuse_withdrawn(keys_dir, load_public(keys_dir).fingerprint, list(waiting.values()))
    asked = [Message(RecordDict({RECORD: ConfigRecord({})}), node, "query.grants") for node in nodes]
    pairs = [
        (waiting[grant], reply.metadata.src_node_id)
        for reply in grid.send_and_receive(asked, timeout=PATIENCE_S)
        if not reply.has_error()
        for grant in _grants(reply)
        if grant in waiting
    ]
    deliveries = []
    for batch in _batches(list({record.grant: (record, node) for record, node in pairs}.values())):
        deliveries += _deliver(grid, keys_dir, ledger, batch)
    clear_ended(keys_dir, ledger.records())
    return deliveries


def _deliver(grid: Grid, keys_dir: Path, ledger: Ledger, batch: Sequence[tuple[GrantRecord, int]]) -> list[Delivery]:
    messages, record_of = [], {}
    for record, node in batch:
        ledger.carry(record.grant, now_s=int(time.time()))
        sealed = read_bounded(outbox_file(keys_dir, record.grant), MAX_SEALED_BYTES)
        content = ConfigRecord({GRANT: record.grant.hex(), SEALED: sealed})
        messages.append(Message(RecordDict({RECORD: content}), node, "query.take"))
        record_of[node] = record
    done = []
    for reply in grid.send_and_receive(messages, timeout=PATIENCE_S):
        if not reply.has_error():
            record = record_of.pop(reply.metadata.src_node_id)
            done.append(_closed(ledger, record, dict(reply.content.config_records[RECORD])))
    silent = [Delivery(grant=record.grant.hex(), closed=False, told={}) for record in record_of.values()]
    return done + silent


def _closed(ledger: Ledger, record: GrantRecord, answer: dict[str, object]) -> Delivery:
    """Close a grant if what came back is its site's word."""
    receipt = cast(bytes, answer.pop(RECEIPT, b""))
    try:
        check_receipt(receipt, record)
        ledger.close(record.grant, receipt, now_s=int(time.time()))
    except ProtocolError as fault:
        return Delivery(grant=record.grant.hex(), closed=False, told=answer | {"fault": fault.code.value})
    return Delivery(grant=record.grant.hex(), closed=True, told=answer)


def _grants(reply: Message) -> list[bytes]:
    listed = str(reply.content.config_records[RECORD][GRANTS])
    return [bytes.fromhex(one) for one in listed.split(",") if one]


def _batches(pairs: list[tuple[GrantRecord, int]]) -> Iterator[list[tuple[GrantRecord, int]]]:
    """At most `AT_ONCE` at a time, and a node once in each."""
    while pairs:
        chosen = list({node: (record, node) for record, node in reversed(pairs)}.values())[:AT_ONCE]
        yield chosen
        taken = {record.grant for record, _ in chosen}
        pairs = [pair for pair in pairs if pair[0].grant not in taken]
