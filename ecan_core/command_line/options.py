"""Describe the options that the commands of both sites share."""

from pathlib import Path

import click

folder = click.Path(path_type=Path, file_okay=False)
SECONDS = click.IntRange(1, 31_536_000)
existing_folder = click.Path(path_type=Path, exists=True, file_okay=False)
existing_file = click.Path(path_type=Path, exists=True, dir_okay=False)
encoders_option = click.option(
    "--encoders",
    type=folder,
    help="Folder of public encoders; default: ecan-ser/encoders in the user's folder for data.",
)
quiet_option = click.option("--quiet", is_flag=True, help="Print errors only.")
format_option = click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Output for people (text) or for programs (json).",
)
