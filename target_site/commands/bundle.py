"""Define the ``ecan-target`` commands for a bundle, keys and logs.

Heavy imports happen inside them.
"""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ecan_core.command_line.console import one_line
from ecan_core.command_line.narrator import Narrator

if TYPE_CHECKING:
    from target_site.accountability.audit_log import AuditLog


folder = click.Path(path_type=Path, file_okay=False)
existing_folder = click.Path(path_type=Path, exists=True, file_okay=False)
existing_file = click.Path(path_type=Path, exists=True, dir_okay=False)
SECONDS = click.IntRange(1, 31_536_000)
any_path = click.Path(path_type=Path)
quiet_option = click.option("--quiet", is_flag=True, help="Print errors only.")
format_option = click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Output for people (text) or for programs (json).",
)
config_option = click.option(
    "--config", type=existing_file, help="YAML with this site's rules, see docs/operations.md."
)
keys_option = click.option("--keys", "keys_dir", type=existing_folder, required=True, help="This site's keys.")


@click.command(epilog="Example: ecan-target request --keys keys --out site.request")
@click.option("--keys", "keys_dir", type=folder, required=True, help="This site's keys; made on first use.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="File for the request.")
@click.option("--passphrase", "encrypt", is_flag=True, help="Encrypt new keys; asks, or reads $ECAN_PASSPHRASE_FILE.")
def request(keys_dir: Path, out: Path, encrypt: bool) -> None:
    """Write the request that a source site needs to export a model.

    The model is sealed to this site alone. Prints this site's fingerprint. Read it to the source's operator over
    another channel, such as the telephone.
    """
    from protocol.identity.key_files import has_identity, is_locked
    from protocol.identity.passphrase import new_passphrase, passphrase_for
    from target_site.trust.request import write_request

    is_new = not has_identity(keys_dir)
    if encrypt and not is_new and not is_locked(keys_dir):
        raise click.UsageError("--passphrase is for new keys, and these are not encrypted; name another --keys folder")
    passphrase = new_passphrase() if encrypt and is_new else passphrase_for(keys_dir)
    click.echo(write_request(keys_dir, out, today=today(), passphrase=passphrase))


@click.command(
    epilog="Example: ecan-target receive --keys keys --from source.example:7443 --trust 3f9a... --out model.ecan"
)
@click.option("--keys", "keys_dir", type=existing_folder, required=True, help="This site's keys.")
@click.option("--from", "source", required=True, metavar="HOST:PORT|FILE", help="Where the sealed bundle comes from.")
@click.option(
    "--trust", required=True, metavar="FINGERPRINT|FILE", help="The source's fingerprint or its identity.pem."
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="File for the bundle.")
@click.option("--replace", is_flag=True, help="Replace another bundle at --out.")
@click.option(
    "--timeout", "timeout_s", type=SECONDS, default=300, show_default=True, help="Seconds that all of it may take."
)
@config_option
@quiet_option
def receive(
    keys_dir: Path,
    source: str,
    trust: str,
    out: Path,
    replace: bool,
    timeout_s: float,
    config: Path | None,
    quiet: bool,
) -> None:
    """Fetch the model from its source, verify it, and acknowledge it.

    To continue an interrupted download, run the same command again. With --config, a model is neither kept nor
    acknowledged if it left its source at a lower tier than the site's rules ask for, or if the newest revocation list
    of its source is older than they allow.
    """
    from protocol.bundle.trust import USUAL_AUDIT
    from protocol.identity.passphrase import passphrase_for
    from target_site.receiving.receive import receive as receive_bundle
    from target_site.site_policy import read_policy

    narrator = Narrator(quiet=quiet)
    policy = None if config is None else read_policy(config)
    verified = receive_bundle(
        source,
        keys_dir,
        trust,
        out,
        today=today(),
        announce=narrator.say,
        timeout_s=timeout_s,
        replace=replace,
        audit=policy.audit if policy else USUAL_AUDIT,
        oldest_list_days=policy.oldest_revocations_days if policy else None,
        passphrase=passphrase_for(keys_dir),
    )
    log_of(keys_dir, narrator).append(
        "receive",
        bundle_sha256=verified.digest.hex(),
        issuer=verified.manifest.issuer.hex(),
        grant=verified.manifest.grant.hex(),
    )
    narrator.say(f"verified {out}: SHA-256 {verified.digest.hex()}")


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


@click.command(epilog="Example: ecan-target inspect --bundle model.ecan")
@click.option("--bundle", type=existing_file, help="A bundle, or a sealed file.")
@click.option("--left", is_flag=True, help="List the updates that left this site instead, see `together`.")
@click.option("--keys", "keys_dir", type=existing_folder, help="Open a sealed file with these keys.")
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
def inspect(bundle: Path | None, left: bool, keys_dir: Path | None, form: str, out: Path | None) -> None:
    """List every byte of a bundle, or every update that left this site.

    It also tells how much the bundle's weights could carry.
    """
    from protocol.federation.update import format_left, list_left
    from protocol.files import write_atomic
    from protocol.identity.key_files import load_identity
    from protocol.identity.passphrase import passphrase_for
    from protocol.inspection.listing import format_text
    from protocol.inspection.listing import inspect as inspect_bundle
    from protocol.inspection.page import format_html

    if (bundle is None) != left:
        raise click.UsageError("name a bundle with --bundle, or ask with --left what left this site")
    if (form == "html") != (out is not None):
        raise click.UsageError("--format html and --out PAGE belong together")
    if bundle is None:
        if keys_dir is None or out is not None:
            raise click.UsageError("--left takes this site's --keys, and no page")
        updates = list_left(keys_dir)
        click.echo(json.dumps(updates) if form == "json" else format_left(updates))
        return
    if out is not None and out.exists():
        raise click.UsageError(f"{out} is there already; name a new file")
    key = None if keys_dir is None else load_identity(keys_dir, passphrase_for(keys_dir)).sealing_key
    listing = inspect_bundle(bundle, key)
    if out is not None:
        write_atomic(out, format_html(listing).encode(), 0o644)
    else:
        click.echo(json.dumps(listing) if form == "json" else format_text(listing))


@click.command(epilog='Example: ecan-target approve --bundle model.ecan --keys keys --by "Ada Byron" --purpose care')
@click.option("--bundle", type=existing_file, required=True, help="The bundle that `receive` verified.")
@keys_option
@click.option("--by", required=True, metavar="NAME", help="Who approves it.")
@click.option("--purpose", required=True, metavar="WORD", help="What it may be used for: care, research or service.")
@config_option
@quiet_option
def approve(bundle: Path, keys_dir: Path, by: str, purpose: str, config: Path | None, quiet: bool) -> None:
    """Approve a bundle in a person's name, for one purpose.

    `adapt` accepts no other bundle. This command prints what the source states about leakage; look at the rest with
    `ecan-target inspect` first.
    """
    from protocol.identity.passphrase import passphrase_for
    from protocol.inspection.leakage import in_words
    from target_site.site_policy import audit_terms
    from target_site.trust.acceptance import open_accepted
    from target_site.trust.approval import approval_path
    from target_site.trust.approval import approve as approve_bundle

    narrator = Narrator(quiet=quiet)
    verified = open_accepted(bundle, keys_dir=keys_dir, audit=audit_terms(config))
    for sentence in in_words(verified.manifest):
        narrator.say(sentence)
    approve_bundle(
        bundle,
        verified,
        keys_dir,
        by=by,
        purpose=purpose,
        today=today(),
        passphrase=passphrase_for(keys_dir),
    )
    log_of(keys_dir, narrator).append("approve", bundle_sha256=verified.digest.hex(), by=by, purpose=purpose)
    narrator.say(f"approved for {purpose} by {by}: {approval_path(bundle)}")


@click.group(epilog="Example: ecan-target log verify --folder adapted")
def log() -> None:
    """Check the log of what was done with a model and with recordings."""


@log.command(
    "verify", short_help="Verify that nobody changed a log.", epilog="Example: ecan-target log verify --folder adapted"
)
@click.option("--folder", type=existing_folder, required=True, help="Folder of the model or of the keys.")
@click.option("--head", metavar="SHA256", help="A head that you noted earlier; refuse a log without it.")
@format_option
def log_verify(folder: Path, head: str | None, form: str) -> None:
    """Verify that no line of a log was changed, removed or inserted.

    Prints the number of lines and the head, which is the hash of the last line. Note the head elsewhere: whoever may
    write into the folder can rewrite the whole log, but not so that it contains a head that was noted. See
    docs/audit-log.md.
    """
    from target_site.accountability.audit_log import LOG, verify_log

    state = verify_log(folder, head)
    if form == "json":
        click.echo(json.dumps({"lines": state.num_lines, "head": state.head, "torn_bytes": state.torn_bytes}))
        return
    click.echo(f"{folder / LOG}: {state.num_lines} lines, head {state.head}")
    if state.torn_bytes:
        click.echo(f"a line behind them was cut off ({state.torn_bytes} bytes); the next command takes it away")


@click.command(epilog="Example: ecan-target doctor --keys keys --from source.example:7443 --trust 3f9a...")
@click.option("--keys", "keys_dir", type=existing_folder, help="This site's keys.")
@click.option("--out", type=any_path, default=Path(), help="Folder for models, to check the disk; default: this one.")
@click.option("--from", "source", metavar="HOST:PORT", help="Also check the way to this source; calls nobody else.")
@click.option("--trust", metavar="FINGERPRINT|FILE", help="The source's fingerprint or its identity.pem.")
@config_option
@format_option
def doctor(
    keys_dir: Path | None, out: Path, source: str | None, trust: str | None, config: Path | None, form: str
) -> None:
    """Find what keeps this site from working, and tell how to fix it.

    Changes nothing. The exit code is that of the first fault, or 0 if there is none.
    """
    from dataclasses import asdict
    from datetime import UTC, datetime

    from target_site.doctor import Circumstances, examine, raise_first_fault

    findings = []
    for finding in examine(
        Circumstances(keys_dir=keys_dir, out=out, source=source, trust=trust, config=config, now=datetime.now(UTC))
    ):
        findings.append(finding)
        if form == "text":
            click.echo(f"{finding.state:<6}{finding.check}: {one_line(finding.said)}")
            if finding.fix:
                click.echo(f"      -> {one_line(finding.fix)}")
    if form == "json":
        click.echo(json.dumps({"findings": [asdict(finding) for finding in findings]}))
    raise_first_fault(findings)


def log_of(folder: Path, narrator: Narrator) -> "AuditLog":
    """Open the log of the model's folder, or of the keys'."""
    from datetime import UTC, datetime

    from target_site.accountability.audit_log import AuditLog

    return AuditLog(folder, now=lambda: datetime.now(UTC), announce=narrator.say)


def today() -> int:
    """Return today's date in days since 1970."""
    from protocol.ledger.grants import SECONDS_PER_DAY

    return int(time.time()) // SECONDS_PER_DAY
