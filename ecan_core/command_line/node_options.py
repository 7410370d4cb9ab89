"""Define the options of a coordinator's keys and of its nodes.

A node reaches its coordinator by them. They are the same for every federation.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

PATIENCE_S, HOME = 90.0, Path("node-home")

_file = click.Path(path_type=Path, exists=True, dir_okay=False)
_OPTIONS = {
    "address": click.option("--to", "address", required=True, metavar="HOST:PORT", help="The coordinator."),
    "ca": click.option("--ca", type=_file, required=True, help="The coordinator's ca.crt."),
    "key": click.option(
        "--key",
        type=click.Path(path_type=Path, dir_okay=False),
        required=True,
        help="This node's key; made on first use, with its book beside it.",
    ),
    "peers": click.option(
        "--peer", "peers", type=_file, multiple=True, help="Another site's node.pub, for masked sums; may be repeated."
    ),
    "home": click.option(
        "--home",
        type=click.Path(path_type=Path, file_okay=False),
        default=HOME,
        show_default=True,
        help="Folder for files of the node.",
    ),
    "patience_s": click.option(
        "--patience", "patience_s", type=float, default=PATIENCE_S, show_default=True, help="Seconds to try to connect."
    ),
    "new_book": click.option(
        "--new-book", metavar="REASON", help="Begin a new book where the old one is lost; forgets what was spent."
    ),
    "accepted": click.option(
        "--accept-uncontained", "accepted", metavar="REASON", help="Go on where the system cannot contain processes."
    ),
}


def coordinator_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of making a coordinator's keys."""
    out = click.Path(path_type=Path, file_okay=False)
    command = click.option("--out", type=out, required=True, help="Folder for the keys.")(command)
    reached_by = "Name or address by which the sites reach the coordinator."
    return click.option("--host", required=True, help=reached_by)(command)


def node_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a node to a command, as one mapping ``link``."""

    @functools.wraps(command)
    def with_link(**words: Any) -> None:
        link = {name: words.pop(name) for name in _OPTIONS}
        command(link=link, **words)

    decorated: Callable[..., None] = with_link
    for option in reversed(_OPTIONS.values()):
        decorated = option(decorated)
    return decorated
