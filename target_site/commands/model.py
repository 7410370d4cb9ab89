"""Define the ``ecan-target`` commands that make and use a model.

Heavy imports happen inside them.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ecan_core.adaptation.settings import COMMITTEES, DEFAULT_METHOD, OFFERED, READS
from ecan_core.command_line.console import Narrator
from ecan_core.command_line.options import (
    existing_file,
    existing_folder,
    folder,
    format_option,
    quiet_option,
    relabel_option,
)
from target_site.accountability.audit_log import log_of, today
from target_site.commands.options import (
    SITE_NORMALIZATIONS,
    Setup,
    all_channels_option,
    any_path,
    config_option,
    model_option,
    policy_of,
    setup_options,
    uncontained_option,
)
from target_site.containment.orders import carry_out

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ecan_core.data.calls import Parties
    from target_site.results.days import Day
    from target_site.results.handed_labels import HandedLabel
    from target_site.results.shards import Shard
    from target_site.site_policy import SitePolicy
    from target_site.trust.remembered import Remembered

own_keys_option = click.option(
    "--keys", "keys_dir", type=existing_folder, help="Check that these keys signed it and it is not withdrawn."
)


@click.command(epilog="Example: ecan-target adapt --bundle model.ecan --audio recordings/ --out adapted")
@click.option("--bundle", type=existing_file, required=True, help="The bundle that `receive` verified.")
@click.option("--audio", type=any_path, required=True, help="Folder, file, pattern, or list (CSV, JSON Lines).")
@click.option(
    "--normalize",
    type=click.Choice(SITE_NORMALIZATIONS),
    help="How features are normalized. Default: by speaker if the source did and the list names speakers, else by "
    "voices estimated from the sound; `none` if the source did.",
)
@click.option(
    "--method",
    type=click.Choice([*COMMITTEES, *READS]),
    metavar=f"[{'|'.join(OFFERED)}]",
    default=DEFAULT_METHOD,
    show_default=True,
    help="How to adapt; docs/method.md compares them.",
)
@click.option("--research", is_flag=True, help="Also take the methods of docs/method.md that serve comparisons.")
@click.option(
    "--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Seed of the random numbers."
)
@click.option(
    "--keys", "keys_dir", type=existing_folder, help="Check that these keys accepted the bundle, and sign with them."
)
@click.option(
    "--labels",
    type=existing_file,
    help="Sheet from `sheet`, filled in, to learn from; one label in five is held back for `evaluate`.",
)
@relabel_option
@click.option("--out", type=folder, required=True, help="Folder of the adapted model and its report.")
@click.option(
    "--after", type=any_path, help="Model that this one is to follow, if it is there: whom it forgot stays forgotten."
)
@all_channels_option
@setup_options
@format_option
@quiet_option
def adapt(
    bundle: Path,
    audio: Path,
    normalize: str | None,
    method: str,
    research: bool,
    seed: int,
    keys_dir: Path | None,
    labels: Path | None,
    relabel: dict[str, str],
    out: Path,
    after: Path | None,
    all_channels: str | None,
    setup: Setup,
    form: str,
    quiet: bool,
) -> None:
    """Adapt the model to this site's own recordings, with few labels or none.

    Voices are estimated if there are at least 100 utterances and the model reads utterance statistics; otherwise the
    features are normalized by corpus.

    Exit code 14 means that the adaptation did no good and was undone; the received model is kept and can be used.
    """
    from ecan_core.adaptation.settings import AdaptSettings, check_settings, refuse_relative
    from ecan_core.adaptation.verdict import Verdict
    from ecan_core.errors import RevertedError, UsageError
    from ecan_core.model.abstention import Abstention
    from protocol.bundle.trust import USUAL_AUDIT
    from protocol.identity.passphrase import passphrase_for
    from protocol.locks import writing_alone
    from target_site.containment.orders import AdaptOrder, RememberedSite, refuse_among_recordings
    from target_site.model.current import followed
    from target_site.model.encoders import folder_for, reads_of_bundle
    from target_site.model.folder import finish_replacement
    from target_site.model.forgotten import inherited
    from target_site.trust.acceptance import open_accepted
    from target_site.trust.approval import require_approval
    from target_site.trust.own_model import sign_model
    from target_site.trust.remembered import noted_keys

    narrator = Narrator(quiet=quiet)
    policy = setup.policy
    settings = policy.adaptation if policy else AdaptSettings()
    if not research:
        refuse_relative(method)
    if relabel and labels is None:
        raise UsageError("--relabel has no effect without --labels; leave it out, or name the sheet of labels.")
    check_settings(method, settings)
    known_keys = keys_dir or noted_keys(bundle)
    verified = open_accepted(bundle, keys_dir=known_keys, audit=policy.audit if policy else USUAL_AUDIT)
    _refuse_stale(policy, known_keys, verified.manifest.issuer.hex())
    if policy is None or policy.approval == "required":
        approval = require_approval(bundle, verified, purpose=policy.purpose if policy else None)
        narrator.say(f"approved by {approval.by} for {approval.purpose}")
    if known_keys is None:
        narrator.say(
            f"received by site {verified.manifest.audience.hex()[:16]}..., signed by "
            f"{verified.manifest.issuer.hex()[:16]}...; give --keys to check that this site is yours "
            "and that the source has not withdrawn the model since"
        )
    refuse_among_recordings(out, setup.cache_of(out), audio)
    earlier = None if after is None else followed(after)
    if after is not None and earlier is None:
        narrator.say(f"there is no model at {after} yet, which could have forgotten somebody")
    reads = reads_of_bundle(verified)
    at_hand = folder_for(reads, setup.encoders)
    handed_over = () if labels is None else _read_labels(labels, relabel, method, verified.manifest.classes, narrator)
    passphrase = None if keys_dir is None else passphrase_for(keys_dir)
    with writing_alone(out):
        finish_replacement(out)
        order = AdaptOrder(
            bundle=bundle,
            sha256=verified.digest.hex(),
            audio=audio,
            parties=_parties(policy, all_channels),
            out=out,
            normalization=normalize,
            method=method,
            settings=settings,
            seed=seed,
            cache=setup.cache_of(out),
            left_out=inherited(out, earlier),
            abstention=policy.abstention if policy else Abstention(),
            encoders=at_hand,
            added_encoder=reads.added_encoder,
            labels=handed_over,
            site=RememberedSite(rules=policy, keys=known_keys and known_keys.absolute()),
        )
        audit_log = log_of(out, narrator)
        with audit_log.recorded("adapt", bundle_sha256=order.sha256, audio=audit_log.pseudonym(audio)) as noted:
            outcome = carry_out(order, policy, setup.accepted, narrator, quiet=quiet, own=(keys_dir, setup.config))
            if keys_dir is not None:
                sign_model(out, keys_dir, passphrase)
            finish_replacement(out)
            noted |= outcome
    verdict, reason = outcome["verdict"], outcome["reason"]
    if form == "json":
        click.echo(json.dumps({"verdict": verdict, "reason": reason, "model": str(out)}))
    narrator.say(f"{verdict}: {reason}")
    narrator.say(f"report: {out / 'report.html'}")
    narrator.suggest("ecan-target", "predict", "--model", out, "--audio", audio, "--out", "predictions")
    if verdict == Verdict.REVERTED:
        raise RevertedError(
            f"the adaptation was undone ({reason}): {out} holds the model as received; "
            "try more recordings or another --method"
        )
    _refuse_lost(outcome, policy, out / "report.html")


@click.command(epilog="Example: ecan-target predict --model adapted --audio recordings/ --out predictions")
@model_option
@click.option("--audio", type=any_path, required=True, help="Folder, file, pattern, or list (CSV, JSON Lines).")
@own_keys_option
@setup_options
@click.option(
    "--out", type=folder, required=True, help="Folder that gets a folder for each day; keep it from day to day."
)
@all_channels_option
@click.option(
    "--shard",
    metavar="I/N",
    callback=lambda _context, _option, text: _shard(text),
    help="Predict one share of N of the recordings; N processes may do so at once, into the same --out.",
)
@click.option("--parquet", is_flag=True, help="Also write segments.parquet; needs `pip install 'ecan-ser[parquet]'`.")
@format_option
@quiet_option
def predict(
    model_dir: Path,
    audio: Path,
    keys_dir: Path | None,
    out: Path,
    all_channels: str | None,
    shard: "Shard",
    parquet: bool,
    setup: Setup,
    form: str,
    quiet: bool,
) -> None:
    """Recognize emotions with the adapted model.

    Hears what is new since the last run with the same --out, and writes it into the folder of the day (UTC): one line
    per utterance with its class and its scores, and a page with a line per recording. Recordings that cannot be used
    are listed with the reason. Features are kept between runs only where --cache is given.
    """
    from ecan_core.errors import EcanError
    from ecan_core.model.abstention import Abstention
    from protocol.errors import ContainmentError, ProtocolError
    from target_site.containment.orders import PredictOrder, refuse_among_recordings
    from target_site.model.encoders import folder_of_model
    from target_site.model.folder import reads_of
    from target_site.model.forgotten import read_forgotten
    from target_site.report.days import commit, finish_runs
    from target_site.results.parquet import require_parquet
    from target_site.results.runs import CACHE, hearing_alone

    if parquet:
        require_parquet()
    narrator = Narrator(quiet=quiet)
    site = _usable(model_dir, setup.policy, _parties(setup.policy, all_channels), keys_dir, narrator)
    policy = site.rules
    refuse_among_recordings(out, setup.cache or out / CACHE, audio)
    with hearing_alone(out, shard) as run:
        finish_runs(out, read_forgotten(model_dir), run)
        order = PredictOrder(
            model=model_dir,
            audio=audio,
            parties=site.parties,
            out=run,
            index=out,
            shard=shard,
            day=today(),
            cache=setup.cache or run / CACHE,
            abstention=policy.abstention if policy else Abstention(),
            encoders=folder_of_model(model_dir, setup.encoders),
            added_encoder=reads_of(model_dir).added_encoder,
            left_out=read_forgotten(model_dir),
        )
        audit_log = log_of(model_dir if shard.is_whole else out, narrator)
        with audit_log.recorded("predict", audio=audit_log.pseudonym(audio), out=audit_log.pseudonym(out)) as noted:

            def keep() -> "Day | None":
                its_day = range(order.day, order.day + 1)
                return commit(out, run, read_forgotten(model_dir), days=its_day, with_parquet=parquet)

            try:
                counts = carry_out(order, policy, setup.accepted, narrator, quiet=quiet, own=(keys_dir, setup.config))
            except ContainmentError:
                with suppress(EcanError, ProtocolError):  # what was predicted is kept; what was tried is told first
                    keep()
                raise
            day = keep()
            noted |= {name: counts[name] for name in ("utterances", "forgotten")}
    _say_predicted(counts, day, narrator, form)
    _refuse_nothing(counts)
    _refuse_lost(counts, policy, day.folder / "summary.json" if day else out)


def _shard(text: str | None) -> "Shard":
    """Read which share of the recordings is meant; all of them by default."""
    from target_site.results.shards import WHOLE, parse_shard

    return WHOLE if text is None else parse_shard(text)


def _say_predicted(counts: "Mapping[str, Any]", day: "Day | None", narrator: Narrator, form: str) -> None:
    """Tell what a run has predicted, and what its day needs."""
    folder = None if day is None else day.folder
    if form == "json":
        click.echo(json.dumps({**counts, "folder": folder and str(folder), "advice": day.advice if day else ""}))
    if counts["still_lost"]:
        narrator.say(f"{counts['still_lost']} recordings that were lost before still cannot be heard")
    if folder is None:
        narrator.say(f"nothing new since the last run ({counts['known']} recordings are known)")
        return
    known = f" ({counts['known']} recordings were known)" if counts["known"] else ""
    narrator.say(
        f"predicted {counts['utterances']} utterances of {counts['recordings']} recordings, {counts['abstained']} "
        f"of them too uncertain to tell{known}: {folder / 'segments.csv'}"
    )
    narrator.say(f"the page of the day: {folder / 'day.html'}")
    if day is not None and day.advice:
        narrator.say(day.advice)


def _refuse_nothing(counts: "Mapping[str, Any]") -> None:
    """Refuse to end well where there were recordings and none was used."""
    from ecan_core.errors import NothingUsableError

    if counts["nothing_usable"]:
        raise NothingUsableError(counts["nothing_usable"])


@click.command(epilog="Example: ecan-target evaluate --model adapted --labels labels.csv --format json")
@model_option
@click.option("--labels", type=existing_file, required=True, help="CSV with the columns file, label, speaker.")
@relabel_option
@own_keys_option
@setup_options
@format_option
@quiet_option
def evaluate(
    model_dir: Path,
    labels: Path,
    relabel: dict[str, str],
    keys_dir: Path | None,
    setup: Setup,
    form: str,
    quiet: bool,
) -> None:
    """Measure the adapted model on labelled recordings.

    The labels change nothing in the model.
    """
    from protocol.locks import writing_alone
    from target_site.containment.orders import EvaluateOrder, refuse_among_recordings
    from target_site.model.encoders import folder_of_model
    from target_site.model.folder import finish_replacement, reads_of
    from target_site.model.forgotten import read_forgotten
    from target_site.report.evaluation import format_text

    narrator = Narrator(quiet=quiet)
    policy = _usable(model_dir, setup.policy, None, keys_dir, narrator).rules
    refuse_among_recordings(model_dir, setup.cache_of(model_dir), labels)
    with writing_alone(model_dir):
        finish_replacement(model_dir)
        order = EvaluateOrder(
            model=model_dir,
            labels=labels,
            cache=setup.cache_of(model_dir),
            encoders=folder_of_model(model_dir, setup.encoders),
            added_encoder=reads_of(model_dir).added_encoder,
            relabel=relabel,
            left_out=read_forgotten(model_dir),
        )
        audit_log = log_of(model_dir, narrator)
        with audit_log.recorded("evaluate", labels=audit_log.pseudonym(labels)) as noted:
            evaluation = carry_out(order, policy, setup.accepted, narrator, quiet=quiet, own=(keys_dir, setup.config))
            noted["utterances"] = evaluation["n"]
    click.echo(json.dumps(evaluation) if form == "json" else format_text(evaluation))


@click.command(epilog="Example: ecan-target onnx --model adapted --out exported")
@model_option
@own_keys_option
@config_option
@click.option("--out", type=folder, required=True, help="Folder for model.onnx.")
@uncontained_option
@format_option
@quiet_option
def onnx(
    model_dir: Path,
    keys_dir: Path | None,
    config: Path | None,
    out: Path,
    accepted: str | None,
    form: str,
    quiet: bool,
) -> None:
    """Write the adapted model as an ONNX file for other programs.

    The file takes features, which the front end computes of an utterance, and not sound; it answers with calibrated
    scores. It is the network behind the front end: a public encoder is not in it. It was learned from this site's
    recordings: protect it as you protect them. Needs `pip install 'ecan-ser[onnx]'`.
    """
    from ecan_core.command_line.extras import require_extra
    from protocol.locks import writing_alone
    from target_site.containment.orders import OnnxOrder

    require_extra("onnx")
    narrator = Narrator(quiet=quiet)
    policy = _usable(model_dir, policy_of(config), None, keys_dir, narrator).rules
    with writing_alone(out):
        audit_log = log_of(model_dir, narrator)
        with audit_log.recorded("onnx", out=audit_log.pseudonym(out)):
            outcome = carry_out(
                OnnxOrder(model=model_dir, out=out), policy, accepted, narrator, quiet=quiet, own=(keys_dir, config)
            )
    if form == "json":
        click.echo(json.dumps(outcome))
    narrator.say(f"scores differ from the model's by at most {outcome['difference']:.1e}: {out / 'model.onnx'}")


def _read_labels(
    sheet: Path, relabel: "Mapping[str, str]", method: str, classes: Sequence[str], narrator: Narrator
) -> "tuple[HandedLabel, ...]":
    """Read what a person wrote into a sheet, and say what becomes of it."""
    from ecan_core.adaptation.settings import refuse_without_labels
    from target_site.results.label_sheet import read_sheet

    refuse_without_labels(method)
    filled = read_sheet(sheet, classes, relabel)
    narrator.say(f"{len(filled.learned)} labels to learn from, {filled.num_held_back} held back for `evaluate`")
    if filled.num_other:
        narrator.say(f"{filled.num_other} labels are no class of this model and were left out")
    return filled.learned


@click.command(epilog="Example: ecan-target sheet --model adapted --predictions predictions --out sheet.csv")
@model_option
@click.option(
    "--predictions", type=existing_folder, required=True, help="Folder that `predict` wrote into, or that of a day."
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="File for the sheet (CSV).")
@click.option("--count", type=click.IntRange(1, 100_000), default=50, show_default=True, help="Utterances to label.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Seed of the draw.")
@quiet_option
def sheet(model_dir: Path, predictions: Path, out: Path, count: int, seed: int, quiet: bool) -> None:
    """Draw utterances for a person to label.

    Every class and every degree of confidence has its share. The predictions are not shown. When the sheet is filled
    in, read it with `ecan-target evaluate --labels SHEET`.
    """
    from target_site.model.folder import read_facts
    from target_site.results.days import current_segments
    from target_site.results.label_sheet import draw, write_sheet

    narrator = Narrator(quiet=quiet)
    classes = read_facts(model_dir)["card"]["classes"]
    drawn = draw(current_segments(predictions), classes, count, seed)
    write_sheet(out, drawn)
    audit_log = log_of(model_dir, narrator)
    audit_log.append("sheet", out=audit_log.pseudonym(out), utterances=len(drawn))
    narrator.say(f"fill in the column label of {out}; how well the model does is then measured by it")
    narrator.suggest("ecan-target", "evaluate", "--model", model_dir, "--labels", out)


def _refuse_lost(counts: "Mapping[str, Any]", policy: "SitePolicy | None", where: Path) -> None:
    """Refuse to end well where too many recordings were lost.

    The rules say how many. What was made of the others is there.
    """
    from ecan_core.errors import LostError
    from target_site.site_policy import MOST_LOST

    most = policy.most_lost if policy else MOST_LOST
    lost, recordings = counts["lost"], counts["recordings"]
    if lost > most * recordings:
        raise LostError(
            f"{lost} of {recordings} recordings were lost, more than {100 * most:g} %; the others are done: mend or "
            f"remove those that {where} names, or set most_lost in the site's rules."
        )


def _parties(policy: "SitePolicy | None", all_channels: str | None) -> "Parties | None":
    """Return who speaks on which channel.

    The rules say it, or a person does without them.
    """
    from ecan_core.data.calls import Parties
    from ecan_core.errors import UsageError

    if policy is not None and all_channels is not None:
        raise UsageError("--all-channels has no effect beside rules; write mixed_because into them instead.")
    if policy is not None:
        return policy.parties
    return None if all_channels is None else Parties(roles=(), mixed_because=all_channels)


def _usable(
    model_dir: Path,
    policy: "SitePolicy | None",
    parties: "Parties | None",
    keys_dir: Path | None,
    narrator: Narrator,
) -> "Remembered":
    """Return what a model remembers, unless it must not be used.

    It must not if it is not this site's own or was withdrawn. That is checked with the keys that it was adapted with,
    also where nobody names them.
    """
    from target_site.model.folder import read_facts
    from target_site.trust.acceptance import refuse_withdrawn
    from target_site.trust.own_model import require_own_model
    from target_site.trust.remembered import remembered

    provenance = read_facts(model_dir)["provenance"]
    if keys_dir is not None:
        require_own_model(model_dir, keys_dir)
    site = remembered(provenance, policy, parties, keys_dir)
    if site.keys is None:
        narrator.say("the keys that the model was received with are not here; give --keys to check its withdrawal")
    else:
        refuse_withdrawn(site.keys, provenance)
    _refuse_stale(site.rules, site.keys, str(provenance.get("issuer", "")))
    return site


def _refuse_stale(policy: "SitePolicy | None", keys_dir: Path | None, issuer: str) -> None:
    """Refuse a source whose revocation list is older than the rules allow."""
    from target_site.trust.freshness import refuse_stale

    if policy is not None and policy.oldest_revocations_days is not None:
        oldest_days = policy.oldest_revocations_days
        refuse_stale(keys_dir, bytes.fromhex(issuer), oldest_days=oldest_days, today=today())
