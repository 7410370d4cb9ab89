"""The commands of ``ecan-source``. Heavy imports happen inside the command that needs them."""

import json
import time
from pathlib import Path

import click

from ecan_core.narrator import Narrator

SECONDS_PER_DAY = 86_400
ENCODERS = ("mlp", "tdnn")
NORMALIZATIONS = ("none", "corpus", "speaker")

folder = click.Path(path_type=Path, file_okay=False)
SECONDS = click.IntRange(1, 31_536_000)
existing_folder = click.Path(path_type=Path, exists=True, file_okay=False)
existing_file = click.Path(path_type=Path, exists=True, dir_okay=False)
quiet_option = click.option("--quiet", is_flag=True, help="Say nothing but errors.")
format_option = click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
keys_option = click.option(
    "--keys", "keys_dir", type=existing_folder, required=True, help="Folder that `keys init` made."
)


@click.group(epilog="Example: ecan-source keys init --out keys")
def keys() -> None:
    """Create this site's keys and show its fingerprint."""


@keys.command("init", epilog="Example: ecan-source keys init --out keys")
@click.option("--out", type=folder, required=True, help="Folder for the keys; must not hold any yet.")
def keys_init(out: Path) -> None:
    """Create the release key, the TLS key and the ledger of this site.

    Prints the fingerprint that target sites must know; read it to them over another channel.
    """
    from source_site.keys import init_keys

    click.echo(init_keys(out))


@keys.command("show", epilog="Example: ecan-source keys show --keys keys")
@keys_option
def keys_show(keys_dir: Path) -> None:
    """Print this site's fingerprint again."""
    from protocol.identity import load_identity

    click.echo(load_identity(keys_dir).fingerprint.hex())


@click.command(epilog="Example: ecan-source train --corpus emodb=/data/emodb --classes anger,fear --out run")
@click.option(
    "--corpus",
    "corpora",
    multiple=True,
    required=True,
    metavar="RECIPE=PATH",
    help="A labelled corpus: its recipe (emodb, ravdess, ..., csv) and where it lies; may be repeated.",
)
@click.option("--classes", metavar="A,B,C", help="Classes to learn; default: those that all corpora share.")
@click.option("--normalize", type=click.Choice(NORMALIZATIONS), default="speaker", show_default=True)
@click.option("--encoder", type=click.Choice(ENCODERS), default="mlp", show_default=True)
@click.option("--config", type=existing_file, help="YAML with training settings.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True)
@click.option("--cache", type=click.Path(path_type=Path), help="File that keeps features between runs.")
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
    out: Path,
    form: str,
    quiet: bool,
) -> None:
    """Train a model on labelled speech."""
    from dataclasses import asdict

    from ecan_core.seeding import one_thread
    from ecan_core.settings import parse_settings, read_yaml
    from ecan_core.train import TrainSettings
    from source_site.train import train_run

    one_thread()
    named = [_recipe_and_path(item) for item in corpora]
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
    )
    if form == "json":
        click.echo(json.dumps(asdict(facts)))
    narrator.say(
        f"trained on {facts.num_utterances} utterances of {facts.num_speakers} speakers, {len(facts.classes)} classes"
    )
    narrator.say(
        f"UAR on held-out speakers {100 * facts.uar_source:.1f} %"
        if facts.uar_source
        else "the recognition rate was not estimated: that takes four known speakers or more"
    )
    narrator.say(f"next: ecan-source export --model {out} --keys KEYS --request site.request ...")


