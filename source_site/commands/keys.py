"""Make, show, rotate and withdraw keys."""

import json
import time
from pathlib import Path

import click

from ecan_core.command_line.console import Narrator
from ecan_core.command_line.options import existing_folder, folder, format_option, quiet_option
from protocol.identity.signing import SUITES
from source_site.commands.options import keys_option, quoted, unix_time_s


@click.group(epilog="Example: ecan-source keys init --out keys")
def keys() -> None:
    """Create, show or replace this site's keys."""


@keys.command("init", short_help="Create this site's keys.", epilog="Example: ecan-source keys init --out keys")
@click.option("--out", type=folder, required=True, help="Folder for the keys; must not hold any yet.")
@click.option("--passphrase", "encrypt", is_flag=True, help="Encrypt the keys; asks, or reads $ECAN_PASSPHRASE_FILE.")
@click.option(
    "--suite",
    type=click.Choice(SUITES),
    default=SUITES[0],
    show_default=True,
    help="What the release key signs in: Ed25519 alone, or beside ML-DSA-65.",
)
def keys_init(out: Path, encrypt: bool, suite: str) -> None:
    """Create this site's release, TLS and online keys and its ledger.

    Prints the fingerprint that target sites need. Read it to them over another channel, such as the telephone.
    """
    from protocol.identity.passphrase import new_passphrase
    from source_site.keys.folder import init_keys

    click.echo(init_keys(out, suite=suite, passphrase=new_passphrase() if encrypt else None))
    Narrator().say(f"keys are in {out}; above is this site's fingerprint: read it to each target by telephone")


@keys.command("show", epilog="Example: ecan-source keys show --keys keys")
@keys_option
@click.option("--all", "is_all", is_flag=True, help="Also print the fingerprints of online and retired keys.")
@format_option
def keys_show(keys_dir: Path, is_all: bool, form: str) -> None:
    """Print this site's fingerprint again.

    The fingerprint is that of the release key. With --all or --format json, those of the online key and of retired
    keys follow; give one of them to `revoke --key` if the key was stolen. This reads the online keys, so encrypted
    ones need their passphrase.
    """
    from protocol.identity.key_files import load_public
    from protocol.identity.passphrase import passphrase_for
    from source_site.keys.folder import key_sets

    if not is_all and form == "text":
        click.echo(load_public(keys_dir).fingerprint.hex())
        return
    present, *retired = key_sets(keys_dir, passphrase_for(keys_dir))
    if form == "json":
        former = [{"number": one.retired, "release": one.release.hex(), "online": one.online.hex()} for one in retired]
        told = {"release": present.release.hex(), "online": present.online.hex(), "retired": former}
        click.echo(json.dumps(told))
        return
    click.echo(present.release.hex())
    click.echo(f"{present.online.hex()}  online key")
    for one in retired:
        click.echo(f"{one.release.hex()}  release key, retired by rotation {one.retired}")
        click.echo(f"{one.online.hex()}  online key, retired by rotation {one.retired}")


@keys.command(
    "rotate", short_help="Replace the keys by new ones.", epilog="Example: ecan-source keys rotate --keys keys"
)
@keys_option
@click.option("--suite", type=click.Choice(SUITES), help="Sign in another suite from now on; never in a weaker one.")
@quiet_option
def keys_rotate(keys_dir: Path, suite: str | None, quiet: bool) -> None:
    """Replace this site's keys by new ones.

    The old keys sign a statement that names the new ones, and are kept. Prints the new fingerprint. Run the command
    again to finish an interrupted run. Open grants are denied, because they were sealed under the old keys: their
    sites must ask again.
    """
    from datetime import UTC, datetime

    from protocol.identity.passphrase import passphrase_for
    from source_site.keys.folder import succession_file
    from source_site.release.rotation import rotate_keys

    rotation = rotate_keys(keys_dir, now=datetime.now(UTC), suite=suite, passphrase=passphrase_for(keys_dir))
    click.echo(rotation.fingerprint.hex())
    narrator = Narrator(quiet=quiet)
    for record in rotation.denied:
        narrator.say(f"the grant {record.grant.hex()} to site {record.audience.hex()} is denied")
    if rotation.denied:
        narrator.say(
            f"grants that were sealed under the old keys and are denied now: {len(rotation.denied)}; "
            "their sites must ask again, with a new request"
        )
    narrator.say(
        f"next: send {succession_file(keys_dir)} to every site that trusts the old fingerprint, "
        "and tell them the new one over another channel"
    )


