"""The commands of ``ecan-target`` around a bundle, its keys and the logs; heavy imports happen inside them."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ecan_core.console import one_line
from ecan_core.narrator import Narrator

if TYPE_CHECKING:
    from target_site.audit_log import AuditLog


folder = click.Path(path_type=Path, file_okay=False)
existing_folder = click.Path(path_type=Path, exists=True, file_okay=False)
existing_file = click.Path(path_type=Path, exists=True, dir_okay=False)
SECONDS = click.IntRange(1, 31_536_000)
any_path = click.Path(path_type=Path)
quiet_option = click.option("--quiet", is_flag=True, help="Say nothing but errors.")
format_option = click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
config_option = click.option("--config", type=existing_file, help="YAML with this site's rules; docs/operations.md.")
keys_option = click.option("--keys", "keys_dir", type=existing_folder, required=True, help="This site's keys.")


@click.command(epilog="Example: ecan-target request --keys keys --out site.request")
@click.option("--keys", "keys_dir", type=folder, required=True, help="This site's keys; made on first use.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.option("--passphrase", "encrypt", is_flag=True, help="Encrypt new keys; asks, or reads $ECAN_PASSPHRASE_FILE.")
def request(keys_dir: Path, out: Path, encrypt: bool) -> None:
    """Write the request that a source site needs to export a model to this site.

    Prints this site's fingerprint; read it to the source site over another channel.
    """
    from protocol.key_files import has_identity, is_locked
    from protocol.passphrase import new_passphrase, passphrase_for
    from target_site.request import write_request

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
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.option("--replace", is_flag=True, help="Replace another bundle at --out.")
@click.option("--timeout", "timeout_s", type=SECONDS, default=300, show_default=True)
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

    A killed download goes on where it was when the same command runs again. With --config, a model that left its source
    at a lower tier than the site's rules ask for is neither kept nor acknowledged, nor is one of a source whose newest
    revocation list is older than they allow.
    """
    from protocol.passphrase import passphrase_for
    from protocol.trust import USUAL_AUDIT
    from target_site.receive import receive as receive_bundle
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
    """Show and change what this site remembers of its sources."""


@trust.command(
    "show", short_help="List what is known of every source.", epilog="Example: ecan-target trust show --keys keys"
)
@keys_option
@format_option
def trust_show(keys_dir: Path, form: str) -> None:
    """List what is known of every source: releases, withdrawals, successors, and where its last checkpoint lies."""
    from target_site.trust_commands import format_text, listing

    sources = listing(keys_dir)
    click.echo(json.dumps(sources) if form == "json" else format_text(sources))


@trust.command(
    "update",
    short_help="Learn from a file carried by hand.",
    epilog="Example: ecan-target trust update --keys keys --statement revocations",
)
@keys_option
@click.option("--statement", type=existing_file, required=True, help="What the source has signed.")
@click.option("--trust", "source", metavar="FINGERPRINT|FILE", help="The source, if nothing was received from it yet.")
@format_option
@quiet_option
def trust_update(keys_dir: Path, statement: Path, source: str | None, form: str, quiet: bool) -> None:
    """Learn from a file that was carried by hand what a source has withdrawn, or which key it has now.

    The source keeps both files in its keys folder: public/revocations and public/succession.
    """
    from target_site.trust_commands import update_from_file

    outcome = update_from_file(keys_dir, statement, source, today=today())
    if form == "json":
        click.echo(json.dumps(outcome))
    Narrator(quiet=quiet).say(str(outcome["said"]))


