"""Define the commands ``ecan-source grant``, ``export`` and ``inspect``.

Heavy imports happen inside the command that needs them.
"""

import json
from pathlib import Path
from typing import Any

import click

from ecan_core.command_line.console import Narrator
from ecan_core.command_line.options import SECONDS, existing_file, existing_folder, format_option, quiet_option
from source_site.commands.options import (
    keys_option,
    terms_options,
    unconfined_option,
    unix_time_s,
    warn_of_missing_walls,
)


@click.command(epilog="Example: ecan-source grant --model run --keys keys --request site.request")
@click.option("--model", "run_dir", type=existing_folder, required=True, help="Folder that `train` made.")
@keys_option
@click.option(
    "--request",
    "request_paths",
    type=existing_file,
    multiple=True,
    required=True,
    help="A target's request; may be repeated.",
)
@terms_options
@unconfined_option
@format_option
@quiet_option
def grant(
    run_dir: Path,
    keys_dir: Path,
    request_paths: tuple[Path, ...],
    terms: dict[str, Any],
    unconfined: bool,
    form: str,
    quiet: bool,
) -> None:
    """Sign the model and seal it to sites; nothing leaves until `export`.

    Works without a network. Compare each site's fingerprint with the one that its operator tells you over another
    channel.
    """
    from protocol.identity.passphrase import passphrase_for
    from source_site.release.clearance import Terms
    from source_site.release.grant import Session
    from source_site.release.grant import grant as issue_grants
    from source_site.release.outbox import summary

    narrator = Narrator(quiet=quiet)
    warn_of_missing_walls(unconfined)
    session = Session(
        run_dir=run_dir,
        keys_dir=keys_dir,
        now_s=unix_time_s(),
        announce=narrator.say,
        passphrase=passphrase_for(keys_dir),
        unconfined=unconfined,
        terms=Terms(**terms),
    )
    records = issue_grants(session, request_paths)
    if form == "json":
        click.echo(json.dumps({"grants": [summary(record) for record in records]}))
    for record in records:
        narrator.say(
            f"granted release {record.release} to site {record.audience.hex()}: {record.size} bytes, "
            f"SHA-256 {record.sealed_sha256.hex()}"
        )
    narrator.say("compare each site's fingerprint with the site's operator, over another channel, before you export")
    narrator.suggest("ecan-source", "export", "--keys", keys_dir, "--listen", "HOST:PORT")


@click.command(
    epilog="Example: ecan-source export --model run --keys keys --request site.request --listen 0.0.0.0:7443"
)
@click.option("--model", "run_dir", type=existing_folder, help="Folder that `train` made.")
@keys_option
@click.option(
    "--request", "request_paths", type=existing_file, multiple=True, help="A target's request; may be repeated."
)
@click.option("--listen", metavar="HOST:PORT", help="Serve the sealed bundles over gRPC, once each.")
@click.option(
    "--file",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the sealed bundle to this file instead.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=SECONDS,
    default=86_400,
    show_default=True,
    help="Seconds to wait for the sites.",
)
@terms_options
@unconfined_option
@format_option
@quiet_option
def export(
    run_dir: Path | None,
    keys_dir: Path,
    request_paths: tuple[Path, ...],
    listen: str | None,
    file: Path | None,
    timeout_s: float,
    terms: dict[str, Any],
    unconfined: bool,
    form: str,
    quiet: bool,
) -> None:
    """Sign the model and hand it to each site that asked, once.

    A request is good for one export. The command ends when every site has acknowledged its bundle with a signed
    receipt. Without --model and --request it serves the grants that are still open.
    """
    from protocol.identity.passphrase import passphrase_for
    from protocol.wire.address import parse_address
    from source_site.release.clearance import Terms
    from source_site.release.exporter import become_exporter, report
    from source_site.release.grant import Session, export_to_file
    from source_site.release.grant import grant as issue_grants

    if (listen is None) == (file is None):
        raise click.UsageError("give either --listen HOST:PORT or --file PATH")
    if (run_dir is None) != (not request_paths):
        raise click.UsageError("give --model and --request together")
    narrator = Narrator(quiet=quiet)
    agreed = Terms(**terms)
    if file is not None and (run_dir is None or len(request_paths) != 1):
        raise click.UsageError("give --model and exactly one --request with --file")
    if listen is not None:
        parse_address(listen)
    warn_of_missing_walls(unconfined)
    passphrase = passphrase_for(keys_dir)
    granted: tuple[bytes, ...] = ()
    if run_dir is not None:
        session = Session(
            run_dir=run_dir,
            keys_dir=keys_dir,
            now_s=unix_time_s(),
            announce=narrator.say,
            passphrase=passphrase,
            unconfined=unconfined,
            terms=agreed,
        )
        if file is not None:
            record = export_to_file(session, request_paths[0], file)
            report([record], form=form, narrator=narrator)
            _tell_how_to_close(keys_dir, request_paths[0], narrator)
            return
        granted = tuple(record.grant for record in issue_grants(session, request_paths))
    assert listen is not None
    become_exporter(
        keys_dir,
        listen,
        granted,
        timeout_s=timeout_s,
        form=form,
        quiet=quiet,
        passphrase=passphrase,
        out_of_reach=[] if run_dir is None else [run_dir],
        unconfined=unconfined,
    )


def _tell_how_to_close(keys_dir: Path, request: Path, narrator: Narrator) -> None:
    narrator.say(
        "the grant stays open until the site's receipt comes back: `ecan-target receive --out OUT` writes it to "
        "OUT.receipt"
    )
    narrator.suggest("ecan-source", "close", "--keys", keys_dir, "--request", request, "--receipt", "OUT.receipt")


@click.command(epilog="Example: ecan-source inspect --bundle model.ecan")
@click.option("--bundle", type=existing_file, required=True, help="A bundle, or a sealed file.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "html"]),
    default="text",
    show_default=True,
    help="Output for people (text), for programs (json), or to print (html).",
)
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="File for the page to print, with --format html."
)
def inspect(bundle: Path, form: str, out: Path | None) -> None:
    """List every byte of a bundle, and how much its weights could carry."""
    from protocol.files import write_atomic
    from protocol.inspection.listing import format_text
    from protocol.inspection.listing import inspect as inspect_bundle
    from protocol.inspection.page import format_html

    if (form == "html") != (out is not None):
        raise click.UsageError("--format html and --out PAGE belong together")
    if out is not None and out.exists():
        raise click.UsageError(f"{out} is there already; name a new file")
    listing = inspect_bundle(bundle)
    if out is not None:
        write_atomic(out, format_html(listing).encode(), 0o644)
        Narrator().say(f"wrote {out}: a page to look at, print and sign")
    else:
        click.echo(json.dumps(listing) if form == "json" else format_text(listing))
