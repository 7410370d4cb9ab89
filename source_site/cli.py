"""Run ``ecan-source``, for the site that owns the labelled speech."""

import os
from importlib.metadata import version
from typing import NoReturn

import click

from ecan_core.command_line.console import LazyCommand, LazyGroup, one_numeric_thread, refuse_foreign_package, run
from ecan_core.command_line.options import log_format_option
from ecan_core.errors import EcanError

try:
    from protocol.errors import ProtocolError
    from protocol.sandbox.confine import forbid_dumps
except ImportError:  # another distribution has put its `protocol` in the place of ours
    refuse_foreign_package("protocol")

COMMANDS = {
    "keys": LazyCommand(
        "source_site.commands.keys:keys", "Create this site's keys, show its fingerprint, replace them."
    ),
    "officer": LazyCommand("source_site.commands.keys:officer", "Manage a second officer, who may override an audit."),
    "train": LazyCommand("source_site.commands.training:train", "Train a model on labelled speech."),
    "federate": LazyCommand("source_site.commands.federation:federate", "Train one network at several sites."),
    "audit": LazyCommand("source_site.commands.audit:audit", "Attack the model as its receivers could."),
    "reproduce": LazyCommand("source_site.commands.audit:reproduce", "Train the model again and compare the bytes."),
    "cards": LazyCommand("source_site.commands.audit:cards", "Write a model card, a data sheet and an ML-BOM."),
    "grant": LazyCommand(
        "source_site.commands.release:grant", "Sign the model and seal it to sites; nothing leaves yet."
    ),
    "export": LazyCommand("source_site.commands.release:export", "Sign the model and hand it to each site, once."),
    "encoder": LazyCommand("source_site.commands.encoders:encoder", "Add, fetch and list public encoders."),
    "close": LazyCommand("source_site.commands.ledger:close", "Close a grant with a hand-carried receipt."),
    "revoke": LazyCommand("source_site.commands.keys:revoke", "Withdraw a release or a key for all targets."),
    "inspect": LazyCommand("source_site.commands.release:inspect", "List every byte of a bundle."),
    "deny": LazyCommand("source_site.commands.ledger:deny", "Deny a grant before it is delivered."),
    "ledger": LazyCommand(
        "source_site.commands.ledger:ledger", "List what was exported and to whom, or verify that list."
    ),
    "status": LazyCommand("source_site.commands.status:status", "Tell how this site stands, also to Prometheus."),
    "completion": LazyCommand("ecan_core.command_line.completion:completion", "Print a shell's completion script."),
}


@click.group(
    cls=LazyGroup,
    lazy_commands=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: ecan-source train --corpus emodb=/data/emodb --out run",
)
@click.version_option(version("ecan-ser"), prog_name="ecan-source")
@log_format_option
def cli() -> None:
    """Train a speech emotion model and export it, signed, once per grant.

    The speech and its labels never leave this machine.
    """


def main() -> NoReturn:
    """Run the command line; its files and memory are the owner's alone.

    A private key is in that memory.
    """
    os.umask(0o077)
    forbid_dumps()
    one_numeric_thread()
    run(cli, prog_name="ecan-source", error_types=(EcanError, ProtocolError))
