"""Join what several processes have predicted."""

import json
from pathlib import Path

import click

from ecan_core.command_line.console import Narrator
from ecan_core.command_line.options import existing_folder, folder, format_option, quiet_option
from target_site.accountability.audit_log import log_of


@click.command(epilog="Example: ecan-target merge --out predictions shard-1 shard-2 shard-3")
@click.option("--out", type=folder, required=True, help="Folder that gets the days of all of them.")
@click.argument("parts", nargs=-1, required=True, type=existing_folder)
@format_option
@quiet_option
def merge(out: Path, parts: tuple[Path, ...], form: str, quiet: bool) -> None:
    """Join predictions that were written into several folders, day by day.

    Shards that write into one folder need no joining. Where two folders know the same recording, the later day counts.
    """
    from target_site.report.days import merge as merge_days
    from target_site.results.days import date_of

    narrator = Narrator(quiet=quiet)
    dates = [date_of(day) for day in merge_days(out, parts)]
    audit_log = log_of(out, narrator)
    audit_log.append("merge", parts=[audit_log.pseudonym(part) for part in parts], days=len(dates))
    if form == "json":
        click.echo(json.dumps({"days": dates}))
    narrator.say(f"joined {len(dates)} days of {len(parts)} folders: {out}")