@click.command(
    epilog="Example: ecan-source export --model run --keys keys --request site.request --listen 0.0.0.0:7443"
)
@click.option("--model", "run_dir", type=existing_folder, required=True, help="Folder that `train` made.")
@keys_option
@click.option("--request", "request_path", type=existing_file, required=True, help="The target's request.")
@click.option("--listen", metavar="HOST:PORT", help="Serve the bundle over gRPC, once.")
@click.option("--file", "file", type=click.Path(path_type=Path, dir_okay=False), help="Write it here instead.")
@click.option("--timeout", "timeout_s", type=SECONDS, default=86_400, help="Seconds to wait for the site.")
@format_option
@quiet_option
def export(
    run_dir: Path,
    keys_dir: Path,
    request_path: Path,
    listen: str | None,
    file: Path | None,
    timeout_s: float,
    form: str,
    quiet: bool,
) -> None:
    """Sign the model and hand it to one site, once.

    A request is good for one export. The command ends when the site has acknowledged the bundle with a signed
    receipt.
    """
    from source_site.export import export_to_file, serve_once

    if (listen is None) == (file is None):
        raise click.UsageError("give either --listen HOST:PORT or --file PATH")
    narrator = Narrator(quiet=quiet)
    today = _today()
    if file is not None:
        outcome = export_to_file(run_dir, keys_dir, request_path, file, today=today, announce=narrator.say)
    else:
        assert listen is not None
        outcome = serve_once(
            run_dir, keys_dir, request_path, listen, today=today, announce=narrator.say, timeout_s=timeout_s
        )
    if form == "json":
        click.echo(json.dumps(outcome.summary()))
    narrator.say(f"exported {outcome.num_bytes} bytes, SHA-256 {outcome.digest.hex()}")
    if outcome.receipt is None:
        narrator.say("the grant stays open until the receipt comes back: ecan-source close --receipt ...")
    else:
        narrator.say("the target verified it and sent its receipt: this grant is closed")


@click.command(epilog="Example: ecan-source inspect --bundle model.ecan")
@click.option("--bundle", type=existing_file, required=True)
@format_option
def inspect(bundle: Path, form: str) -> None:
    """List every byte of a bundle."""
    from protocol.inspect import format_text
    from protocol.inspect import inspect as inspect_bundle

    listing = inspect_bundle(bundle)
    click.echo(json.dumps(listing) if form == "json" else format_text(listing))


@click.command(epilog="Example: ecan-source close --keys keys --request site.request --receipt model.ecan.receipt")
@keys_option
@click.option("--request", "request_path", type=existing_file, required=True, help="The target's request.")
@click.option("--receipt", "receipt_path", type=existing_file, required=True, help="The receipt that came back.")
@quiet_option
def close(keys_dir: Path, request_path: Path, receipt_path: Path, quiet: bool) -> None:
    """Close the grant of a bundle that was carried by hand, with the receipt that came back."""
    from source_site.export import close_by_receipt

    outcome = close_by_receipt(keys_dir, request_path, receipt_path, today=_today())
    Narrator(quiet=quiet).say(f"the grant {outcome.grant.hex()} is closed: its bundle was verified at the target")


@click.group(epilog="Example: ecan-source ledger list --keys keys")
def ledger() -> None:
    """List what was exported, and to whom."""


@ledger.command("list", epilog="Example: ecan-source ledger list --keys keys")
@keys_option
@format_option
def ledger_list(keys_dir: Path, form: str) -> None:
    """List every grant with the release and the bundle that it was given."""
    from source_site.keys import open_ledger

    records = [
        {
            "release": record.release,
            "grant": record.grant.hex(),
            "state": record.state.value,
            "sha256": record.digest.hex(),
        }
        for record in open_ledger(keys_dir).records()
    ]
    if form == "json":
        click.echo(json.dumps(records))
        return
    for record in records:
        click.echo("{release:>6}  {grant}  {state:<9}  {sha256}".format_map(record))


def _recipe_and_path(item: str) -> tuple[str, Path]:
    recipe, separator, path = item.partition("=")
    if not separator or not recipe or not path:
        raise click.BadParameter(f"{item!r} is not RECIPE=PATH, such as emodb=/data/emodb", param_hint="--corpus")
    return recipe, Path(path)


def _today() -> int:
    return int(time.time()) // SECONDS_PER_DAY
