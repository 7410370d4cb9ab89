"""Read and change the ledger: ``ledger``, ``deny`` and ``close``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ecan_core.command_line.console import Narrator
from ecan_core.command_line.options import existing_file, format_option, quiet_option
from source_site.commands.options import keys_option, unix_time_s, utc

if TYPE_CHECKING:
    from protocol.statements.offers import CheckpointFields


@click.command(epilog="Example: ecan-source close --keys keys --request site.request --receipt model.ecan.receipt")
@keys_option
@click.option("--request", "request_path", type=existing_file, required=True, help="The target's request.")
@click.option("--receipt", "receipt_path", type=existing_file, required=True, help="The receipt that came back.")
@quiet_option
def close(keys_dir: Path, request_path: Path, receipt_path: Path, quiet: bool) -> None:
    """Close the grant of a bundle that was carried by hand.

    It takes the receipt that came back from the site.
    """
    from source_site.release.grant import close_by_receipt

    record = close_by_receipt(keys_dir, request_path, receipt_path, now_s=unix_time_s())
    Narrator(quiet=quiet).say(f"the grant {record.grant.hex()} is closed: its bundle was verified at the target")


@click.group(epilog="Example: ecan-source ledger list --keys keys")
def ledger() -> None:
    """List what was exported and to whom, or verify that list."""


@ledger.command(
    "list", short_help="List every grant and its state.", epilog="Example: ecan-source ledger list --keys keys"
)
@keys_option
@format_option
def ledger_list(keys_dir: Path, form: str) -> None:
    """List every grant: release, site, state and bytes sent."""
    from source_site.keys.folder import open_ledger
    from source_site.release.outbox import summary

    records = open_ledger(keys_dir).records()
    if form == "json":
        counted = ("sent_bytes", "fetches", "expires_s")
        click.echo(json.dumps([summary(one) | {name: getattr(one, name) for name in counted} for one in records]))
        return
    line = "{:>7}  {:<32}  {:<8}  {:<9}  {:>21}  {:>7}  {}".format
    if records:
        click.echo(line("release", "grant", "site", "state", "sent/size", "fetches", "window ends"))
    for one in records:
        sent = f"{one.sent_bytes}/{one.size}"
        ends = "-" if one.expires_s is None else utc(one.expires_s)
        site = one.audience.hex()[:8]
        click.echo(line(one.release, one.grant.hex(), site, one.state.value, sent, one.fetches, ends))


@ledger.command(
    "verify",
    short_help="Verify that nobody changed the ledger.",
    epilog="Example: ecan-source ledger verify --keys keys --checkpoint site.checkpoint",
)
@keys_option
@click.option("--checkpoint", "checkpoint_path", type=existing_file, help="A checkpoint that a target kept.")
@format_option
def ledger_verify(keys_dir: Path, checkpoint_path: Path | None, form: str) -> None:
    """Verify that nobody changed the ledger from outside.

    Every line is recomputed. Whoever has the file could also cut it short or rewrite it from its start. Only a
    checkpoint reveals that: targets get a signed one in return for every receipt.
    """
    from protocol.errors import Code, FileError
    from source_site.keys.folder import open_ledger

    book = open_ledger(keys_dir)
    head = book.verify()
    checkpoint = None if checkpoint_path is None else _open_checkpoint(keys_dir, checkpoint_path)
    for seq, digest in [] if checkpoint is None else checkpoint.lines:
        if book.contains(seq, digest):
            continue
        raise FileError(
            Code.LEDGER,
            f"The ledger does not hold line {seq} of the checkpoint: it was cut short, put back to an "
            "earlier day or written anew; stop exporting and restore the last copy that holds.",
        )
    if form == "json":
        told = {"lines": head.seq, "head": head.digest.hex(), "checkpoint": checkpoint and checkpoint.seq}
        click.echo(json.dumps(told))
        return
    click.echo(f"the ledger holds: {head.seq} lines, the last one is {head.digest.hex()}")
    if checkpoint is not None:
        click.echo(f"it holds line {checkpoint.seq} of the checkpoint")


@click.command(epilog="Example: ecan-source deny --keys keys --grant 0123456789abcdef0123456789abcdef")
@keys_option
@click.option("--grant", "digits", metavar="HEX", required=True, help="The grant, as `ledger list` shows it.")
@quiet_option
def deny(keys_dir: Path, digits: str, quiet: bool) -> None:
    """Deny a grant before it is delivered; no further byte leaves."""
    import re

    from protocol.errors import Code, RefusedError
    from source_site.keys.folder import open_ledger
    from source_site.release.outbox import clear_ended

    if not re.fullmatch(r"[0-9A-Fa-f]{32}", digits):
        raise click.BadParameter("a grant has 32 hexadecimal digits", param_hint="--grant")
    book = open_ledger(keys_dir)
    if book.find(bytes.fromhex(digits)) is None:
        raise RefusedError(Code.GRANT, "There is no such grant; `ecan-source ledger list` shows those that there are.")
    record = book.deny(bytes.fromhex(digits), now_s=unix_time_s())
    clear_ended(keys_dir, [record])
    narrator = Narrator(quiet=quiet)
    narrator.say(f"the grant {record.grant.hex()} is {record.state.lower()}: no further byte leaves for it")


def _open_checkpoint(keys_dir: Path, path: Path) -> "CheckpointFields":
    """Open a checkpoint that this source has signed.

    The present online key may have signed it, or one from before a rotation.
    """
    from protocol.errors import UnauthenticError
    from protocol.files import read_bounded
    from protocol.identity.identities import ONLINE_ENDORSEMENT_BYTES
    from protocol.identity.key_files import ONLINE_ENDORSEMENT_FILE, load_public
    from protocol.identity.signing import MAX_ENVELOPE_BYTES
    from protocol.statements.offers import open_checkpoint
    from source_site.keys.folder import RETIRED

    data = read_bounded(path, MAX_ENVELOPE_BYTES)
    refusals = []
    for keys in (keys_dir, *sorted((keys_dir / RETIRED).glob("*/"))):
        endorsement = read_bounded(keys / ONLINE_ENDORSEMENT_FILE, ONLINE_ENDORSEMENT_BYTES)
        try:
            return open_checkpoint(data, endorsement, load_public(keys).fingerprint)
        except UnauthenticError as refusal:
            refusals.append(refusal)
    raise refusals[0]
