"""Show and change what a site remembers of its sources."""

import json
from pathlib import Path

import click

from ecan_core.command_line.console import Narrator
from ecan_core.command_line.options import existing_file, format_option, quiet_option
from target_site.accountability.audit_log import today
from target_site.commands.options import keys_option


@click.group(epilog="Example: ecan-target trust show --keys keys")
def trust() -> None:
    """Show or change what this site remembers of its sources."""


@trust.command("show", short_help="List every known source.", epilog="Example: ecan-target trust show --keys keys")
@keys_option
@format_option
def trust_show(keys_dir: Path, form: str) -> None:
    """List every source: releases, withdrawals, successors, checkpoint."""
    from target_site.trust.manual import format_text, listing

    sources = listing(keys_dir)
    click.echo(json.dumps(sources) if form == "json" else format_text(sources))


@trust.command(
    "update",
    short_help="Read a source's signed statement.",
    epilog="Example: ecan-target trust update --keys keys --statement revocations",
)
@keys_option
@click.option("--statement", type=existing_file, required=True, help="The file that the source has signed.")
@click.option("--trust", "source", metavar="FINGERPRINT|FILE", help="The source, if nothing was received from it yet.")
@format_option
@quiet_option
def trust_update(keys_dir: Path, statement: Path, source: str | None, form: str, quiet: bool) -> None:
    """Update what this site knows of a source, from a file.

    The file says what the source has withdrawn (public/revocations in the source's keys folder) or which key it has
    now (public/succession). Carry it here by hand.
    """
    from target_site.trust.manual import update_from_file

    outcome = update_from_file(keys_dir, statement, source, today=today())
    if form == "json":
        click.echo(json.dumps(outcome))
    Narrator(quiet=quiet).say(str(outcome["said"]))


@trust.command(
    "reset",
    short_help="Start over with one source.",
    epilog="Example: ecan-target trust reset --keys keys --trust 3f9a... --release 3",
)
@keys_option
@click.option("--trust", "source", required=True, metavar="FINGERPRINT|FILE", help="The source.")
@click.option(
    "--release",
    type=click.IntRange(0, 0xFFFF),
    required=True,
    help="Number of its latest release, as its operator says; 0 if there is none yet.",
)
@click.option(
    "--list",
    "newest_list",
    type=click.IntRange(0, 0xFFFF),
    help="Number of its newest revocation list, as its operator says, 0 for none; default: what is known here.",
)
@format_option
@quiet_option
def trust_reset(keys_dir: Path, source: str, release: int, newest_list: int | None, form: str, quiet: bool) -> None:
    """Reset what this site remembers of one source.

    Use this after this site's memory was lost, or after the source had to restore its ledger. First ask the source's
    operator for the number of the latest release: older ones will be refused. If somebody else has signed lists in the
    source's name, also ask for the number of its newest list. Afterwards run `ecan-target trust update` with the
    source's public/succession, if there is one, and its public/revocations.
    """
    from target_site.trust.manual import reset_by_hand

    outcome = reset_by_hand(keys_dir, source, release, newest_list)
    if form == "json":
        click.echo(json.dumps(outcome))
    Narrator(quiet=quiet).say(str(outcome["said"]))