@trust.command(
    "reset",
    short_help="Begin anew after memory was lost.",
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
    """Begin anew with one source after this site's memory was lost, or after its ledger had to be restored.

    Ask the source's operator for the number of the latest release first: older ones will be refused. Where somebody
    else has signed lists in its name, ask for the number of its newest one too. Then run
    `ecan-target trust update` with the source's public/succession, if there is one, and its public/revocations.
    """
    from target_site.trust_commands import reset_by_hand

    outcome = reset_by_hand(keys_dir, source, release, newest_list)
    if form == "json":
        click.echo(json.dumps(outcome))
    Narrator(quiet=quiet).say(str(outcome["said"]))


@click.command(epilog="Example: ecan-target inspect --bundle model.ecan")
@click.option("--bundle", type=existing_file, help="A bundle, or a sealed file.")
@click.option("--left", is_flag=True, help="List what left this site instead: see `ecan-target together`.")
@click.option("--keys", "keys_dir", type=existing_folder, help="Open a sealed file with these keys.")
@click.option("--format", "form", type=click.Choice(["text", "json", "html"]), default="text", show_default=True)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="With --format html: the page to print.")
def inspect(bundle: Path | None, left: bool, keys_dir: Path | None, form: str, out: Path | None) -> None:
    """List every byte of a bundle, and how much its weights could carry; or every update that left this site."""
    from protocol.files import write_atomic
    from protocol.inspect import format_text
    from protocol.inspect import inspect as inspect_bundle
    from protocol.inspect_page import format_html
    from protocol.key_files import load_identity
    from protocol.passphrase import passphrase_for
    from protocol.update import format_left, list_left

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
    """Put a person's name to a bundle, for one purpose; `adapt` takes no other.

    Says what the source states about leakage. Look at the rest with `ecan-target inspect` before.
    """
    from protocol.leakage import in_words
    from protocol.passphrase import passphrase_for
    from target_site.acceptance import open_accepted
    from target_site.approval import approval_path
    from target_site.approval import approve as approve_bundle
    from target_site.site_policy import audit_terms

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
    "verify", short_help="See whether a log was changed.", epilog="Example: ecan-target log verify --folder adapted"
)
@click.option("--folder", type=existing_folder, required=True, help="The model's folder, or the keys'.")
@click.option("--head", metavar="SHA256", help="A head that was noted earlier: refuse a log that does not contain it.")
@format_option
def log_verify(folder: Path, head: str | None, form: str) -> None:
    """Check that no line of a log was changed, taken away or put in between; docs/audit-log.md.

    Prints how many lines there are and the head. Note it elsewhere: whoever may write into the folder can write all
    of a log anew, but not so that it contains a head that was noted.
    """
    from target_site.audit_log import LOG, verify_log

    state = verify_log(folder, head)
    if form == "json":
        click.echo(json.dumps({"lines": state.num_lines, "head": state.head, "torn_bytes": state.torn_bytes}))
        return
    click.echo(f"{folder / LOG}: {state.num_lines} lines, head {state.head}")
    if state.torn_bytes:
        click.echo(f"a line behind them was cut off ({state.torn_bytes} bytes); the next command takes it away")


@click.command(epilog="Example: ecan-target doctor --keys keys --from source.example:7443 --trust 3f9a...")
@click.option("--keys", "keys_dir", type=existing_folder, help="This site's keys.")
@click.option("--out", type=any_path, default=Path(), help="Where models are to be written; default: here.")
@click.option("--from", "source", metavar="HOST:PORT", help="Try the way to this source, and call nobody else.")
@click.option("--trust", metavar="FINGERPRINT|FILE", help="The source's fingerprint or its identity.pem.")
@config_option
@format_option
def doctor(
    keys_dir: Path | None, out: Path, source: str | None, trust: str | None, config: Path | None, form: str
) -> None:
    """Find what keeps this site from working, and say how to mend it.

    Changes nothing. The exit code is that of the first fault, 0 if there is none.
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
    """The log of the model's folder, or of the keys'."""
    from datetime import UTC, datetime

    from target_site.audit_log import AuditLog

    return AuditLog(folder, now=lambda: datetime.now(UTC), announce=narrator.say)


def today() -> int:
    """Days since 1970."""
    from protocol.grants import SECONDS_PER_DAY

    return int(time.time()) // SECONDS_PER_DAY
