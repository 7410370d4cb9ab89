"""``ecan-target node``. Heavy imports happen inside the command that needs them."""

from pathlib import Path
from typing import Any

import click

from ecan_core.narrator import Narrator
from ecan_core.node_options import node_options
from target_site.commands import existing_file, existing_folder, folder, quiet_option


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