@click.group(epilog="Example: ecan-source officer init --out officer")
def officer() -> None:
    """Manage a second officer, who alone may override an audit.

    The officer has a key of their own.
    """


@officer.command(
    "init", short_help="Create a second officer's key.", epilog="Example: ecan-source officer init --out officer"
)
@click.option("--out", type=folder, required=True, help="Folder for the key, out of the first officer's reach.")
@click.option("--passphrase", "encrypt", is_flag=True, help="Encrypt the key; asks, or reads $ECAN_PASSPHRASE_FILE.")
def officer_init(out: Path, encrypt: bool) -> None:
    """Create a second officer's key and print its fingerprint.

    The fingerprint is for `officer register`.
    """
    from protocol.identity.passphrase import new_passphrase
    from source_site.keys.officer import init_officer

    click.echo(init_officer(out, passphrase=new_passphrase() if encrypt else None))


@officer.command(
    "register",
    short_help="Register the officer's key.",
    epilog="Example: ecan-source officer register --keys keys --officer 3f9a...",
)
@keys_option
@click.option("--officer", "digits", metavar="FINGERPRINT", required=True, help="Fingerprint of the officer's key.")
@quiet_option
def officer_register(keys_dir: Path, digits: str, quiet: bool) -> None:
    """Register a second officer's key, so that it may override audits.

    The release key signs the fingerprint. There is only one officer, who can be replaced only by `keys rotate`; after
    a rotation the officer must be registered again. Best done when the keys are created, by both people at one table.
    """
    import re

    from protocol.identity.passphrase import passphrase_for
    from source_site.keys.folder import OFFICER_FILE
    from source_site.keys.officer import register_officer

    if not re.fullmatch(r"[0-9A-Fa-f]{64}", digits):
        raise click.BadParameter("a fingerprint has 64 hexadecimal digits", param_hint="--officer")
    register_officer(keys_dir, bytes.fromhex(digits), passphrase=passphrase_for(keys_dir))
    Narrator(quiet=quiet).say(f"registered, in {keys_dir / OFFICER_FILE}")


@officer.command(
    "override",
    short_help="Release a model whose audit failed.",
    epilog="Example: ecan-source officer override --key officer --model run --tier 1 --out run.override",
)
@click.option("--key", "key_dir", type=existing_folder, required=True, help="Folder that `officer init` made.")
@click.option(
    "--model", "run_dir", type=existing_folder, required=True, help="Folder that `train` made and `audit` audited."
)
@click.option("--tier", type=click.IntRange(1, 2), required=True, help="The tier whose bars the model misses.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="File for `grant --override`."
)
@quiet_option
def officer_override(key_dir: Path, run_dir: Path, tier: int, out: Path, quiet: bool) -> None:
    """Let a model leave at a tier although its audit failed.

    The manifest will say so. Prints which bars the model misses, and signs the hash of these weights with the
    officer's key: the word holds for this model and this tier alone. Sites refuse such a model unless their settings
    allow it.
    """
    from protocol.identity.passphrase import passphrase_for
    from source_site.release.clearance import override_audit

    narrator = Narrator(quiet=quiet)
    override_audit(
        run_dir, key_dir, tier, out, now_s=unix_time_s(), announce=narrator.say, passphrase=passphrase_for(key_dir)
    )
    narrator.say(f"signed: give {out} to `ecan-source grant --tier {tier} --override`")


