"""Define the commands of ``ecan-source``.

Heavy imports happen inside the command that needs them.
"""

import json
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from ecan_core.command_line.narrator import Narrator

if TYPE_CHECKING:
    from protocol.statements.offers import CheckpointFields
    from source_site.training.run_folder import RunFacts

ENCODERS = ("mlp", "tdnn")
NORMALIZATIONS = ("none", "corpus", "speaker")

folder = click.Path(path_type=Path, file_okay=False)
SECONDS = click.IntRange(1, 31_536_000)
existing_folder = click.Path(path_type=Path, exists=True, file_okay=False)
existing_file = click.Path(path_type=Path, exists=True, dir_okay=False)
quiet_option = click.option("--quiet", is_flag=True, help="Print errors only.")
format_option = click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Output for people (text) or for programs (json).",
)
corpora_option = click.option(
    "--corpus",
    "corpora",
    multiple=True,
    required=True,
    metavar="RECIPE=PATH",
    help="A labelled corpus: its recipe (emodb, ravdess, ..., csv) and its path; may be repeated.",
)
keys_option = click.option(
    "--keys", "keys_dir", type=existing_folder, required=True, help="Folder that `keys init` made."
)


@click.group(epilog="Example: ecan-source keys init --out keys")
def keys() -> None:
    """Create, show or replace this site's keys."""


@keys.command("init", short_help="Create this site's keys.", epilog="Example: ecan-source keys init --out keys")
@click.option("--out", type=folder, required=True, help="Folder for the keys; must not hold any yet.")
@click.option("--passphrase", "encrypt", is_flag=True, help="Encrypt the keys; asks, or reads $ECAN_PASSPHRASE_FILE.")
def keys_init(out: Path, encrypt: bool) -> None:
    """Create this site's release, TLS and online keys and its ledger.

    Prints the fingerprint that target sites need. Read it to them over another channel, such as the telephone.
    """
    from protocol.identity.passphrase import new_passphrase
    from source_site.keys.folder import init_keys

    click.echo(init_keys(out, passphrase=new_passphrase() if encrypt else None))


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
@quiet_option
def keys_rotate(keys_dir: Path, quiet: bool) -> None:
    """Replace this site's keys by new ones.

    The old keys sign a statement that names the new ones, and are kept. Prints the new fingerprint. Run the command
    again to finish an interrupted run. Open grants are denied, because they were sealed under the old keys: their
    sites must ask again.
    """
    from datetime import UTC, datetime

    from protocol.identity.passphrase import passphrase_for
    from source_site.keys.folder import rotate_keys, succession_file

    rotation = rotate_keys(keys_dir, now=datetime.now(UTC), passphrase=passphrase_for(keys_dir))
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
    from source_site.keys.folder import init_officer

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
    from source_site.keys.folder import OFFICER_FILE, register_officer

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
        run_dir, key_dir, tier, out, now_s=_now_s(), announce=narrator.say, passphrase=passphrase_for(key_dir)
    )
    narrator.say(f"signed: give {out} to `ecan-source grant --tier {tier} --override`")


