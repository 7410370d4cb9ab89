"""The commands of ``ecan-target``. Heavy imports happen inside the command that needs them."""

import json
import time
from pathlib import Path

import click

from ecan_core.narrator import Narrator

SECONDS_PER_DAY = 86_400
METHOD_NAMES = ("ecan", "none", "shot-im", "aad")

folder = click.Path(path_type=Path, file_okay=False)
existing_folder = click.Path(path_type=Path, exists=True, file_okay=False)
existing_file = click.Path(path_type=Path, exists=True, dir_okay=False)
SECONDS = click.IntRange(1, 31_536_000)
any_path = click.Path(path_type=Path)
quiet_option = click.option("--quiet", is_flag=True, help="Say nothing but errors.")
format_option = click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
model_option = click.option(
    "--model", "model_dir", type=existing_folder, required=True, help="Folder that `adapt` made."
)
cache_option = click.option(
    "--cache", type=any_path, help="File that keeps features between runs; default: inside the model's folder."
)


@click.command(epilog="Example: ecan-target request --keys keys --out site.request")
@click.option("--keys", "keys_dir", type=folder, required=True, help="This site's keys; made on first use.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
def request(keys_dir: Path, out: Path) -> None:
    """Write the request that a source site needs to export a model to this site.

    Prints this site's fingerprint; read it to the source site over another channel.
    """
    from target_site.request import write_request

    click.echo(write_request(keys_dir, out, today=_today()))


@click.command(
    epilog="Example: ecan-target receive --keys keys --from source.example:7443 --trust 3f9a... --out model.ecan"
)
@click.option("--keys", "keys_dir", type=existing_folder, required=True, help="This site's keys.")
@click.option("--from", "source", required=True, metavar="HOST:PORT|FILE", help="Where the bundle comes from.")
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
    )
    narrator.say(f"verified {out}: SHA-256 {verified.digest.hex()}")


@click.command(epilog="Example: ecan-target inspect --bundle model.ecan")
@click.option("--bundle", type=existing_file, required=True)
@format_option
def inspect(bundle: Path, form: str) -> None:
    """List every byte of a bundle."""
    from protocol.inspect import format_text
    from protocol.inspect import inspect as inspect_bundle

    listing = inspect_bundle(bundle)
    click.echo(json.dumps(listing) if form == "json" else format_text(listing))


@click.command(epilog="Example: ecan-target adapt --bundle model.ecan --audio recordings/ --out adapted")
@click.option("--bundle", type=existing_file, required=True, help="The bundle that `receive` verified.")
@click.option("--audio", type=any_path, required=True, help="Folder, file, pattern, or list (CSV, JSON Lines).")
@click.option(
    "--normalize",
    type=click.Choice(["none", "corpus", "speaker"]),
    help="Default: as the source did, or by corpus where no speaker is known.",
)
@click.option("--method", type=click.Choice(METHOD_NAMES), default="ecan", show_default=True)
@click.option("--config", type=existing_file, help="YAML with adaptation settings.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True)
@click.option("--keys", "keys_dir", type=existing_folder, help="Check that these keys accepted the bundle.")
@click.option("--trust", metavar="FINGERPRINT|FILE", help="With --keys: verify against this source, without a receipt.")
@cache_option
@click.option("--out", type=folder, required=True, help="Folder of the adapted model and its report.")
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
    trust: str | None,
    cache: Path | None,
    out: Path,
    form: str,
    quiet: bool,
) -> None:
    """Adapt the model to this site's own recordings, without labels.

    Exit code 14 says that the adaptation was undone because it did no good; the received model is kept and can
    be used.
    """
    from ecan_core.adapt import AdaptSettings
    from ecan_core.errors import AdaptationReverted
    from ecan_core.seeding import one_thread
    from ecan_core.select import Verdict
    from ecan_core.settings import parse_settings, read_yaml
    from protocol.inspect import inspect as inspect_bundle
    from target_site.adapt import adapt_bundle
    from target_site.receive import open_accepted

    one_thread()
    narrator = Narrator(quiet=quiet)
    settings = parse_settings(AdaptSettings, read_yaml(config) if config else {}, str(config))
    verified = open_accepted(bundle, keys_dir=keys_dir, trust=trust, today=_today())
    if keys_dir is None:
        narrator.say(
            f"received by site {verified.manifest.audience.hex()[:16]}..., signed by "
            f"{verified.manifest.issuer.hex()[:16]}...; give --keys to check that this site is yours"
        )
    judgement = adapt_bundle(
        verified,
        audio,
        out,
        crossed=inspect_bundle(bundle)["rows"],
        normalization=normalize,
        method=method,
        settings=settings,
        seed=seed,
        cache_path=cache,
        narrator=narrator,
    )
    if form == "json":
        click.echo(json.dumps({"verdict": judgement.verdict.value, "reason": judgement.reason, "model": str(out)}))
    narrator.say(f"{judgement.verdict.value}: {judgement.reason}")
    narrator.say(f"report: {out / 'report.html'}")
    if judgement.verdict is Verdict.REVERTED:
        raise AdaptationReverted(
            f"the adaptation was undone ({judgement.reason}): {out} holds the model as received; "
            "try more recordings or another --method"
        )


@click.command(epilog="Example: ecan-target predict --model adapted --audio recordings/ --out predictions")
@model_option
@click.option("--audio", type=any_path, required=True, help="Folder, file, pattern, or list (CSV, JSON Lines).")
@cache_option
@click.option("--out", type=folder, required=True, help="Folder for segments.csv and summary.json.")
@format_option
@quiet_option
def predict(model_dir: Path, audio: Path, cache: Path | None, out: Path, form: str, quiet: bool) -> None:
    """Recognize emotions with the adapted model."""
    from ecan_core.seeding import one_thread
    from target_site.adapted import CACHE_FILE, load_adapted
    from target_site.predict import predict_audio

    one_thread()
    narrator = Narrator(quiet=quiet)
    summary = predict_audio(
        load_adapted(model_dir), audio, out, cache_path=cache or model_dir / CACHE_FILE, narrator=narrator
    )
    if form == "json":
        click.echo(json.dumps(summary))
    narrator.say(f"predicted {summary['utterances']} utterances: {out / 'segments.csv'}")


@click.command(epilog="Example: ecan-target evaluate --model adapted --labels labels.csv --format json")
@model_option
@click.option("--labels", type=existing_file, required=True, help="CSV with the columns file, label, speaker.")
@cache_option
@format_option
@quiet_option
def evaluate(model_dir: Path, labels: Path, cache: Path | None, form: str, quiet: bool) -> None:
    """Measure the adapted model on labelled recordings; the labels change nothing in the model."""
    from ecan_core.seeding import one_thread
    from target_site.adapted import CACHE_FILE, load_adapted
    from target_site.evaluate import evaluate_model, format_text

    one_thread()
    evaluation = evaluate_model(
        load_adapted(model_dir),
        labels,
        model_dir,
        cache_path=cache or model_dir / CACHE_FILE,
        narrator=Narrator(quiet=quiet),
    )
    click.echo(json.dumps(evaluation) if form == "json" else format_text(evaluation))


def _today() -> int:
    return int(time.time()) // SECONDS_PER_DAY
