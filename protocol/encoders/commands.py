"""Define `encoder add`, `fetch` and `list` for both command lines."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from protocol.encoders.add import Added, Checks
    from protocol.encoders.store import AddedHere, Listed

encoders_option = click.option(
    "--encoders",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of encoders; default: ecan-ser/encoders in the user's folder for data.",
)


def encoder_group(program: str, checks: Callable[[], "Checks"]) -> click.Group:
    """Make a site's commands about public encoders.

    Args:
        program: The command line's name, for the examples.
        checks: Loads the numeric side's checks when they are needed.
    """

    @click.group("encoder", epilog=f"Example: {program} encoder fetch whisper-tiny.en")
    def encoder() -> None:
        """Add, fetch and list the public encoders that a front end reads by.

        An encoder is public and named by its hash. It never crosses with a model: both sites hold the same file.
        """

    @encoder.command(
        "fetch",
        short_help="Fetch known encoders through pip.",
        epilog=f"Example: {program} encoder fetch whisper-tiny.en",
    )
    @click.argument("names", nargs=-1)
    @encoders_option
    def fetch(names: tuple[str, ...], folder: Path | None) -> None:
        """Fetch known encoders by name through pip; all of them if none is named.

        Only a wheel whose hash is pinned is taken, and nothing of it is installed or run. pip's own settings count:
        with PIP_NO_INDEX and PIP_FIND_LINKS it takes the wheel from a folder, without a network.
        """
        from protocol.encoders.add import fetch as fetch_encoder
        from protocol.encoders.registry import ENCODERS, known_encoder
        from protocol.encoders.store import default_folder

        for known in [known_encoder(name) for name in names or ENCODERS]:
            _say(fetch_encoder(known, folder or default_folder(), checks()))

    @encoder.command(
        "add", short_help="Add an encoder from the disk.", epilog=f"Example: {program} encoder add hubert-base/"
    )
    @click.argument("path", type=click.Path(path_type=Path))
    @encoders_option
    def add(path: Path, folder: Path | None) -> None:
        """Add a known file or wheel, or a Hugging Face folder.

        A folder holds config.json and model.safetensors of a wav2vec 2.0, HuBERT, WavLM or Whisper.
        """
        from protocol.encoders.add import add as add_encoder
        from protocol.encoders.store import default_folder

        _say(add_encoder(path, folder or default_folder(), checks()))

    @encoder.command("list", short_help="List the known encoders.", epilog=f"Example: {program} encoder list")
    @encoders_option
    @click.option(
        "--format",
        "form",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="Output for people (text) or for programs (json).",
    )
    def list_encoders(folder: Path | None, form: str) -> None:
        """List the known encoders and what was added beside them."""
        from protocol.encoders.store import added, default_folder, listed

        here = folder or default_folder()
        rows, others = listed(here), added(here)
        if form == "json":
            click.echo(json.dumps([*map(_facts, rows), *map(_facts_of_added, others)]))
        else:
            click.echo("\n\n".join([*map(_told, rows), *map(_told_of_added, others)]))

    return encoder


def _say(added: "Added") -> None:
    click.echo(f"{added.name} is here: SHA-256 {added.sha256}", err=True)


def _facts(row: "Listed") -> dict[str, object]:
    known = row.encoder
    return {
        "id": known.id,
        "state": row.state,
        "purpose": known.purpose,
        "origin": known.origin,
        "licence": known.licence,
        "bytes": known.num_bytes,
        "sha256": known.sha256,
        "package": f"{known.package.name}=={known.package.version}",
        "download_bytes": known.package.wheel_bytes,
    }


def _facts_of_added(row: "AddedHere") -> dict[str, object]:
    state = "added here" if row.state == "here" else row.state
    return {"id": row.name, "state": state, "purpose": row.purpose, "sha256": row.sha256}


def _told_of_added(row: "AddedHere") -> str:
    state = "added here" if row.state == "here" else row.state
    return "\n".join([f"{row.name}: {state}", f"  for      {row.purpose}", f"  file     SHA-256 {row.sha256}"])


def _told(row: "Listed") -> str:
    known, package = row.encoder, row.encoder.package
    return "\n".join(
        [
            f"{known.id}: {row.state}",
            f"  for      {known.purpose}",
            f"  by       {known.origin}; {known.licence}",
            f"  file     {known.num_bytes / 1e6:.0f} MB, SHA-256 {known.sha256}",
            f"  package  {package.name} {package.version}, {package.wheel_bytes / 1e6:.0f} MB to fetch",
        ]
    )
