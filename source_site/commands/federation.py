"""Define the commands of ``ecan-source federate``.

Heavy imports happen inside the command that needs them.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ecan_core.command_line.console import Narrator
from ecan_core.command_line.extras import require_extra
from ecan_core.command_line.node_options import coordinator_options, node_options, nodes_option
from ecan_core.command_line.options import (
    as_one,
    existing_file,
    existing_folder,
    folder,
    format_option,
    quiet_option,
    relabel_option,
)
from source_site.commands.options import recipes_and_paths
from source_site.commands.training import tell_trained

if TYPE_CHECKING:
    from source_site.federation.plan import ConsortiumPlan
    from source_site.training.run_folder import RunFacts

plan_options = as_one(
    "agreed",
    {
        "config": click.option("--config", type=existing_file, help="YAML with the plan that the sites agreed on."),
        "classes": click.option(
            "--classes", metavar="A,B,C", help="Classes to learn; default: those that all sites share."
        ),
        "secure": click.option(
            "--secure", is_flag=True, help="Learn only the sum of the sites' networks; needs three sites."
        ),
        "epsilon": click.option(
            "--private",
            "epsilon",
            type=click.FloatRange(0.1, 100.0),
            metavar="EPSILON",
            help="Let each site train with differential privacy.",
        ),
        "seed": click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="Seed of the random numbers."),
    },
)
"""What makes up a plan, as one mapping ``agreed``."""


@click.group(epilog="Example: ecan-source federate try --site emodb=/data/emodb --site ravdess=/data/ravdess --out run")
def federate() -> None:
    """Train one network at several sites; no speech leaves any of them."""


@federate.command(
    "try",
    short_help="Try a plan out in one process.",
    epilog="Example: ecan-source federate try --site emodb=/data/emodb --site ravdess=/data/ravdess --out run",
)
@click.option(
    "--site",
    "sites",
    multiple=True,
    required=True,
    metavar="RECIPE=PATH",
    help="A site's labelled corpus; at least two.",
)
@relabel_option
@plan_options
@click.option("--out", type=folder, required=True, help="Folder of the trained model.")
@format_option
@quiet_option
def try_plan(
    sites: tuple[str, ...],
    relabel: dict[str, str],
    agreed: dict[str, Any],
    out: Path,
    form: str,
    quiet: bool,
) -> None:
    """Try a plan out with all sites in one process.

    The rules that hold between sites hold here as well.
    """
    require_extra("federation")
    from ecan_core.runtime.seeding import one_thread
    from source_site.federation.trial import run_trial

    one_thread()
    named = recipes_and_paths(sites)
    plan = plan_from(**agreed, min_sites=len(named))
    narrator = Narrator(quiet=quiet)
    narrator.say(f"{len(named)} sites train {plan.rounds} rounds of {plan.local_epochs} epochs each")
    facts = run_trial(named, plan, out, relabel)
    tell(facts, out, form, narrator)


@federate.command(
    "keys",
    short_help="Make the coordinator's TLS key.",
    epilog="Example: ecan-source federate keys --host federation.example.org --out keys",
)
@coordinator_options
@quiet_option
def coordinator_keys(host: str, out: Path, quiet: bool) -> None:
    """Make the TLS key and certificate of a federation's coordinator.

    The sites know the coordinator by the certificate.
    """
    from protocol.federation.coordinator_keys import prepare_coordinator

    prepare_coordinator(out, host, announce=Narrator(quiet=quiet).say)


@federate.command(
    short_help="Coordinate the sites, to a trained run.",
    epilog="Example: ecan-source federate serve --keys keys --listen 10.0.0.1:7500 --node a.pub --node b.pub --out run",
)
@click.option("--keys", "keys_dir", type=existing_folder, required=True, help="Folder that `federate keys` made.")
@click.option("--listen", required=True, metavar="HOST:PORT", help="Where the sites reach the coordinator.")
@nodes_option
@plan_options
@click.option("--home", type=folder, help="Where Flower keeps its files; default: a folder beside the model.")
@click.option("--out", type=folder, required=True, help="Folder of the trained model.")
@format_option
@quiet_option
def serve(
    keys_dir: Path,
    listen: str,
    nodes: tuple[Path, ...],
    agreed: dict[str, Any],
    home: Path | None,
    out: Path,
    form: str,
    quiet: bool,
) -> None:
    """Coordinate a federation and write its model.

    The command waits for the sites whose nodes are named, and trains with them.

    Only the calls of these nodes are answered, and nothing that anybody sends is run.
    """
    require_extra("federation")
    from protocol.federation.quiet import keep_quiet
    from protocol.files import make_private_folder

    plan = plan_from(**agreed, min_sites=len(nodes))
    narrator, folder_of_link = Narrator(quiet=quiet), home or out.with_name(out.name + ".flower")
    make_private_folder(folder_of_link)
    keep_quiet(folder_of_link)
    from protocol.federation.superlink import coordinating  # reads these variables
    from source_site.federation.coordinator import federate as train_with
    from source_site.federation.coordinator import write_outcome

    with coordinating(keys_dir, listen, nodes, folder_of_link, announce=narrator.say) as grid:
        outcome = train_with(grid, plan)
    write_outcome(outcome, out)
    tell(outcome.facts, out, form, narrator)


@federate.command(
    short_help="Take part with one corpus.",
    epilog="Example: ecan-source federate join --to 10.0.0.1:7500 --ca ca.crt --key node.key --site csv=labels.csv",
)
@node_options
@click.option("--site", "corpus", required=True, metavar="RECIPE=PATH", help="This site's labelled corpus.")
@relabel_option
@click.option("--secure", is_flag=True, help="Take part only in masked sums.")
@click.option(
    "--max-epsilon",
    type=click.FloatRange(0.1, 100.0),
    help="Most epsilon of each utterance, over all answers of this node.",
)
@click.option(
    "--max-runs", type=click.IntRange(1, 10_000), default=10, show_default=True, help="Most runs to take part in."
)
@quiet_option
def join(
    link: dict[str, Any],
    corpus: str,
    relabel: dict[str, str],
    secure: bool,
    max_epsilon: float | None,
    max_runs: int,
    quiet: bool,
) -> None:
    """Take part in a coordinator's federations until interrupted.

    No plan can change what is said here.

    What this node has answered stands in a book beside its key, which no restart forgets.
    """
    require_extra("federation")
    from source_site.federation.joining import join_federation
    from source_site.federation.member import Rules

    [(recipe, path)] = recipes_and_paths([corpus])
    rules = Rules(secure=secure, max_epsilon=max_epsilon or 0.0, max_runs=max_runs)
    join_federation(recipe, path, relabel, rules, link, Narrator(quiet=quiet).say, quiet=quiet)


def plan_from(
    config: Path | None,
    classes: str | None,
    *,
    secure: bool,
    epsilon: float | None,
    seed: int | None,
    min_sites: int | None = None,
) -> "ConsortiumPlan":
    """Return the plan of a command line.

    It is the file's, with the options over it.

    Raises:
        SettingsError: a setting of it is unknown or out of range.
    """
    from ecan_core.settings.parse import parse_settings, read_yaml
    from source_site.federation.plan import ConsortiumPlan

    fields = read_yaml(config) if config else {}
    if classes is not None:
        fields["classes"] = [name.strip() for name in classes.split(",")]
    if secure:
        fields["secure"] = True
    given = {"epsilon": epsilon, "seed": seed, "min_sites": min_sites}
    fields |= {name: value for name, value in given.items() if value is not None}
    return parse_settings(ConsortiumPlan, fields, str(config or "the plan"))


def tell(facts: "RunFacts", out: Path, form: str, narrator: Narrator) -> None:
    """Say what a federation ended with."""
    tell_trained(facts, form, narrator)
    if facts.quantization_loss is not None:
        narrator.say(f"UAR on held-out speakers of all sites together {100 * facts.uar_source:.1f} %")
    narrator.suggest("ecan-source", "grant", "--model", out, "--keys", "KEYS", "--request", "site.request")