@click.command(epilog="Example: ecan-source revoke --keys keys --release 3")
@keys_option
@click.option("--release", type=click.IntRange(1, 0xFFFF), help="Number of the release, as `ledger list` shows it.")
@click.option("--key", "key", metavar="FINGERPRINT", help="Fingerprint of a stolen key; `keys show --all` lists them.")
@click.option("--renew", is_flag=True, help="Withdraw nothing more; sign the list with today's date.")
@click.option("--unknown", is_flag=True, help="Withdraw even a key that does not belong to this source.")
@click.option(
    "--yes", is_flag=True, help="Withdraw even the present release key; then nothing can be exported with it."
)
@format_option
@quiet_option
def revoke(
    keys_dir: Path, release: int | None, key: str | None, renew: bool, unknown: bool, yes: bool, form: str, quiet: bool
) -> None:
    """Withdraw a release or a key for all targets, or renew the list.

    Adds an entry to the signed list that targets see whenever they receive something. Open grants of a withdrawn
    release are denied at once. If the present release key is withdrawn, all open grants are denied. A target that is
    never online gets the list by hand, see `ecan-target trust update`. Sites may refuse a source whose list is old:
    renew it every month with --renew, which withdraws nothing more.
    """
    from protocol.identity.passphrase import passphrase_for
    from source_site.release.revoke import renew_list, revoke_key, revoke_release

    now_s, passphrase = int(time.time()), passphrase_for(keys_dir)
    if (release is not None) + (key is not None) + renew != 1:
        raise click.UsageError("give one of --release NUMBER, --key FINGERPRINT and --renew")
    if renew:
        withdrawal = renew_list(keys_dir, now_s=now_s, passphrase=passphrase)
    elif release is not None:
        withdrawal = revoke_release(keys_dir, release, now_s=now_s, passphrase=passphrase)
    else:
        assert key is not None
        fingerprint = _key_to_withdraw(keys_dir, key, passphrase, unknown=unknown, yes=yes)
        withdrawal = revoke_key(keys_dir, fingerprint, now_s=now_s, passphrase=passphrase)
    narrator = Narrator(quiet=quiet)
    if form == "json":
        click.echo(json.dumps(withdrawal.summary()))
    done = "renewed as" if renew else "withdrawn by" if withdrawal.is_new else "already on"
    narrator.say(f"{done} list {withdrawal.revocations.version}")
    for record in withdrawal.denied:
        narrator.say(f"the grant {record.grant.hex()} is denied: no further byte of it leaves")
    if key is not None:
        narrator.say(f"a key that is still in use is replaced by: ecan-source keys rotate --keys {quoted(keys_dir)}")
    narrator.say(
        f"next: start exports that are running again, so that they show the new list; send {withdrawal.file} "
        "to targets that receive by hand"
    )


def _key_to_withdraw(keys_dir: Path, digits: str, passphrase: bytes | None, *, unknown: bool, yes: bool) -> bytes:
    """Return the fingerprint of a key that is really to be withdrawn.

    No slip of the hand takes a key out of use.
    """
    import re

    from source_site.keys.folder import key_sets, load_keys

    if not re.fullmatch(r"[0-9A-Fa-f]{64}", digits):
        raise click.BadParameter("a fingerprint has 64 hexadecimal digits", param_hint="--key")
    key = bytes.fromhex(digits)
    if key == load_keys(keys_dir, passphrase).fingerprint:
        if not yes:
            raise click.UsageError(
                "this is the present release key: once it is withdrawn, all open grants are denied, nothing can be "
                "exported, and sites no longer take a successor from it; better run `keys rotate` first and give the "
                "succession to the sites, or add --yes"
            )
    elif not unknown and not any(key in (one.release, one.online) for one in key_sets(keys_dir, passphrase)):
        raise click.UsageError(
            "this is no key of this source: `ecan-source keys show --all` lists them; add --unknown to withdraw it "
            "nevertheless"
        )
    return key
