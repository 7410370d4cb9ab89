"""Run ``ecan-target``, for a site that adapts a received model.

It adapts it to its own speech.
"""

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
    "init": LazyCommand("target_site.commands.init:init", "Ask five questions and write this site's rules."),
    "request": LazyCommand("target_site.commands.bundle:request", "Write the request that a source site needs."),
    "receive": LazyCommand("target_site.commands.bundle:receive", "Fetch and verify the model, once."),
    "trust": LazyCommand("target_site.commands.trust:trust", "Show or change what this site remembers of its sources."),
    "inspect": LazyCommand("target_site.commands.bundle:inspect", "List every byte of a bundle."),
    "approve": LazyCommand(
        "target_site.commands.bundle:approve", "Approve a bundle in a person's name, for one purpose."
    ),
    "adapt": LazyCommand("target_site.commands.model:adapt", "Adapt the model to unlabelled recordings."),
    "switch": LazyCommand("target_site.commands.switch:switch", "Put another adapted model to use, or go back to one."),
    "predict": LazyCommand("target_site.commands.model:predict", "Recognize emotions with the adapted model."),
    "merge": LazyCommand("target_site.commands.days:merge", "Join predictions of several folders."),
    "evaluate": LazyCommand("target_site.commands.model:evaluate", "Measure the model on labelled recordings."),
    "onnx": LazyCommand("target_site.commands.model:onnx", "Write the adapted model as an ONNX file."),
    "sheet": LazyCommand("target_site.commands.model:sheet", "Draw utterances for a person to label."),
    "forget": LazyCommand("target_site.commands.upkeep:forget", "Remove a person from an adapted model."),
    "certificate": LazyCommand(
        "target_site.commands.certificates:certificate", "Show or verify a certificate of forgetting."
    ),
    "expire": LazyCommand("target_site.commands.upkeep:expire", "Delete features and predictions past retention."),
    "replay": LazyCommand("target_site.commands.upkeep:replay", "Adapt once more and compare the files."),
    "status": LazyCommand("target_site.commands.status:status", "Tell how this site stands, also to Prometheus."),
    "log": LazyCommand("target_site.commands.upkeep:log", "Show or check the log of what was done."),
    "together": LazyCommand("target_site.commands.federation:together", "Adapt one model together with other sites."),
    "encoder": LazyCommand("target_site.commands.encoders:encoder", "Add, fetch and list public encoders."),
    "doctor": LazyCommand("target_site.commands.upkeep:doctor", "Find what keeps this site from working."),
    "completion": LazyCommand("ecan_core.command_line.completion:completion", "Print a shell's completion script."),
}


@click.group(
    cls=LazyGroup,
    lazy_commands=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: ecan-target adapt --bundle model.ecan --audio recordings/ --out adapted",
)
@click.version_option(version("ecan-ser"), prog_name="ecan-target")
@log_format_option
def cli() -> None:
    """Receive a speech emotion model and adapt it to your recordings.

    The recordings never leave this machine, and no labels are needed.
    """


def main() -> NoReturn:
    """Run the command line; its files and memory are the owner's alone.

    A private key is in that memory.
    """
    os.umask(0o077)
    forbid_dumps()
    one_numeric_thread()
    run(cli, prog_name="ecan-target", error_types=(EcanError, ProtocolError))