@click.command(epilog="Example: ecan-source train --corpus emodb=/data/emodb --classes anger,fear --out run")
@corpora_option
@click.option("--classes", metavar="A,B,C", help="Classes to learn; default: those that all corpora share.")
@click.option(
    "--normalize",
    type=click.Choice(NORMALIZATIONS),
    default="speaker",
    show_default=True,
    help="How features are normalized.",
)
@click.option("--encoder", type=click.Choice(ENCODERS), default="mlp", show_default=True, help="Kind of network.")
@click.option("--config", type=existing_file, help="YAML with training settings.")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    default=0,
    show_default=True,
    help="Seed of the random numbers; the same seed trains the same model.",
)
@click.option("--cache", type=click.Path(path_type=Path), help="File that keeps features between runs.")
@click.option(
    "--private",
    "epsilon",
    type=click.FloatRange(0.1, 100.0),
    metavar="EPSILON",
    help="Train with differential privacy; smaller protects more, and 8 hides most of an utterance's trace.",
)
@click.option(
    "--private-unit",
    "unit",
    type=click.Choice(["utterance", "speaker"]),
    default="utterance",
    show_default=True,
    help="What --private protects; to protect speakers takes about 500 of them.",
)
@click.option("--out", type=folder, required=True, help="Folder of the trained model.")
@format_option
@quiet_option
def train(
    corpora: tuple[str, ...],
    classes: str | None,
    normalize: str,
    encoder: str,
    config: Path | None,
    seed: int,
    cache: Path | None,
    epsilon: float | None,
    unit: Literal["utterance", "speaker"],
    out: Path,
    form: str,
    quiet: bool,
) -> None:
    """Train a model on labelled speech."""
    from ecan_core.runtime.seeding import one_thread
    from ecan_core.settings.parse import parse_settings, read_yaml
    from ecan_core.training.train import TrainSettings
    from source_site.training.train import train_run

    one_thread()
    named = recipes_and_paths(corpora)
    settings = parse_settings(TrainSettings, read_yaml(config) if config else {}, str(config))
    narrator = Narrator(quiet=quiet)
    facts = train_run(
        named,
        out,
        classes=None if classes is None else [name.strip() for name in classes.split(",")],
        normalization=normalize,
        encoder=encoder,
        settings=settings,
        seed=seed,
        cache_path=cache,
        narrator=narrator,
        epsilon=epsilon,
        unit=unit,
    )
    tell_trained(facts, form, narrator)
    loss = facts.quantization_loss
    narrator.say(
        "the recognition rate and what quantization costs were not estimated: that takes four known speakers or more"
        if loss is None
        else f"UAR on held-out speakers {100 * facts.uar_source:.1f} %, "
        f"{100 * abs(loss):.1f} points {'gained' if loss < 0 else 'lost'} by quantization"
    )
    if epsilon is not None:
        from source_site.training.record import load_record
        from source_site.training.run_folder import load_run

        promised = load_record(out, load_run(out)).promise
        if promised is not None:
            narrator.say(
                f"private: epsilon {promised.epsilon:.2f} at delta {promised.delta:.1e} per {promised.unit}, "
                "for what the network learned; the statistics that speech is normalized by stay here and do not count"
            )
    narrator.say(f"next: ecan-source export --model {out} --keys KEYS --request site.request ...")


