"""Describe the options that several commands of ``ecan-target`` share."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ecan_core.command_line.options import existing_file, existing_folder
from protocol.bundle.architecture import NORMALIZATIONS

if TYPE_CHECKING:
    from target_site.site_policy import SitePolicy


uncontained_option = click.option(
    "--accept-uncontained",
    "accepted",
    metavar="REASON",
    help="Go on although this system cannot contain the process that reads recordings; results carry the reason.",
)


SITE_NORMALIZATIONS = (*NORMALIZATIONS, "voice")
"""What a target may normalize by: what a source may, and the voices that it estimates."""

any_path = click.Path(path_type=Path)
config_option = click.option(
    "--config", type=existing_file, help="YAML with this site's rules, see docs/operations.md."
)
keys_option = click.option("--keys", "keys_dir", type=existing_folder, required=True, help="This site's keys.")


model_option = click.option(
    "--model", "model_dir", type=existing_folder, required=True, help="Folder that `adapt` made."
)

cache_option = click.option(
    "--cache", type=any_path, help="File that keeps features between runs; default: inside the model's folder."
)


def policy_of(config: Path | None) -> "SitePolicy | None":
    """Read the site's rules, where it has any."""
    from target_site.site_policy import read_policy

    return None if config is None else read_policy(config)
