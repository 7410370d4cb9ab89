"""Define the options of a coordinator's keys and of its nodes.

A node reaches its coordinator by them. They are the same for every federation.
"""

from collections.abc import Callable
from pathlib import Path

import click

from ecan_core.command_line.options import as_one, existing_file, folder

PATIENCE_S, HOME = 90.0, Path("node-home")

_OPTIONS = {
    "address": click.option("--to", "address", required=True, metavar="HOST:PORT", help="The coordinator."),
    "ca": click.option("--ca", type=existing_file, required=True, help="The coordinator's ca.crt."),
    "key": click.option(
        "--key",
        type=click.Path(path_type=Path, dir_okay=False),
        required=True,
        help="This node's key; made on first use, with its book beside it.",
    ),
    "peers": click.option(
        "--peer",
        "peers",
        type=existing_file,
        multiple=True,
        help="Another site's node.pub, for masked sums; may be repeated.",
    ),
    "home": click.option(
        "--home",
        type=folder,
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


nodes_option = click.option(
    "--node",
    "nodes",
    type=existing_file,
    multiple=True,
    required=True,
    help="A node's public key file; may be repeated.",
)
"""The nodes that a coordinator lets in."""


def coordinator_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of making a coordinator's keys."""
    command = click.option("--out", type=folder, required=True, help="Folder for the keys.")(command)
    reached_by = "Name or address by which the sites reach the coordinator."
    return click.option("--host", required=True, help=reached_by)(command)


node_options = as_one("link", _OPTIONS)
"""The options of a node, as one mapping ``link``."""
