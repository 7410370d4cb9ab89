"""The commands of ``ecan-source federate``. Heavy imports happen inside the command that needs them."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ecan_core.narrator import Narrator
from source_site.commands import folder, format_option, quiet_option, recipes_and_paths

if TYPE_CHECKING:
    from source_site.federation.plan import Plan
    from source_site.store import RunFacts

plan_options = [
    click.option(
        "--config",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="YAML with the plan that the sites agreed on.",
    ),
    click.option("--classes", metavar="A,B,C", help="Classes to learn; default: those that all sites share."),
    click.option("--secure", is_flag=True, help="Learn the sum of the sites' networks alone; takes three sites."),
    click.option(
        "--private",
        "epsilon",
        type=click.FloatRange(0.1, 100.0),
        metavar="EPSILON",
        help="Let each site train with differential privacy.",
    ),
    click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="Of the random numbers."),
]


@click.group(epilog="Example: ecan-source federate try --site emodb=/data/emodb --site ravdess=/data/ravdess --out run")
def federate() -> None:
    """Train one network at several sites; no speech leaves any of them."""


def with_plan(command: "click.decorators.FC") -> "click.decorators.FC":
    """Add the options that make up a plan."""
    for option in reversed(plan_options):
        command = option(command)
    return command


@federate.command(
    "try", epilog="Example: ecan-source federate try --site emodb=/data/emodb --site ravdess=/data/ravdess --out run"
)
@click.option(
    "--site",
    "sites",
    multiple=True,
    required=True,
    metavar="RECIPE=PATH",
    help="A site's labelled corpus; at least two.",
)
@with_plan
@click.option("--out", type=folder, required=True, help="Folder of the trained model.")
@format_option
@quiet_option
def try_plan(
    sites: tuple[str, ...],
    config: Path | None,
    classes: str | None,
    secure: bool,
    epsilon: float | None,
    seed: int | None,
    out: Path,
    form: str,
    quiet: bool,
) -> None:
    """Try a plan out with all sites in one process; the app is the one that Flower runs between sites."""
    from ecan_core.seeding import one_thread
    from source_site.federation.trial import run_trial

    one_thread()
    named = recipes_and_paths(sites)
    plan = plan_from(config, classes, secure=secure, epsilon=epsilon, seed=seed, min_sites=len(named))
    narrator = Narrator(quiet=quiet)
    narrator.say(f"{len(named)} sites train {plan.rounds} rounds of {plan.local_epochs} epochs each")
    facts = run_trial(named, plan, out)
    tell(facts, out, form, narrator)


def plan_from(
    config: Path | None,
    classes: str | None,
    *,
    secure: bool,
    epsilon: float | None,
    seed: int | None,
    min_sites: int | None = None,
) -> "Plan":
    """The plan of a command line: the file's, and over it the options that were given.

    Raises:
        SettingsError: a setting of it is unknown or out of range.
    """
    from ecan_core.settings import parse_settings, read_yaml
    from source_site.federation.plan import Plan

    fields = read_yaml(config) if config else {}
    if classes is not None:
        fields["classes"] = [name.strip() for name in classes.split(",")]
    if secure:
        fields["secure"] = True
    given = {"epsilon": epsilon, "seed": seed, "min_sites": min_sites}
    fields |= {name: value for name, value in given.items() if value is not None}
    return parse_settings(Plan, fields, str(config or "the plan"))


def tell(facts: "RunFacts", out: Path, form: str, narrator: Narrator) -> None:
    """Say what a federation ended with."""
    from dataclasses import asdict

    if form == "json":
        click.echo(json.dumps(asdict(facts)))
    narrator.say(
        f"trained on {facts.num_utterances} utterances of {facts.num_speakers} speakers, {len(facts.classes)} classes"
    )
    if facts.quantization_loss is not None:
        narrator.say(f"UAR on held-out speakers of all sites together {100 * facts.uar_source:.1f} %")
    narrator.say(f"next: ecan-source grant --model {out} --keys KEYS --request site.request")
