"""Describe the options that the commands of both sites share."""

import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from ecan_core.command_line.console import LOG_FORMAT
from ecan_core.labels import parse_relabel

Command = Callable[..., None]
Option = Callable[[Command], Command]

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
relabel_option = click.option(
    "--relabel",
    multiple=True,
    metavar="WORD=EMOTION",
    callback=lambda _context, _option, pairs: parse_relabel(pairs),
    help="What a label counts as, such as calm=neutral; may be repeated.",
)
"""What labels count as; commands get it as `parse_relabel` returns it."""
format_option = click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Output for people (text) or for programs (json).",
)

status_format_option = click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "prometheus"]),
    default="text",
    show_default=True,
    help="Output for people (text), for programs (json), or for a text file that Prometheus' node exporter reads.",
)
status_out_option = click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write it into this file, in one step, instead of printing it; every user may read the file.",
)


def _tell_in(_context: click.Context, _option: click.Parameter, form: str) -> None:
    """Let this process and those that it starts tell things in a form."""
    os.environ[LOG_FORMAT] = form


log_format_option = click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    envvar=LOG_FORMAT,
    show_envvar=True,
    show_default=True,
    expose_value=False,
    callback=_tell_in,
    help="Form of what is told on stderr: sentences, or one JSON object a line.",
)


def as_one(name: str, options: Mapping[str, Option], kind: Callable[..., object] = dict) -> Option:
    """Add several options to a command, which gets them as one argument.

    Args:
        name: the argument.
        options: the options, by the names of their values.
        kind: makes the argument of the values; a mapping if it is not given.
    """

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def with_one(**words: Any) -> None:
            command(**{name: kind(**{each: words.pop(each) for each in options})}, **words)

        decorated: Command = with_one
        for option in reversed(list(options.values())):
            decorated = option(decorated)
        return decorated

    return decorate
