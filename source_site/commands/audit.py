"""Define the commands of ``ecan-source`` that examine a trained model.

Heavy imports happen inside the command.
"""

import json
from pathlib import Path

import click

from ecan_core.command_line.console import Narrator
from ecan_core.command_line.options import (
    encoders_option,
    existing_file,
    existing_folder,
    folder,
    format_option,
    quiet_option,
    relabel_option,
)
from source_site.commands.options import corpora_option, recipes_and_paths

cache_option = click.option(
    "--cache", type=click.Path(path_type=Path), help="File that keeps features between runs; default: the run's own."
)


@click.command(epilog="Example: ecan-source audit --model run --corpus emodb=/data/emodb")
@click.option("--model", "run_dir", type=existing_folder, required=True, help="Folder that `train` made.")
@corpora_option
@relabel_option
@click.option(
    "--models",
    "num_models",
    type=click.IntRange(8, 4096),
    default=64,
    show_default=True,
    help="Networks to train for the attacks.",
)
@click.option("--seed", type=click.IntRange(0, 2**20), default=0, show_default=True, help="Seed of the audit.")
@cache_option
@encoders_option
@format_option
@quiet_option
def audit(
    run_dir: Path,
    corpora: tuple[str, ...],
    relabel: dict[str, str],
    num_models: int,
    seed: int,
    cache: Path | None,
    encoders: Path | None,
    form: str,
    quiet: bool,
) -> None:
    """Attack the model as its receivers could, and report the leakage.

    Writes audit.json and audit.html beside the model. Trains networks as the model was trained, each on a random half
    of the corpus, and measures how well attacks find the utterances of the training. The first line of the report is
    a smoke alarm: whether the loss alone finds them, without other networks. An interrupted audit continues when you
    run the command again. The report stays on this machine and names the weights it is about.
    """
    from dataclasses import asdict

    from ecan_core.runtime.seeding import one_thread
    from protocol.files import write_atomic
    from source_site.audit.page import format_html
    from source_site.audit.report import AUDIT_FILE, PAGE_FILE, lines
    from source_site.audit.run import audit_run
    from source_site.audit.tiers import ASKED, alarm, cleared, findings, highest_tier

    one_thread()
    narrator = Narrator(quiet=quiet)
    report = audit_run(
        run_dir,
        recipes_and_paths(corpora),
        num_models=num_models,
        seed=seed,
        cache_path=cache,
        narrator=narrator,
        encoders=encoders,
        relabel=relabel or None,
    )
    write_atomic(run_dir / PAGE_FILE, format_html(report).encode())
    told = (f"alarm      {alarm(report)}", *lines(report))
    click.echo(json.dumps(asdict(report)) if form == "json" else "\n".join(told))
    tier = highest_tier(report)
    for finding in [] if tier + 1 not in ASKED else findings(report, tier + 1):
        narrator.say(f"tier {tier + 1}: {finding.why}")
    narrator.say(f"the model {cleared(tier)}")
    narrator.say(f"written to {run_dir / AUDIT_FILE} and {PAGE_FILE} after {report.seconds:.0f} s; neither leaves")


@click.command(epilog="Example: ecan-source reproduce --model run --corpus emodb=/data/emodb")
@click.option("--model", "run_dir", type=existing_folder, required=True, help="Folder that `train` made.")
@corpora_option
@relabel_option
@click.option("--config", type=existing_file, help="YAML with training settings; default: those of the run.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="Seed of the training; default: that of the run.")
@click.option("--threads", type=click.IntRange(1, 64), default=1, show_default=True, help="Threads to compute with.")
@cache_option
@encoders_option
@format_option
@quiet_option
def reproduce(
    run_dir: Path,
    corpora: tuple[str, ...],
    relabel: dict[str, str],
    config: Path | None,
    seed: int | None,
    threads: int,
    cache: Path | None,
    encoders: Path | None,
    form: str,
    quiet: bool,
) -> None:
    """Train the model again and compare the bytes that would leave.

    Run this as a second person. The same corpora, settings, seed and threads on the same kind of processor give the
    same bytes; then the first person cannot have hidden anything in them. Otherwise the command says what differs and
    ends with exit code 11.
    """
    from dataclasses import asdict

    import torch

    from ecan_core.settings.parse import parse_settings, read_yaml
    from ecan_core.training.train import TrainSettings
    from protocol.errors import Code, RefusedError
    from source_site.training.reproduce import reproduce as train_again

    torch.set_num_threads(threads)
    found = train_again(
        run_dir,
        recipes_and_paths(corpora),
        settings=parse_settings(TrainSettings, read_yaml(config), str(config)) if config else None,
        seed=seed,
        cache_path=cache,
        narrator=Narrator(quiet=quiet),
        encoders=encoders,
        relabel=relabel or None,
    )
    click.echo(json.dumps(asdict(found) | {"holds": found.holds}) if form == "json" else "\n".join(found.lines()))
    if not found.holds:
        why = "; ".join(found.differences) or "nothing that the record lists differs: the file was changed afterwards"
        raise RefusedError(Code.REPRO, f"A second training gives other bytes ({why}); find out why before you export.")


@click.command(epilog="Example: ecan-source cards --model run --out papers")
@click.option("--model", "run_dir", type=existing_folder, required=True, help="Folder that `train` made.")
@click.option("--out", type=folder, required=True, help="Folder for the files.")
@quiet_option
def cards(run_dir: Path, out: Path, quiet: bool) -> None:
    """Write a model card, a data sheet and a machine-learning BOM.

    The bill of materials (BOM) has the form CycloneDX 1.6. All three are written from the run and its audit. They may
    be sent with a bundle: they say no more about the corpus than its manifest does. Fill in the parts that the tool
    cannot know.
    """
    from source_site.audit.cards import write_cards

    narrator = Narrator(quiet=quiet)
    for path in write_cards(run_dir, out):
        narrator.say(f"written: {path}")
