"""``ecan-source``: the command line of the site that owns the labelled speech."""

import os
from importlib.metadata import version
from typing import NoReturn

import click

from ecan_core.console import LazyCommand, LazyGroup, one_numeric_thread, refuse_foreign_package, run
from ecan_core.errors import EcanError

try:
    from protocol.errors import ProtocolError
    from protocol.sandbox import forbid_dumps
except ImportError:  # another distribution has put its `protocol` in the place of ours
    refuse_foreign_package("protocol")

COMMANDS = {
    "keys": LazyCommand("source_site.commands:keys", "Create this site's keys, show its fingerprint, replace them."),
    "officer": LazyCommand("source_site.commands:officer", "A second officer, who may override an audit."),
    "train": LazyCommand("source_site.commands:train", "Train a model on labelled speech."),
    "federate": LazyCommand("source_site.federation.commands:federate", "Train one network at several sites."),
    "rollout": LazyCommand("source_site.federation.commands:rollout", "Hand the model to a fleet, once each."),
    "audit": LazyCommand("source_site.audit.commands:audit", "Attack the model as those would who get it."),
    "reproduce": LazyCommand("source_site.audit.commands:reproduce", "Train the model again and compare the bytes."),
    "cards": LazyCommand("source_site.audit.commands:cards", "Write a model card, a data sheet and an ML-BOM."),
    "grant": LazyCommand("source_site.commands:grant", "Sign the model and seal it to sites; nothing leaves yet."),
    "export": LazyCommand("source_site.commands:export", "Sign the model and hand it to each site, once."),
    "encoder": LazyCommand("source_site.encoders:encoder", "Add, fetch and list public encoders."),
    "close": LazyCommand("source_site.commands:close", "Close a grant with a receipt that came by hand."),
    "revoke": LazyCommand("source_site.commands:revoke", "Withdraw a release or a key for all targets."),
    "inspect": LazyCommand("source_site.commands:inspect", "List every byte of a bundle."),
    "deny": LazyCommand("source_site.commands:deny", "Take a grant back before it is delivered."),
    "ledger": LazyCommand("source_site.commands:ledger", "List what was exported, and to whom; verify the list."),
}


@click.group(
    cls=LazyGroup,
    lazy_commands=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: ecan-source train --corpus emodb=/data/emodb --out run",
)
@click.version_option(version("ecan-ser"), prog_name="ecan-source")
def cli() -> None:
    """Train a speech emotion model and export it, signed, once per grant.

    The speech and its labels never leave this machine.
    """


def main() -> NoReturn:
    """Run the command line; what it writes and what it holds, such as a private key, is for its owner's eyes only."""
    os.umask(0o077)
    forbid_dumps()
    one_numeric_thread()
    run(cli, prog_name="ecan-source", error_types=(EcanError, ProtocolError))
