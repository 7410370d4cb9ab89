"""``ecan-target node``. Heavy imports happen inside the command that needs them."""

from pathlib import Path

import click

from target_site.commands import existing_file, existing_folder, folder


@click.command(
    epilog="Example: ecan-target node --to 10.0.0.1:7500 --ca ca.crt --key node.key --keys keys --trust 3f9a... --out m"
)
@click.option("--to", "address", required=True, metavar="HOST:PORT", help="The source's SuperLink.")
@click.option("--ca", type=existing_file, required=True, help="Its ca.crt.")
@click.option(
    "--key", type=click.Path(path_type=Path, dir_okay=False), required=True, help="This node's key; made on first use."
)
@click.option("--keys", "keys_dir", type=existing_folder, required=True, help="This site's keys.")
@click.option("--trust", required=True, metavar="FINGERPRINT", help="The source's fingerprint.")
@click.option("--audio", default="", help="Recordings to adapt to; without them the bundle is received alone.")
@click.option("--config", type=existing_file, help="This site's rules.")
@click.option("--tell", default="accepted,verdict", show_default=True, help="What is answered besides the receipt.")
@click.option("--out", type=folder, required=True, help="Folder for the bundle and the adapted model.")
@click.option("--home", type=folder, default=Path("node-home"), show_default=True, help="Where the node keeps files.")
@click.option("--runtime-port", type=click.IntRange(1, 65535), default=9094, show_default=True, help="On loopback.")
@click.option(
    "--patience", "patience_s", type=float, default=90.0, show_default=True, help="Seconds to try to be let in."
)
def node(
    address: str,
    ca: Path,
    key: Path,
    keys_dir: Path,
    trust: str,
    audio: str,
    config: Path | None,
    tell: str,
    out: Path,
    home: Path,
    runtime_port: int,
    patience_s: float,
) -> None:
    """Be one of a source's fleet until interrupted: take bundles that were sealed to this site.

    The process that speaks to the source opens no recording. It answers with this site's receipt and what --tell says.
    """
    from protocol.engine import make_node_key, run_node

    if not key.exists():
        public = make_node_key(key)
        click.echo(f"give {public} to the source, and start this command again when it is let in", err=True)
        return
    settings = {
        "keys": keys_dir.resolve(),
        "trust": trust,
        "out": out.resolve(),
        "audio": str(Path(audio).resolve()) if audio else "",
        "config": str(config.resolve()) if config else "",
        "tell": tell,
    }
    run_node(address, ca, key, settings, home, runtime_port, patience_s)
