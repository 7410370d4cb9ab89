"""``ecan-target``: the command line of a site that adapts a received model to its own speech."""

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
    "request": LazyCommand("target_site.commands:request", "Write the request that a source site needs."),
    "receive": LazyCommand("target_site.commands:receive", "Fetch and verify the model, once."),
    "trust": LazyCommand("target_site.commands:trust", "Show and change what this site remembers of its sources."),
    "inspect": LazyCommand("target_site.commands:inspect", "List every byte of a bundle."),
    "approve": LazyCommand("target_site.commands:approve", "Put a person's name to a bundle, for one purpose."),
    "adapt": LazyCommand("target_site.model_commands:adapt", "Adapt the model to unlabelled recordings."),
    "predict": LazyCommand("target_site.model_commands:predict", "Recognize emotions with the adapted model."),
    "evaluate": LazyCommand("target_site.model_commands:evaluate", "Measure the model on labelled recordings."),
    "onnx": LazyCommand("target_site.model_commands:onnx", "Write the adapted model for other programs."),
    "sheet": LazyCommand("target_site.model_commands:sheet", "Draw utterances for a person to label."),
    "forget": LazyCommand("target_site.model_commands:forget", "Make the adapted model anew without somebody."),
    "expire": LazyCommand("target_site.model_commands:expire", "Remove what may not be kept any longer."),
    "replay": LazyCommand("target_site.model_commands:replay", "Adapt once more and compare the files."),
    "log": LazyCommand("target_site.commands:log", "Check the log of what was done."),
    "node": LazyCommand("target_site.federation.commands:node", "Be one of a source's fleet."),
    "together": LazyCommand("target_site.federation.commands:together", "Adapt one model together with other sites."),
    "encoder": LazyCommand("target_site.encoders:encoder", "Add, fetch and list public encoders."),
    "doctor": LazyCommand("target_site.commands:doctor", "Find what keeps this site from working."),
}


@click.group(
    cls=LazyGroup,
    lazy_commands=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: ecan-target adapt --bundle model.ecan --audio recordings/ --out adapted",
)
@click.version_option(version("ecan-ser"), prog_name="ecan-target")
def cli() -> None:
    """Receive a speech emotion model and adapt it to this site's own recordings.

    The recordings never leave this machine, and no labels are needed.
    """


def main() -> NoReturn:
    """Run the command line; what it writes and what it holds, such as a private key, is for its owner's eyes only."""
    os.umask(0o077)
    forbid_dumps()
    one_numeric_thread()
    run(cli, prog_name="ecan-target", error_types=(EcanError, ProtocolError))
