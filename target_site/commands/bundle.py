"""Define the ``ecan-target`` commands for a bundle, keys and logs.

Heavy imports happen inside them.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ecan_core.command_line.console import Narrator
from ecan_core.command_line.options import (
    SECONDS,
    encoders_option,
    existing_file,
    existing_folder,
    folder,
    quiet_option,
)
from target_site.accountability.audit_log import log_of, today
from target_site.commands.options import config_option, keys_option, policy_of

if TYPE_CHECKING:
    from target_site.site_policy import SitePolicy


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
    Narrator().say(f"send {out} to the source; above is this site's fingerprint: read it to them by telephone")


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
@encoders_option
@quiet_option
def receive(
    keys_dir: Path,
    source: str,
    trust: str,
    out: Path,
    replace: bool,
    timeout_s: float,
    config: Path | None,
    encoders: Path | None,
    quiet: bool,
) -> None:
    """Fetch the model from its source, verify it, and acknowledge it.

    To continue an interrupted download, run the same command again. With --config, a model is neither kept nor
    acknowledged if it left its source at a lower tier than the site's rules ask for, or if the newest revocation list
    of its source is older than they allow.
    """
    from protocol.bundle.trust import USUAL_AUDIT
    from protocol.encoders.store import added_hashes, default_folder
    from protocol.errors import RefusedError
    from protocol.identity.passphrase import passphrase_for
    from protocol.identity.signing import SUITES
    from target_site.model.encoders import folder_for, reads_of_bundle
    from target_site.receiving.receive import receive as receive_bundle
    from target_site.site_policy import read_policy
    from target_site.trust.remembered import note_keys

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
        suites=policy.signature_suites if policy else SUITES,
        encoders=frozenset(map(bytes.fromhex, added_hashes(encoders or default_folder()))),
        passphrase=passphrase_for(keys_dir),
    )
    note_keys(out, keys_dir)
    log_of(keys_dir, narrator).append(
        "receive",
        bundle_sha256=verified.digest.hex(),
        issuer=verified.manifest.issuer.hex(),
        grant=verified.manifest.grant.hex(),
    )
    narrator.say(f"verified {out}: SHA-256 {verified.digest.hex()}")
    try:
        folder_for(reads_of_bundle(verified), encoders)
    except RefusedError as fault:  # the bundle is here and whole; what reads it can still be fetched
        narrator.say(f"{fault} Until then `adapt` refuses this model.")
    narrator.suggest("ecan-target", "inspect", "--bundle", out, "--format", "html", "--out", out.with_suffix(".html"))


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
        Narrator().say(f"wrote {out}: a page to look at, print and sign")
    else:
        click.echo(json.dumps(listing) if form == "json" else format_text(listing))


@click.command(epilog='Example: ecan-target approve --bundle model.ecan --keys keys --by "Ada Byron" --purpose care')
@click.option("--bundle", type=existing_file, required=True, help="The bundle that `receive` verified.")
@keys_option
@click.option("--by", required=True, metavar="NAME", help="Who approves it.")
@click.option(
    "--purpose",
    metavar="WORD",
    help="What it may be used for: care, research or service; default: what the rules of --config are for.",
)
@config_option
@quiet_option
def approve(bundle: Path, keys_dir: Path, by: str, purpose: str | None, config: Path | None, quiet: bool) -> None:
    """Approve a bundle in a person's name, for one purpose.

    `adapt` accepts no other bundle. This command prints what the source states about leakage; look at the rest with
    `ecan-target inspect` first.
    """
    from protocol.bundle.trust import USUAL_AUDIT
    from protocol.identity.passphrase import passphrase_for
    from protocol.inspection.leakage import in_words
    from target_site.trust.acceptance import open_accepted
    from target_site.trust.approval import approval_path
    from target_site.trust.approval import approve as approve_bundle

    narrator = Narrator(quiet=quiet)
    policy = policy_of(config)
    purpose = _agreed_purpose(purpose, policy)
    verified = open_accepted(bundle, keys_dir=keys_dir, audit=policy.audit if policy else USUAL_AUDIT)
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
    under = ("--keys", keys_dir, *(() if config is None else ("--config", config)))
    narrator.suggest("ecan-target", "adapt", "--bundle", bundle, "--audio", "RECORDINGS", *under, "--out", "adapted")


def _agreed_purpose(said: str | None, policy: "SitePolicy | None") -> str:
    """Return what a bundle is approved for, as was said or as rules say.

    Raises:
        UsageError: neither says it, or they differ, so that `adapt` would refuse the approval.
    """
    if policy is None and said is None:
        raise click.UsageError("say what it may be used for with --purpose, or name the site's rules with --config")
    if policy is not None and said not in (None, policy.purpose):
        raise click.UsageError(f"--purpose is {said}, and the rules of --config say {policy.purpose}; leave it out")
    return said or (policy.purpose if policy else "")
