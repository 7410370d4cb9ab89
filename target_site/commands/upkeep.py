"""Keep a site in order: log, doctor, forget, expire and replay."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ecan_core.command_line.console import Narrator, one_line
from ecan_core.command_line.options import encoders_option, existing_file, existing_folder, format_option, quiet_option
from target_site.accountability.audit_log import log_of, today
from target_site.commands.options import (
    Setup,
    any_path,
    cache_option,
    config_option,
    keys_option,
    model_option,
    setup_options,
)
from target_site.containment.orders import carry_out

if TYPE_CHECKING:
    from datetime import datetime

DAY = click.DateTime(["%Y-%m-%d"])

log_option = click.option("--folder", type=existing_folder, required=True, help="Folder of the model or of the keys.")


@click.group(epilog="Example: ecan-target log show --folder adapted")
def log() -> None:
    """Show or check the log of what was done."""


@log.command(
    "show",
    short_help="Tell in plain words what was done.",
    epilog="Example: ecan-target log show --folder adapted --command predict --since 2026-11-01",
)
@log_option
@click.option(
    "--command", "commands", multiple=True, metavar="NAME", help="Only this command, such as adapt; may be repeated."
)
@click.option("--since", type=DAY, metavar="DATE", help="Only what was done on this day (UTC) or later: 2026-11-30.")
@click.option("--until", type=DAY, metavar="DATE", help="Only what was done on this day (UTC) or before.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "jsonl"]),
    default="text",
    show_default=True,
    help="Sentences for people (text), or the lines themselves (jsonl).",
)
def log_show(
    folder: Path, commands: tuple[str, ...], since: "datetime | None", until: "datetime | None", form: str
) -> None:
    """Tell in plain words what was done: when, by whom, with which model.

    The keys' folder has the log of what was received and approved, the model's folder that of what the model was made
    from and used for. People and recordings are named by pseudonyms, as docs/audit-log.md says. A log that somebody has
    changed is refused.
    """
    from target_site.accountability.history import COMMANDS, read_events

    if unknown := [name for name in commands if name not in COMMANDS]:
        raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(COMMANDS)}", param_hint="--command")
    for event in read_events(folder):
        day = event.at.date()
        is_in_time = (since is None or day >= since.date()) and (until is None or day <= until.date())
        if is_in_time and (not commands or event.command in commands):
            click.echo(event.line if form == "text" else json.dumps(event.facts))


@log.command(
    "verify", short_help="Verify that nobody changed a log.", epilog="Example: ecan-target log verify --folder adapted"
)
@log_option
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
@encoders_option
@format_option
def doctor(
    keys_dir: Path | None,
    out: Path,
    source: str | None,
    trust: str | None,
    config: Path | None,
    encoders: Path | None,
    form: str,
) -> None:
    """Find what keeps this site from working, and tell how to fix it.

    Changes nothing. The exit code is that of the first fault, or 0 if there is none.
    """
    from dataclasses import asdict
    from datetime import UTC, datetime

    from target_site.doctor import Circumstances, examine, raise_first_fault

    findings = []
    for finding in examine(
        Circumstances(
            keys_dir=keys_dir,
            out=out,
            source=source,
            trust=trust,
            config=config,
            encoders=encoders,
            now=datetime.now(UTC),
        )
    ):
        findings.append(finding)
        if form == "text":
            click.echo(f"{finding.state:<6}{finding.check}: {one_line(finding.said)}")
            if finding.fix:
                click.echo(f"      -> {one_line(finding.fix)}")
    if form == "json":
        click.echo(json.dumps({"findings": [asdict(finding) for finding in findings]}))
    raise_first_fault(findings)


@click.command(
    epilog="Example: ecan-target forget --model adapted --speaker P07 --bundle model.ecan --audio list.csv --keys keys"
)
@model_option
@click.option(
    "--speaker", "speakers", multiple=True, metavar="NAME", help="The person to forget, as the list names them."
)
@click.option("--file", "files", multiple=True, type=any_path, help="A recording to forget.")
@click.option("--bundle", type=existing_file, required=True, help="The bundle that the model was adapted from.")
@click.option("--audio", type=any_path, required=True, help="All recordings; those of the person may still be there.")
@keys_option
@click.option(
    "--predictions",
    multiple=True,
    type=existing_folder,
    help="A folder that `predict` writes into; recordings of the person are taken out of every day.",
)
@setup_options
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
    setup: Setup,
    form: str,
    quiet: bool,
) -> None:
    """Remove a person from an adapted model, and sign a certificate.

    The model is adapted again from the bundle without the person's recordings, as its provenance says. The whole cache
    of features is deleted. Delete the recordings, lists and sheets, and copies made elsewhere, yourself.
    """
    from ecan_core.data.forgotten import Forgotten
    from protocol.identity.passphrase import passphrase_for
    from protocol.locks import writing_alone
    from target_site.accountability.certificate import certify
    from target_site.accountability.forget import count_heard, remove_from_days, remove_traces
    from target_site.accountability.replay import order_again
    from target_site.model.folder import finish_replacement, read_facts, weights_digest
    from target_site.model.forgotten import read_forgotten, write_forgotten
    from target_site.trust.acceptance import open_accepted
    from target_site.trust.own_model import sign_model

    if not (speakers or files):
        raise click.UsageError("nobody is named; give --speaker or --file")
    narrator = Narrator(quiet=quiet)
    policy = setup.policy
    verified = open_accepted(bundle, keys_dir=keys_dir)
    passphrase = passphrase_for(keys_dir)
    with writing_alone(model_dir):
        finish_replacement(model_dir)
        earlier = read_forgotten(model_dir)
        person = (earlier if earlier.key else Forgotten.begin()).named(speakers, files)
        order = order_again(
            read_facts(model_dir)["provenance"],
            bundle,
            verified,
            audio=audio,
            out=model_dir,
            cache=setup.cache_of(model_dir),
            left_out=person.plus(earlier.marks),
            encoders=setup.encoders,
        )
        heard, before = count_heard(model_dir, person), weights_digest(model_dir)
        audit_log = log_of(model_dir, narrator)
        named = [*map(audit_log.pseudonym, speakers), *map(audit_log.pseudonym, files)]
        with audit_log.recorded("forget", bundle_sha256=order.sha256, who=named, utterances=heard) as noted:
            write_forgotten(model_dir, order.left_out)  # first: even if the rest fails, they are not heard again
            remove_traces(model_dir, order.cache, predictions, person)
            outcome = carry_out(order, policy, setup.accepted, narrator, quiet=quiet, own=(keys_dir, setup.config))
            sign_model(model_dir, keys_dir, passphrase)
            certificate = certify(
                model_dir,
                keys_dir,
                bundle=verified.digest,
                before=before,
                utterances=heard,
                today=today(),
                passphrase=passphrase,
            )
            finish_replacement(model_dir)
            for folder in predictions:  # by now their recordings are known, also those of which nothing was heard
                remove_from_days(folder, read_forgotten(model_dir))
            noted |= outcome
    if form == "json":
        click.echo(json.dumps({"forgotten": heard, "certificate": str(certificate), **outcome}))
    narrator.say(f"{outcome['verdict']}: {outcome['reason']}")
    narrator.say(f"forgot {heard} utterances: {certificate}")


@click.command(epilog="Example: ecan-target expire --config site.yaml --model adapted --predictions predictions")
@model_option
@click.option("--config", type=existing_file, required=True, help="YAML with this site's rules and `retention_days`.")
@click.option("--predictions", multiple=True, type=any_path, help="A folder that `predict` writes into.")
@cache_option
@format_option
@quiet_option
def expire(
    model_dir: Path, config: Path, predictions: tuple[Path, ...], cache: Path | None, form: str, quiet: bool
) -> None:
    """Delete cached features and predictions past their retention time.

    Run it every night. The model and the recordings stay.
    """
    from ecan_core.errors import SettingsError
    from protocol.locks import writing_alone
    from target_site.accountability.expire import expire as remove_expired
    from target_site.model.folder import CACHE_FILE, EARLIER_CACHE_FILE, read_facts
    from target_site.site_policy import read_policy

    days = read_policy(config).retention_days
    if days is None:
        raise SettingsError(f"{config} has no retention_days, so nothing expires; add how many days are allowed")
    narrator = Narrator(quiet=quiet)
    read_facts(model_dir)
    with writing_alone(model_dir):
        caches = [cache] if cache else [model_dir / CACHE_FILE, model_dir / EARLIER_CACHE_FILE]
        removed = remove_expired(caches, predictions, days=days, today=today())
        audit_log = log_of(model_dir, narrator)
        audit_log.append("expire", days=days, removed=[audit_log.pseudonym(path) for path in removed])
    if form == "json":
        click.echo(json.dumps({"removed": list(map(str, removed))}))
    for path in removed:
        narrator.say(f"removed {path}: older than {days} days")


@click.command(epilog="Example: ecan-target replay --model adapted --bundle model.ecan --audio list.csv")
@model_option
@click.option("--bundle", type=existing_file, required=True, help="The bundle that the model was adapted from.")
@click.option("--audio", type=any_path, required=True, help="The recordings that it was adapted to.")
@click.option("--keys", "keys_dir", type=existing_folder, help="Check that these keys accepted the bundle.")
@setup_options
@format_option
@quiet_option
def replay(
    model_dir: Path,
    bundle: Path,
    audio: Path,
    keys_dir: Path | None,
    setup: Setup,
    form: str,
    quiet: bool,
) -> None:
    """Adapt once more and compare the files byte for byte.

    The adaptation is repeated as the model's provenance says; the model stays as it is. Exit code 11 means that the
    files differ; the message names what was not the same.
    """
    from protocol.errors import Code, RefusedError
    from protocol.locks import writing_alone
    from target_site.accountability.replay import changed_recordings, circumstances, differing_files, order_again
    from target_site.model.folder import REPLAY, finish_replacement, read_facts, remove_tree
    from target_site.model.forgotten import read_forgotten
    from target_site.trust.acceptance import open_accepted

    narrator = Narrator(quiet=quiet)
    policy = setup.policy
    again = model_dir / REPLAY
    verified = open_accepted(bundle, keys_dir=keys_dir)
    with writing_alone(model_dir):
        finish_replacement(model_dir)
        order = order_again(
            read_facts(model_dir)["provenance"],
            bundle,
            verified,
            audio=audio,
            out=again,
            cache=setup.cache_of(model_dir),
            left_out=read_forgotten(model_dir),
            encoders=setup.encoders,
        )
        audit_log = log_of(model_dir, narrator)
        with audit_log.recorded("replay", bundle_sha256=order.sha256, audio=audit_log.pseudonym(audio)) as noted:
            remove_tree(again)
            try:
                with writing_alone(again):
                    carry_out(order, policy, setup.accepted, narrator, quiet=quiet, own=(keys_dir, setup.config))
                    finish_replacement(again)
                different, because = differing_files(model_dir, again), circumstances(model_dir, again)
                recordings = changed_recordings(model_dir, again)
            finally:
                remove_tree(again)
            noted["different"] = different
    if form == "json":
        click.echo(json.dumps({"different": different, "circumstances": because, "recordings": recordings}))
    reasons = "; ".join(because) or "nothing else that the provenance knows of"
    if different:
        raise RefusedError(
            Code.REPRO, f"{', '.join(different)} came out differently; what was not the same: {reasons}."
        )
    narrator.say(f"the same, byte for byte; what was not the same: {reasons}" if because else "the same, byte for byte")
