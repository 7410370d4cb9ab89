"""The target's half of the Flower app of a roll-out.

The process that speaks to Flower opens no recording and no model: it hands the sealed file to ``ecan-target receive``
and the verified bundle to ``ecan-target adapt``, each a process of its own, and answers with what this site's operator
lets it say.
"""

import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from ecan_core.errors import SettingsError
from ecan_core.settings import parse_settings
from protocol.files import read_bounded, write_atomic
from protocol.receipts import MAX_RECEIPT_BYTES
from protocol.sealing import MAX_SEALED_BYTES
from target_site.acceptance import receipt_path
from target_site.request import requested_grants

RECORD = "config"
GRANT, GRANTS, SEALED, RECEIPT, ACCEPTED, VERDICT = "grant", "grants", "sealed", "receipt", "accepted", "verdict"
"""Names in that record: all that is ever asked or answered."""
VERDICTS = {0: "adapted", 11: "not approved", 14: "reverted"}
"""What an adaptation's exit code is told as; any other is ``failed``."""

Carry = Callable[[Sequence[str]], int]


@dataclass(frozen=True, kw_only=True)
class Node:
    """How this site's operator set its node up; no roll-out can change it.

    Attributes:
        keys: this site's keys.
        trust: fingerprint of the source.
        out: folder for the sealed file, the bundle and the adapted model.
        audio: recordings to adapt to; none leaves that to a person.
        config: the site's rules.
        tell: what the answer may hold besides the signed receipt: ``accepted``, ``verdict``.
    """

    keys: Path
    trust: str
    out: Path
    audio: str = ""
    config: str = ""
    tell: str = "accepted,verdict"


app = ClientApp()


@app.query("grants")
def grants(message: Message, context: Context) -> Message:
    """Tell what this site has asked for: grants are random numbers that the source knows from the requests."""
    asked = [grant.hex() for grant in requested_grants(_node(context).keys)]
    return _answer(message, {GRANTS: ",".join(asked)})


@app.query("take")
def take(message: Message, context: Context) -> Message:
    """Receive a sealed bundle, adapt to it if the operator wants that, and answer with the receipt."""
    record = message.content.config_records[RECORD]
    return _answer(message, take_bundle(_node(context), str(record[GRANT]), cast(bytes, record[SEALED]), run_command))


def take_bundle(node: Node, grant: str, sealed: bytes, carry: Carry) -> dict[str, str | bytes | bool]:
    """What taking a bundle ends with.

    Args:
        node: how this site's operator set it up.
        grant: what it is said to be sealed for, in hexadecimal.
        sealed: the bytes, not believed in anything.
        carry: runs ``ecan-target`` with some words and returns its exit code.

    Returns:
        The signed receipt, empty where the bundle was not accepted, and what the site tells.

    Raises:
        SettingsError: the grant is no number, or the file is too long.
    """
    if not re.fullmatch(r"[0-9a-f]{32}", grant) or len(sealed) > MAX_SEALED_BYTES:
        raise SettingsError("that is no delivery of a sealed bundle; let the source install the same version")
    node.out.mkdir(parents=True, exist_ok=True, mode=0o700)
    carried, bundle = node.out / f"{grant}.sealed", node.out / "model.ecan"
    write_atomic(carried, sealed)
    words = ("receive", "--keys", str(node.keys), "--from", str(carried), "--trust", node.trust, "--out", str(bundle))
    config = ["--config", node.config] if node.config else []
    accepted = carry([*words, *config, "--replace", "--quiet"]) == 0
    carried.unlink()
    receipt = read_bounded(receipt_path(bundle), MAX_RECEIPT_BYTES) if accepted else b""
    told: dict[str, str | bytes | bool] = {ACCEPTED: accepted}
    if accepted and node.audio:
        adapt = ["adapt", "--bundle", str(bundle), "--audio", node.audio, "--out", str(node.out / "adapted")]
        told[VERDICT] = VERDICTS.get(carry([*adapt, *config, "--keys", str(node.keys), "--quiet"]), "failed")
    return {RECEIPT: receipt} | {name: value for name, value in told.items() if name in node.tell.split(",")}


def run_command(words: Sequence[str]) -> int:
    """Run ``ecan-target`` as a process of its own; returns its exit code."""
    code = "from target_site.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, *words], stdin=subprocess.DEVNULL, check=False).returncode


def _node(context: Context) -> Node:
    engine = ("partition-id", "num-partitions")
    settings = {name: value for name, value in context.node_config.items() if name not in engine}
    return parse_settings(Node, settings, "the node")


def _answer(message: Message, fields: dict[str, str | bytes | bool] | dict[str, str]) -> Message:
    return Message(RecordDict({RECORD: ConfigRecord(dict(fields))}), reply_to=message)
