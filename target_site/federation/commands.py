"""``ecan-target node`` and ``ecan-target together``. Heavy imports happen inside the command that needs them."""

import json
from pathlib import Path
from typing import Any

import click

from ecan_core.narrator import Narrator
from ecan_core.node_options import coordinator_options, node_options
from target_site.commands import (
    any_path,
    existing_file,
    existing_folder,
    folder,
    format_option,
    keys_option,
    quiet_option,
)
from target_site.model_commands import NORMALIZATIONS

APP = Path(__file__).with_name("together_app")
"""The Flower app of a model that several sites adapt together."""


@click.command(
    epilog="Example: ecan-target node --to 10.0.0.1:7500 --ca ca.crt --key node.key --keys keys --trust 3f9a... --out m"
)
@node_options
@click.option("--keys", "keys_dir", type=existing_folder, required=True, help="This site's keys.")
@click.option("--trust", required=True, metavar="FINGERPRINT", help="The source's fingerprint.")
@click.option("--audio", default="", help="Recordings to adapt to; without them the bundle is received alone.")
@click.option("--config", type=existing_file, help="This site's rules.")
@click.option("--tell", default="accepted,verdict", show_default=True, help="What is answered besides the receipt.")
@click.option("--out", type=folder, required=True, help="Folder for the bundle and the adapted model.")
@quiet_option
def node(
    link: dict[str, Any],
    keys_dir: Path,
    trust: str,
    audio: str,
    config: Path | None,
    tell: str,
    out: Path,
    quiet: bool,
) -> None:
    """Be one of a source's fleet until interrupted: take bundles that were sealed to this site.

    The process that speaks to the source opens no recording. It answers with this site's receipt and what --tell says.
    """
    from protocol import engine

    settings = {
        "keys": keys_dir.resolve(),
        "trust": trust,
        "out": out.resolve(),
        "audio": str(Path(audio).resolve()) if audio else "",
        "config": str(config.resolve()) if config else "",
        "tell": tell,
    }
    engine.join(settings, **link, announce=Narrator(quiet=quiet).say)


@click.group(epilog="Example: ecan-target together serve --federation ward --listen 10.0.0.1:7600 --node a.pub ...")
def together() -> None:
    """Adapt one model together with other sites of the same operator; no recording leaves any of them."""


@together.command(
    "keys",
    short_help="Make the coordinator's TLS key.",
    epilog="Example: ecan-target together keys --host 10.0.0.1 --out ward",
)
@coordinator_options
@quiet_option
def coordinator_keys(host: str, out: Path, quiet: bool) -> None:
    """Make the coordinator's TLS key and the certificate that its sites know it by."""
    from protocol import engine

    engine.prepare_coordinator(out, host, announce=Narrator(quiet=quiet).say)


@together.command(
    short_help="Coordinate the sites, round by round.",
    epilog="Example: ecan-target together serve --federation ward --listen 10.0.0.1:7600 --node a.pub --node b.pub ...",
)
@click.option("--federation", "link_dir", type=existing_folder, required=True, help="Folder of `together keys`.")
@click.option("--listen", required=True, metavar="HOST:PORT", help="Where the sites reach the coordinator.")
@click.option("--node", "nodes", type=existing_file, multiple=True, required=True, help="A node's key; repeat it.")
@click.option("--rounds", type=click.IntRange(1, 1000), default=5, show_default=True, help="Updates of each site.")
@click.option("--epochs", type=click.IntRange(1, 1000), default=3, show_default=True, help="Of a round.")
@click.option("--seed", type=click.IntRange(0, 2**20), default=0, show_default=True)
@click.option("--plain", is_flag=True, help="Learn every site's update and not their sum alone, which takes three.")
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
    """Coordinate sites that adapt one model: wait for those whose nodes are named, and average their updates.

    The coordinator needs neither recordings nor the model, and keeps neither.
    """
    from dataclasses import asdict

    from protocol.engine import coordinator
    from target_site.federation.together import Plan

    plan = Plan(rounds=rounds, epochs=epochs, seed=seed, secure=not plain, sites=len(nodes))
    narrator = Narrator(quiet=quiet)
    outcome = home / "together.json"
    with coordinator(link_dir, listen, home) as link:
        for public in nodes:
            link.register(public)
        narrator.say(f"waiting for {len(nodes)} sites at {listen}")
        link.wait(link.start(APP, {"plan": json.dumps(asdict(plan)), "out": outcome.resolve()}))
    told = json.loads(outcome.read_text())
    if form == "json":
        click.echo(json.dumps(told))
    narrator.say(f"{told['have_the_model']} of {told['sites']} sites have the model")


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
@click.option("--normalize", type=click.Choice(NORMALIZATIONS), help="As for `adapt`.")
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
    """Take part until interrupted. What leaves is how the model's weights would change, if the site's rules allow it.

    The process that speaks to the coordinator opens no recording. `ecan-target inspect --left` lists what left.
    """
    from protocol import engine
    from target_site.federation.member import Member, terms_of

    member = Member(
        keys=keys_dir.resolve(),
        bundle=bundle.resolve(),
        audio=audio.absolute(),
        config=config.resolve(),
        out=out.resolve(),
        normalization=normalize or "",
    )
    terms_of(member)
    engine.join(vars(member), **link, announce=Narrator(quiet=quiet).say)
