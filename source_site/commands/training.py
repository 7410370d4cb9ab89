"""Train a model: ``ecan-source train``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ecan_core.command_line.console import Narrator
from ecan_core.command_line.options import (
    as_one,
    encoders_option,
    existing_file,
    folder,
    format_option,
    quiet_option,
    relabel_option,
)
from protocol.bundle.architecture import NORMALIZATIONS
from source_site.commands.options import corpora_option, recipes_and_paths

if TYPE_CHECKING:
    from source_site.training.run_folder import RunFacts


ENCODERS = ("mlp", "tdnn")


privacy_options = as_one(
    "promise",
    {
        "epsilon": click.option(
            "--private",
            "epsilon",
            type=click.FloatRange(0.1, 100.0),
            metavar="EPSILON",
            help="Train with differential privacy; smaller protects more, and 8 hides most of an utterance's trace.",
        ),
        "unit": click.option(
            "--private-unit",
            "unit",
            type=click.Choice(["utterance", "speaker"]),
            default="utterance",
            show_default=True,
            help="What --private protects; to protect speakers takes about 500 of them.",
        ),
    },
)
"""What a private training is to promise, as one mapping ``promise``."""


@click.command(epilog="Example: ecan-source train --corpus emodb=/data/emodb --classes anger,fear --out run")
@corpora_option
@relabel_option
@click.option("--classes", metavar="A,B,C", help="Classes to learn; default: those that all corpora share.")
@click.option(
    "--normalize",
    type=click.Choice(NORMALIZATIONS),
    default="speaker",
    show_default=True,
    help="How features are normalized.",
)
@click.option("--encoder", type=click.Choice(ENCODERS), default="mlp", show_default=True, help="Kind of network.")
@click.option(
    "--front-end",
    metavar="NAME",
    default="auto",
    show_default=True,
    help="What the network reads: stats-v1, stats-whisper-v1, or an added encoder as `encoder list` calls it; "
    "auto: stats-whisper-v1 where its public encoder is here, else stats-v1.",
)
@encoders_option
@click.option(
    "--telephone",
    is_flag=True,
    help="Learn each utterance twice, once as a telephone gives it; for models that will hear calls.",
)
@click.option("--config", type=existing_file, help="YAML with training settings.")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    default=0,
    show_default=True,
    help="Seed of the random numbers; the same seed trains the same model.",
)
@click.option("--cache", type=click.Path(path_type=Path), help="File that keeps features between runs.")
@privacy_options
@click.option("--out", type=folder, required=True, help="Folder of the trained model.")
@format_option
@quiet_option
def train(
    corpora: tuple[str, ...],
    relabel: dict[str, str],
    classes: str | None,
    normalize: str,
    encoder: str,
    front_end: str,
    encoders: Path | None,
    telephone: bool,
    config: Path | None,
    seed: int,
    cache: Path | None,
    promise: dict[str, Any],
    out: Path,
    form: str,
    quiet: bool,
) -> None:
    """Train a model on labelled speech."""
    from ecan_core.runtime.seeding import one_thread
    from ecan_core.settings.parse import parse_settings, read_yaml
    from ecan_core.training.train import TrainSettings
    from source_site.training.front_end import choose_network
    from source_site.training.train import train_run

    one_thread()
    named = recipes_and_paths(corpora)
    settings = parse_settings(TrainSettings, read_yaml(config) if config else {}, str(config))
    narrator = Narrator(quiet=quiet)
    reading = choose_network(encoder, front_end, encoders)
    if reading.lost:
        narrator.say(reading.lost)
    facts = train_run(
        named,
        out,
        classes=None if classes is None else [name.strip() for name in classes.split(",")],
        normalization=normalize,
        encoder=reading.network,
        settings=settings,
        seed=seed,
        cache_path=cache,
        narrator=narrator,
        **promise,
        encoders=encoders,
        added_encoder=reading.added_encoder,
        telephone=telephone,
        relabel=relabel,
    )
    tell_trained(facts, form, narrator)
    loss = facts.quantization_loss
    narrator.say(
        "the recognition rate and what quantization costs were not estimated: that takes four known speakers or more"
        if loss is None
        else f"UAR on held-out speakers {100 * facts.uar_source:.1f} %, "
        f"{100 * abs(loss):.1f} points {'gained' if loss < 0 else 'lost'} by quantization"
    )
    if promise["epsilon"] is not None:
        from source_site.training.record import load_record
        from source_site.training.run_folder import load_run

        promised = load_record(out, load_run(out)).promise
        if promised is not None:
            narrator.say(
                f"private: epsilon {promised.epsilon:.2f} at delta {promised.delta:.1e} per {promised.unit}, "
                "for what the network learned; the statistics that speech is normalized by stay here and do not count"
            )
    exporting = ("--model", out, "--keys", "KEYS", "--request", "site.request", "--listen", "HOST:PORT")
    narrator.suggest("ecan-source", "export", *exporting)


def tell_trained(facts: "RunFacts", form: str, narrator: Narrator) -> None:
    """Report what a training ended with, to machines and people."""
    from dataclasses import asdict

    if form == "json":
        click.echo(json.dumps(asdict(facts)))
    narrator.say(
        f"trained on {facts.num_utterances} utterances of {facts.num_speakers} speakers, {len(facts.classes)} classes"
    )