tier_option = click.option(
    "--tier",
    type=click.IntRange(0, 2),
    default=0,
    show_default=True,
    help="How sensitive the speech is, and so what its audit must show: 0 public speech (nothing), 1 consented "
    "research, 2 clinical or call-centre speech.",
)
releases_option = click.option(
    "--releases",
    type=click.IntRange(1, 1000),
    default=3,
    show_default=True,
    help="How many models of the same speech may leave, at a tier above 0.",
)
override_option = click.option(
    "--override",
    type=existing_file,
    help="File that `officer override` signed: the model may leave although its audit failed (tier above 0).",
)
unconfined_option = click.option(
    "--unconfined", is_flag=True, help="Go on where this system cannot confine a process (dangerous)."
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
@tier_option
@releases_option
@override_option
@unconfined_option
@format_option
@quiet_option
def grant(
    run_dir: Path,
    keys_dir: Path,
    request_paths: tuple[Path, ...],
    tier: int,
    releases: int,
    override: Path | None,
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
    from source_site.release.grant import grant as issue_grants
    from source_site.release.outbox import summary

    narrator = Narrator(quiet=quiet)
    _warn_of_missing_walls(unconfined)
    records = issue_grants(
        run_dir,
        keys_dir,
        request_paths,
        now_s=_now_s(),
        announce=narrator.say,
        passphrase=passphrase_for(keys_dir),
        unconfined=unconfined,
        terms=Terms(tier=tier, releases=releases, override=override),
    )
    if form == "json":
        click.echo(json.dumps({"grants": [summary(record) for record in records]}))
    for record in records:
        narrator.say(
            f"granted release {record.release} to site {record.audience.hex()}: {record.size} bytes, "
            f"SHA-256 {record.sealed_sha256.hex()}"
        )
    narrator.say("compare each site's fingerprint with the site's operator, over another channel, before you export")
    narrator.say(f"next: ecan-source export --keys {_quoted(keys_dir)} --listen HOST:PORT")


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
@tier_option
@releases_option
@override_option
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
    tier: int,
    releases: int,
    override: Path | None,
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
    from source_site.release.grant import export_to_file
    from source_site.release.grant import grant as issue_grants

    if (listen is None) == (file is None):
        raise click.UsageError("give either --listen HOST:PORT or --file PATH")
    if (run_dir is None) != (not request_paths):
        raise click.UsageError("give --model and --request together")
    narrator = Narrator(quiet=quiet)
    terms = Terms(tier=tier, releases=releases, override=override)
    if file is not None:
        if run_dir is None or len(request_paths) != 1:
            raise click.UsageError("give --model and exactly one --request with --file")
        _warn_of_missing_walls(unconfined)
        record = export_to_file(
            run_dir,
            keys_dir,
            request_paths[0],
            file,
            now_s=_now_s(),
            announce=narrator.say,
            passphrase=passphrase_for(keys_dir),
            unconfined=unconfined,
            terms=terms,
        )
        report([record], form=form, narrator=narrator)
        narrator.say(
            "the grant stays open until the site's receipt comes back: `ecan-target receive --out OUT` writes it to "
            "OUT.receipt"
        )
        closing = ("--keys", str(keys_dir), "--request", str(request_paths[0]), "--receipt", "OUT.receipt")
        narrator.say(f"next: {shlex.join(('ecan-source', 'close', *closing))}")
        return
    assert listen is not None
    parse_address(listen)
    _warn_of_missing_walls(unconfined)
    passphrase = passphrase_for(keys_dir)
    granted: tuple[bytes, ...] = ()
    if run_dir is not None:
        records = issue_grants(
            run_dir,
            keys_dir,
            request_paths,
            now_s=_now_s(),
            announce=narrator.say,
            passphrase=passphrase,
            unconfined=unconfined,
            terms=terms,
        )
        granted = tuple(record.grant for record in records)
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
    else:
        click.echo(json.dumps(listing) if form == "json" else format_text(listing))


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

    record = close_by_receipt(keys_dir, request_path, receipt_path, now_s=_now_s())
    Narrator(quiet=quiet).say(f"the grant {record.grant.hex()} is closed: its bundle was verified at the target")


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
        narrator.say(f"a key that is still in use is replaced by: ecan-source keys rotate --keys {_quoted(keys_dir)}")
    narrator.say(
        f"next: start exports that are running again, so that they show the new list; send {withdrawal.file} "
        "to targets that receive by hand"
    )


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
        ends = "-" if one.expires_s is None else _utc(one.expires_s)
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
    from protocol.errors import Code, StorageFault
    from source_site.keys.folder import open_ledger

    book = open_ledger(keys_dir)
    head = book.verify()
    checkpoint = None if checkpoint_path is None else _open_checkpoint(keys_dir, checkpoint_path)
    for seq, digest in [] if checkpoint is None else checkpoint.lines:
        if book.contains(seq, digest):
            continue
        raise StorageFault(
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

    from protocol.errors import Code, Refused
    from source_site.keys.folder import open_ledger
    from source_site.release.outbox import clear_ended

    if not re.fullmatch(r"[0-9A-Fa-f]{32}", digits):
        raise click.BadParameter("a grant has 32 hexadecimal digits", param_hint="--grant")
    book = open_ledger(keys_dir)
    if book.find(bytes.fromhex(digits)) is None:
        raise Refused(Code.GRANT, "There is no such grant; `ecan-source ledger list` shows those that there are.")
    record = book.deny(bytes.fromhex(digits), now_s=_now_s())
    clear_ended(keys_dir, [record])
    narrator = Narrator(quiet=quiet)
    narrator.say(f"the grant {record.grant.hex()} is {record.state.lower()}: no further byte leaves for it")


def tell_trained(facts: "RunFacts", form: str, narrator: Narrator) -> None:
    """Report what a training ended with, to machines and people."""
    from dataclasses import asdict

    if form == "json":
        click.echo(json.dumps(asdict(facts)))
    narrator.say(
        f"trained on {facts.num_utterances} utterances of {facts.num_speakers} speakers, {len(facts.classes)} classes"
    )


def recipes_and_paths(corpora: Sequence[str]) -> list[tuple[str, Path]]:
    """Parse the corpora of a command line."""
    return [_recipe_and_path(item) for item in corpora]


def _recipe_and_path(item: str) -> tuple[str, Path]:
    recipe, separator, path = item.partition("=")
    if not separator or not recipe or not path:
        raise click.BadParameter(f"{item!r} is not RECIPE=PATH, such as emodb=/data/emodb", param_hint="--corpus")
    return recipe, Path(path)


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


def _quoted(path: Path) -> str:
    """Return a path as a shell reads it, for a command that is copied."""
    return shlex.quote(str(path))


def _now_s() -> int:
    return int(time.time())


def _open_checkpoint(keys_dir: Path, path: Path) -> "CheckpointFields":
    """Open a checkpoint that this source has signed.

    The present online key may have signed it, or one from before a rotation.
    """
    from protocol.errors import Unauthentic
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
        except Unauthentic as refusal:
            refusals.append(refusal)
    raise refusals[0]


def _utc(time_s: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _warn_of_missing_walls(unconfined: bool) -> None:
    """Warn of missing walls, even with --quiet: it is a danger."""
    if unconfined:
        Narrator().say(
            "WARNING: UNCONFINED: what holds the release key and what listens may run without walls around them"
        )
