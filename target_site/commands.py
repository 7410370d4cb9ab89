"""The commands of ``ecan-target``. Heavy imports happen inside the command that needs them."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ecan_core.console import one_line
from ecan_core.narrator import Narrator
from ecan_core.plan import COMMITTEES, DEFAULT_METHOD, READS

if TYPE_CHECKING:
    from target_site.audit_log import AuditLog
    from target_site.orders import Order
    from target_site.site_policy import SitePolicy

NORMALIZATIONS = ("none", "corpus", "speaker", "voice")

folder = click.Path(path_type=Path, file_okay=False)
existing_folder = click.Path(path_type=Path, exists=True, file_okay=False)
existing_file = click.Path(path_type=Path, exists=True, dir_okay=False)
SECONDS = click.IntRange(1, 31_536_000)
any_path = click.Path(path_type=Path)
quiet_option = click.option("--quiet", is_flag=True, help="Say nothing but errors.")
config_option = click.option("--config", type=existing_file, help="YAML with this site's rules; docs/operations.md.")
uncontained_option = click.option(
    "--accept-uncontained",
    "accepted",
    metavar="REASON",
    help="Read recordings even where this system cannot seal the process that does; results carry the reason.",
)
format_option = click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
keys_option = click.option("--keys", "keys_dir", type=existing_folder, required=True, help="This site's keys.")
model_option = click.option(
    "--model", "model_dir", type=existing_folder, required=True, help="Folder that `adapt` made."
)
cache_option = click.option(
    "--cache", type=any_path, help="File that keeps features between runs; default: inside the model's folder."
)


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
    click.echo(write_request(keys_dir, out, today=_today(), passphrase=passphrase))


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
@quiet_option
def receive(keys_dir: Path, source: str, trust: str, out: Path, replace: bool, timeout_s: float, quiet: bool) -> None:
    """Fetch the model from its source, verify it, and acknowledge it.

    A killed download goes on where it was when the same command runs again.
    """
    from protocol.passphrase import passphrase_for
    from target_site.receive import receive as receive_bundle

    narrator = Narrator(quiet=quiet)
    verified = receive_bundle(
        source,
        keys_dir,
        trust,
        out,
        today=_today(),
        announce=narrator.say,
        timeout_s=timeout_s,
        replace=replace,
        passphrase=passphrase_for(keys_dir),
    )
    _log(keys_dir, narrator).append(
        "receive",
        bundle_sha256=verified.digest.hex(),
        issuer=verified.manifest.issuer.hex(),
        grant=verified.manifest.grant.hex(),
    )
    narrator.say(f"verified {out}: SHA-256 {verified.digest.hex()}")


@click.group(epilog="Example: ecan-target trust show --keys keys")
def trust() -> None:
    """Show and change what this site remembers of its sources."""


@trust.command("show", epilog="Example: ecan-target trust show --keys keys")
@keys_option
@format_option
def trust_show(keys_dir: Path, form: str) -> None:
    """List what is known of every source: releases, withdrawals, successors, and where its last checkpoint lies."""
    from target_site.trust_commands import format_text, listing

    sources = listing(keys_dir)
    click.echo(json.dumps(sources) if form == "json" else format_text(sources))


@trust.command("update", epilog="Example: ecan-target trust update --keys keys --statement revocations")
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

    outcome = update_from_file(keys_dir, statement, source)
    if form == "json":
        click.echo(json.dumps(outcome))
    Narrator(quiet=quiet).say(str(outcome["said"]))


@trust.command("reset", epilog="Example: ecan-target trust reset --keys keys --trust 3f9a... --release 3")
@keys_option
@click.option("--trust", "source", required=True, metavar="FINGERPRINT|FILE", help="The source.")
@click.option(
    "--release",
    type=click.IntRange(0, 0xFFFF),
    required=True,
    help="Number of its latest release, as its operator says; 0 if there is none yet.",
)
@format_option
@quiet_option
def trust_reset(keys_dir: Path, source: str, release: int, form: str, quiet: bool) -> None:
    """Begin anew with one source after this site's memory was lost, or after its ledger had to be restored.

    Ask the source's operator for the number of the latest release first: older ones will be refused. Then run
    `ecan-target trust update` with the source's public/succession, if there is one, and its public/revocations.
    """
    from target_site.trust_commands import reset_by_hand

    outcome = reset_by_hand(keys_dir, source, release)
    if form == "json":
        click.echo(json.dumps(outcome))
    Narrator(quiet=quiet).say(str(outcome["said"]))


@click.command(epilog="Example: ecan-target inspect --bundle model.ecan")
@click.option("--bundle", type=existing_file, required=True, help="A bundle, or a sealed file.")
@click.option("--keys", "keys_dir", type=existing_folder, help="Open a sealed file with these keys.")
@click.option("--format", "form", type=click.Choice(["text", "json", "html"]), default="text", show_default=True)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="With --format html: the page to print.")
def inspect(bundle: Path, keys_dir: Path | None, form: str, out: Path | None) -> None:
    """List every byte of a bundle, and how much its weights could carry."""
    from protocol.files import write_atomic
    from protocol.inspect import format_text
    from protocol.inspect import inspect as inspect_bundle
    from protocol.inspect_page import format_html
    from protocol.key_files import load_identity
    from protocol.passphrase import passphrase_for

    if (form == "html") != (out is not None):
        raise click.UsageError("--format html and --out PAGE belong together")
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
@quiet_option
def approve(bundle: Path, keys_dir: Path, by: str, purpose: str, quiet: bool) -> None:
    """Put a person's name to a bundle, for one purpose; `adapt` takes no other.

    Look at what is in it with `ecan-target inspect` before.
    """
    from protocol.passphrase import passphrase_for
    from target_site.acceptance import open_accepted
    from target_site.approval import approval_path
    from target_site.approval import approve as approve_bundle

    narrator = Narrator(quiet=quiet)
    verified = open_accepted(bundle, keys_dir=keys_dir)
    approve_bundle(
        bundle,
        verified,
        keys_dir,
        by=by,
        purpose=purpose,
        today=_today(),
        passphrase=passphrase_for(keys_dir),
    )
    _log(keys_dir, narrator).append("approve", bundle_sha256=verified.digest.hex(), by=by, purpose=purpose)
    narrator.say(f"approved for {purpose} by {by}: {approval_path(bundle)}")


@click.command(epilog="Example: ecan-target adapt --bundle model.ecan --audio recordings/ --out adapted")
@click.option("--bundle", type=existing_file, required=True, help="The bundle that `receive` verified.")
@click.option("--audio", type=any_path, required=True, help="Folder, file, pattern, or list (CSV, JSON Lines).")
@click.option(
    "--normalize",
    type=click.Choice(NORMALIZATIONS),
    help="Default: by speaker if the source did and the list names speakers, else by voices estimated from the sound; "
    "`none` if the source did.",
)
@click.option(
    "--method",
    type=click.Choice([*COMMITTEES, *READS]),
    default=DEFAULT_METHOD,
    show_default=True,
    help="How to adapt; docs/method.md compares them.",
)
@config_option
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True)
@click.option("--keys", "keys_dir", type=existing_folder, help="Check that these keys accepted the bundle.")
@cache_option
@click.option("--out", type=folder, required=True, help="Folder of the adapted model and its report.")
@uncontained_option
@format_option
@quiet_option
def adapt(
    bundle: Path,
    audio: Path,
    normalize: str | None,
    method: str,
    config: Path | None,
    seed: int,
    keys_dir: Path | None,
    cache: Path | None,
    out: Path,
    accepted: str | None,
    form: str,
    quiet: bool,
) -> None:
    """Adapt the model to this site's own recordings, without labels.

    Voices are estimated from 100 utterances on, and only for a model that reads utterance statistics; without them it
    is normalized by corpus.

    Exit code 14 says that the adaptation was undone because it did no good; the received model is kept and can
    be used.
    """
    from ecan_core.data.unlabeled import LeftOut
    from ecan_core.errors import AdaptationReverted
    from ecan_core.plan import AdaptSettings, check_settings
    from ecan_core.select import Verdict
    from target_site.acceptance import open_accepted
    from target_site.approval import require_approval
    from target_site.locks import writing_alone
    from target_site.model_folder import CACHE_FILE, finish_replacement
    from target_site.orders import AdaptOrder, refuse_among_recordings
    from target_site.site_policy import read_policy

    narrator = Narrator(quiet=quiet)
    policy = None if config is None else read_policy(config)
    settings = policy.adaptation if policy else AdaptSettings()
    check_settings(method, settings)
    verified = open_accepted(bundle, keys_dir=keys_dir)
    if policy is None or policy.approval == "required":
        approval = require_approval(bundle, verified, purpose=policy.purpose if policy else None)
        narrator.say(f"approved by {approval.by} for {approval.purpose}")
    if keys_dir is None:
        narrator.say(
            f"received by site {verified.manifest.audience.hex()[:16]}..., signed by "
            f"{verified.manifest.issuer.hex()[:16]}...; give --keys to check that this site is yours "
            "and that the source has not withdrawn the model since"
        )
    refuse_among_recordings(out, cache or out / CACHE_FILE, audio)
    with writing_alone(out):
        finish_replacement(out)
        order = AdaptOrder(
            bundle=bundle,
            sha256=verified.digest.hex(),
            audio=audio,
            parties=policy.parties if policy else None,
            out=out,
            normalization=normalize,
            method=method,
            settings=settings,
            seed=seed,
            cache=cache or out / CACHE_FILE,
            left_out=LeftOut(),
        )
        audit_log = _log(out, narrator)
        with audit_log.recorded("adapt", bundle_sha256=order.sha256, audio=audit_log.pseudonym(audio)) as noted:
            outcome = _carry_out(order, policy, accepted, narrator, quiet=quiet)
            finish_replacement(out)
            noted |= outcome
    verdict, reason = outcome["verdict"], outcome["reason"]
    if form == "json":
        click.echo(json.dumps({"verdict": verdict, "reason": reason, "model": str(out)}))
    narrator.say(f"{verdict}: {reason}")
    narrator.say(f"report: {out / 'report.html'}")
    if verdict == Verdict.REVERTED:
        raise AdaptationReverted(
            f"the adaptation was undone ({reason}): {out} holds the model as received; "
            "try more recordings or another --method"
        )


@click.command(epilog="Example: ecan-target predict --model adapted --audio recordings/ --out predictions")
@model_option
@click.option("--audio", type=any_path, required=True, help="Folder, file, pattern, or list (CSV, JSON Lines).")
@click.option("--keys", "keys_dir", type=existing_folder, help="Check that the source has not withdrawn the model.")
@config_option
@cache_option
@click.option("--out", type=folder, required=True, help="Folder for segments.csv, .jsonl, .rttm and summary.json.")
@uncontained_option
@format_option
@quiet_option
def predict(
    model_dir: Path,
    audio: Path,
    keys_dir: Path | None,
    config: Path | None,
    cache: Path | None,
    out: Path,
    accepted: str | None,
    form: str,
    quiet: bool,
) -> None:
    """Recognize emotions with the adapted model."""
    from target_site.acceptance import refuse_withdrawn
    from target_site.locks import writing_alone
    from target_site.model_folder import CACHE_FILE, read_facts
    from target_site.orders import PredictOrder, refuse_among_recordings
    from target_site.site_policy import read_policy

    narrator = Narrator(quiet=quiet)
    policy = None if config is None else read_policy(config)
    facts = read_facts(model_dir)
    if keys_dir is not None:
        refuse_withdrawn(keys_dir, facts["receipt"])
    refuse_among_recordings(out, cache or model_dir / CACHE_FILE, audio)
    with writing_alone(out):
        order = PredictOrder(
            model=model_dir,
            audio=audio,
            parties=policy.parties if policy else None,
            out=out,
            cache=cache or model_dir / CACHE_FILE,
        )
        audit_log = _log(model_dir, narrator)
        with audit_log.recorded("predict", audio=audit_log.pseudonym(audio), out=audit_log.pseudonym(out)) as noted:
            summary = _carry_out(order, policy, accepted, narrator, quiet=quiet)
            noted["utterances"] = summary["utterances"]
    if form == "json":
        click.echo(json.dumps(summary))
    narrator.say(f"predicted {summary['utterances']} utterances: {out / 'segments.csv'}")


@click.command(epilog="Example: ecan-target evaluate --model adapted --labels labels.csv --format json")
@model_option
@click.option("--labels", type=existing_file, required=True, help="CSV with the columns file, label, speaker.")
@cache_option
@uncontained_option
@format_option
@quiet_option
def evaluate(model_dir: Path, labels: Path, cache: Path | None, accepted: str | None, form: str, quiet: bool) -> None:
    """Measure the adapted model on labelled recordings; the labels change nothing in the model."""
    from target_site.evaluation import format_text
    from target_site.locks import writing_alone
    from target_site.model_folder import CACHE_FILE, finish_replacement, read_facts
    from target_site.orders import EvaluateOrder

    narrator = Narrator(quiet=quiet)
    read_facts(model_dir)
    with writing_alone(model_dir):
        finish_replacement(model_dir)
        order = EvaluateOrder(model=model_dir, labels=labels, cache=cache or model_dir / CACHE_FILE)
        audit_log = _log(model_dir, narrator)
        with audit_log.recorded("evaluate", labels=audit_log.pseudonym(labels)) as noted:
            evaluation = _carry_out(order, None, accepted, narrator, quiet=quiet)
            noted["utterances"] = evaluation["n"]
    click.echo(json.dumps(evaluation) if form == "json" else format_text(evaluation))


@click.command(epilog="Example: ecan-target sheet --model adapted --predictions predictions --out sheet.csv")
@model_option
@click.option("--predictions", type=existing_folder, required=True, help="Folder that `predict` wrote.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.option("--count", type=click.IntRange(1, 100_000), default=50, show_default=True, help="How many to label.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True)
@quiet_option
def sheet(model_dir: Path, predictions: Path, out: Path, count: int, seed: int, quiet: bool) -> None:
    """Draw utterances for a person to label; `evaluate --labels SHEET` reads the sheet once it is filled in.

    Every class and every degree of confidence has its share. What was predicted is not shown.
    """
    from target_site.model_folder import read_facts
    from target_site.segments import JSONL, read_segments
    from target_site.sheet import draw, write_sheet

    narrator = Narrator(quiet=quiet)
    classes = read_facts(model_dir)["card"]["classes"]
    drawn = draw(read_segments(predictions / JSONL), classes, count, seed)
    write_sheet(out, drawn)
    audit_log = _log(model_dir, narrator)
    audit_log.append("sheet", out=audit_log.pseudonym(out), utterances=len(drawn))
    narrator.say(f"fill in the column label of {out}, then run `ecan-target evaluate --labels {out}`")


@click.command(
    epilog="Example: ecan-target forget --model adapted --speaker P07 --bundle model.ecan --audio list.csv --keys keys"
)
@model_option
@click.option("--speaker", "speakers", multiple=True, metavar="NAME", help="Who is forgotten, as the list names them.")
@click.option("--file", "files", multiple=True, type=any_path, help="A recording that is forgotten.")
@click.option("--bundle", type=existing_file, required=True, help="The bundle that the model was adapted from.")
@click.option("--audio", type=any_path, required=True, help="All recordings; those of the person may still be there.")
@keys_option
@click.option(
    "--predictions",
    multiple=True,
    type=existing_folder,
    help="A folder that `predict` wrote: its files go, predict again.",
)
@config_option
@cache_option
@uncontained_option
@format_option
@quiet_option
def forget(
    model_dir: Path,
    speakers: tuple[str, ...],
    files: tuple[Path, ...],
    bundle: Path,
    audio: Path,
    keys_dir: Path,
    predictions: tuple[Path, ...],
    config: Path | None,
    cache: Path | None,
    accepted: str | None,
    form: str,
    quiet: bool,
) -> None:
    """Make an adapted model anew without somebody's recordings, and sign that.

    The model is adapted again from the bundle as its receipt says. Features go with the whole cache. The recordings,
    lists and sheets themselves, and copies made elsewhere, are yours to remove.
    """
    from ecan_core.data.unlabeled import LeftOut, whole_path
    from protocol.passphrase import passphrase_for
    from target_site.acceptance import open_accepted
    from target_site.again import order_again
    from target_site.forget import certify, count_heard, remove_traces, weights_digest
    from target_site.locks import writing_alone
    from target_site.model_folder import CACHE_FILE, finish_replacement, read_facts
    from target_site.site_policy import read_policy

    if not (speakers or files):
        raise click.UsageError("nobody is named; give --speaker or --file")
    narrator = Narrator(quiet=quiet)
    policy = None if config is None else read_policy(config)
    person = LeftOut(speakers=speakers, files=tuple(map(whole_path, files)))
    verified = open_accepted(bundle, keys_dir=keys_dir)
    passphrase = passphrase_for(keys_dir)
    with writing_alone(model_dir):
        finish_replacement(model_dir)
        order = order_again(
            read_facts(model_dir)["receipt"],
            bundle,
            verified,
            audio=audio,
            out=model_dir,
            cache=cache or model_dir / CACHE_FILE,
            left_out=person,
        )
        heard, before = count_heard(model_dir, person), weights_digest(model_dir)
        audit_log = _log(model_dir, narrator)
        named = [*map(audit_log.pseudonym, speakers), *map(audit_log.pseudonym, files)]
        with audit_log.recorded("forget", bundle_sha256=order.sha256, who=named, utterances=heard) as noted:
            remove_traces(model_dir, order.cache, predictions)
            outcome = _carry_out(order, policy, accepted, narrator, quiet=quiet)
            finish_replacement(model_dir)
            certificate = certify(
                model_dir,
                keys_dir,
                bundle=verified.digest,
                before=before,
                utterances=heard,
                today=_today(),
                passphrase=passphrase,
            )
            noted |= outcome
    if form == "json":
        click.echo(json.dumps({"forgotten": heard, "certificate": str(certificate), **outcome}))
    narrator.say(f"{outcome['verdict']}: {outcome['reason']}")
    narrator.say(f"forgot {heard} utterances: {certificate}")


@click.command(epilog="Example: ecan-target replay --model adapted --bundle model.ecan --audio list.csv")
@model_option
@click.option("--bundle", type=existing_file, required=True, help="The bundle that the model was adapted from.")
@click.option("--audio", type=any_path, required=True, help="The same recordings.")
@click.option("--keys", "keys_dir", type=existing_folder, help="Check that these keys accepted the bundle.")
@config_option
@cache_option
@uncontained_option
@format_option
@quiet_option
def replay(
    model_dir: Path,
    bundle: Path,
    audio: Path,
    keys_dir: Path | None,
    config: Path | None,
    cache: Path | None,
    accepted: str | None,
    form: str,
    quiet: bool,
) -> None:
    """Adapt once more as the model's receipt says, and compare the files byte for byte.

    The model stays as it is. Exit code 11 says that the files differ, and names what was not the same.
    """
    from protocol.errors import Code, Refused
    from target_site.acceptance import open_accepted
    from target_site.again import order_again
    from target_site.locks import writing_alone
    from target_site.model_folder import CACHE_FILE, REPLAY, finish_replacement, read_facts, remove_tree
    from target_site.replay import changed_recordings, circumstances, differing_files
    from target_site.site_policy import read_policy

    narrator = Narrator(quiet=quiet)
    policy = None if config is None else read_policy(config)
    again = model_dir / REPLAY
    verified = open_accepted(bundle, keys_dir=keys_dir)
    with writing_alone(model_dir):
        finish_replacement(model_dir)
        receipt = read_facts(model_dir)["receipt"]
        order = order_again(receipt, bundle, verified, audio=audio, out=again, cache=cache or model_dir / CACHE_FILE)
        audit_log = _log(model_dir, narrator)
        with audit_log.recorded("replay", bundle_sha256=order.sha256, audio=audit_log.pseudonym(audio)) as noted:
            remove_tree(again)
            try:
                with writing_alone(again):
                    _carry_out(order, policy, accepted, narrator, quiet=quiet)
                    finish_replacement(again)
                different, because = differing_files(model_dir, again), circumstances(model_dir, again)
                recordings = changed_recordings(model_dir, again)
            finally:
                remove_tree(again)
            noted["different"] = different
    if form == "json":
        click.echo(json.dumps({"different": different, "circumstances": because, "recordings": recordings}))
    reasons = "; ".join(because) or "nothing else that the receipt knows of"
    if different:
        raise Refused(Code.REPRO, f"{', '.join(different)} came out differently; what was not the same: {reasons}.")
    narrator.say(f"the same, byte for byte; what was not the same: {reasons}" if because else "the same, byte for byte")


@click.group(epilog="Example: ecan-target log verify --folder adapted")
def log() -> None:
    """Check the log of what was done with a model and with recordings."""


@log.command("verify", epilog="Example: ecan-target log verify --folder adapted")
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
@format_option
def doctor(keys_dir: Path | None, out: Path, source: str | None, trust: str | None, form: str) -> None:
    """Find what keeps this site from working, and say how to mend it.

    Changes nothing. The exit code is that of the first fault, 0 if there is none.
    """
    from dataclasses import asdict
    from datetime import UTC, datetime

    from target_site.doctor import Circumstances, examine, raise_first_fault

    findings = []
    for finding in examine(
        Circumstances(keys_dir=keys_dir, out=out, source=source, trust=trust, now=datetime.now(UTC))
    ):
        findings.append(finding)
        if form == "text":
            click.echo(f"{finding.state:<6}{finding.check}: {one_line(finding.said)}")
            if finding.fix:
                click.echo(f"      -> {one_line(finding.fix)}")
    if form == "json":
        click.echo(json.dumps({"findings": [asdict(finding) for finding in findings]}))
    raise_first_fault(findings)


def _carry_out(
    order: "Order", policy: "SitePolicy | None", accepted: str | None, narrator: Narrator, *, quiet: bool
) -> dict[str, Any]:
    """Have an order carried out by a process that is sealed."""
    from protocol.files import make_private_folder
    from target_site.containment import DEFAULT_LEAST, Conditions
    from target_site.seal import carry_out_sealed

    for folder in order.writable:
        make_private_folder(folder)
    conditions = Conditions(least=policy.least_level if policy else DEFAULT_LEAST, accepted=accepted)
    return carry_out_sealed(order, conditions=conditions, narrator=narrator, quiet=quiet)


def _log(folder: Path, narrator: Narrator) -> "AuditLog":
    """The log of the model's folder, or of the keys'."""
    from datetime import UTC, datetime

    from target_site.audit_log import AuditLog

    return AuditLog(folder, now=lambda: datetime.now(UTC), announce=narrator.say)


def _today() -> int:
    from protocol.grants import SECONDS_PER_DAY

    return int(time.time()) // SECONDS_PER_DAY
