"""Define the commands of ``ecan-target together``.

Heavy imports happen inside the command that needs them.
"""

import json
from pathlib import Path
from typing import Any

import click

from ecan_core.command_line.console import Narrator
from ecan_core.command_line.extras import require_extra
from ecan_core.command_line.node_options import coordinator_options, node_options, nodes_option
from ecan_core.command_line.options import existing_file, existing_folder, folder, format_option, quiet_option
from target_site.commands.options import SITE_NORMALIZATIONS, any_path, keys_option


@click.group(epilog="Example: ecan-target together serve --federation ward --listen 10.0.0.1:7600 --node a.pub ...")
def together() -> None:
    """Adapt one model together with other sites of the same operator.

    No recording leaves any of them.
    """


@together.command(
    "keys",
    short_help="Make the coordinator's TLS key.",
    epilog="Example: ecan-target together keys --host 10.0.0.1 --out ward",
)
@coordinator_options
@quiet_option
def coordinator_keys(host: str, out: Path, quiet: bool) -> None:
    """Make the TLS key and certificate of the coordinator.

    Its sites know it by the certificate.
    """
    from protocol.federation.coordinator_keys import prepare_coordinator

    prepare_coordinator(out, host, announce=Narrator(quiet=quiet).say)


@together.command(
    short_help="Coordinate the sites, round by round.",
    epilog="Example: ecan-target together serve --federation ward --listen 10.0.0.1:7600 --node a.pub --node b.pub ...",
)
@click.option("--federation", "link_dir", type=existing_folder, required=True, help="Folder of `together keys`.")
@click.option("--listen", required=True, metavar="HOST:PORT", help="Where the sites reach the coordinator.")
@nodes_option
@click.option("--rounds", type=click.IntRange(1, 1000), default=5, show_default=True, help="Updates of each site.")
@click.option("--epochs", type=click.IntRange(1, 1000), default=3, show_default=True, help="Epochs of each round.")
@click.option("--seed", type=click.IntRange(0, 2**20), default=0, show_default=True, help="Seed of the random numbers.")
@click.option(
    "--plain", is_flag=True, help="Learn every site's update; without it only their sum, which needs three sites."
)
@click.option(
    "--home", type=folder, default=Path("together-home"), show_default=True, help="Where Flower keeps its files."
)
@format_option
@quiet_option
def serve(
    link_dir: Path,
    listen: str,
    nodes: tuple[Path, ...],
    rounds: int,
    epochs: int,
    seed: int,
    plain: bool,
    home: Path,
    form: str,
    quiet: bool,
) -> None:
    """Coordinate sites that adapt one model, and average their updates.

    The command waits for the sites whose nodes are named.

    The coordinator needs neither recordings nor the model, and keeps neither. Only the calls of these nodes are
    answered, and nothing that anybody sends is run.
    """
    require_extra("federation")
    from protocol.federation.quiet import keep_quiet
    from protocol.files import make_private_folder

    make_private_folder(home)
    keep_quiet(home)
    from protocol.federation.superlink import coordinating  # reads these variables
    from target_site.federation.coordinator import TogetherPlan, adapt_together

    plan = TogetherPlan(rounds=rounds, epochs=epochs, seed=seed, secure=not plain, sites=len(nodes))
    narrator = Narrator(quiet=quiet)
    with coordinating(link_dir, listen, nodes, home, announce=narrator.say) as grid:
        done = adapt_together(grid, plan)
    if form == "json":
        click.echo(json.dumps({"sites": plan.sites, "have_the_model": done}))
    narrator.say(f"{done} of {plan.sites} sites have the model")


@together.command(
    epilog="Example: ecan-target together join --to 10.0.0.1:7600 --ca ca.crt --key node.key --keys keys "
    "--bundle model.ecan --audio recordings/ --config site.yaml --out adapted"
)
@node_options
@keys_option
@click.option("--bundle", type=existing_file, required=True, help="The bundle that `receive` verified.")
@click.option("--audio", type=any_path, required=True, help="Folder, file, pattern, or list (CSV, JSON Lines).")
@click.option(
    "--config", type=existing_file, required=True, help="This site's rules, which say under `together` what may leave."
)
@click.option(
    "--normalize", type=click.Choice(SITE_NORMALIZATIONS), help="How features are normalized, as for `adapt`."
)
@click.option("--out", type=folder, required=True, help="Folder of the adapted model and its report.")
@quiet_option
def join(
    link: dict[str, Any],
    keys_dir: Path,
    bundle: Path,
    audio: Path,
    config: Path,
    normalize: str | None,
    out: Path,
    quiet: bool,
) -> None:
    """Take part in the adaptation of a common model until interrupted.

    What leaves is how the model's weights would change, if the site's rules allow it.

    The process that speaks to the coordinator opens no recording. `ecan-target inspect --left` lists what left.
    """
    require_extra("federation")
    from target_site.federation.joining import join_together
    from target_site.federation.member import Setting

    setting = Setting(
        keys=keys_dir.resolve(),
        bundle=bundle.resolve(),
        audio=audio.absolute(),
        config=config.resolve(),
        out=out.resolve(),
        normalization=normalize or "",
        accepted=link["accepted"],
    )
    join_together(setting, link, Narrator(quiet=quiet).say)
