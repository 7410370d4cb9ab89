"""Describe the options that several commands of ``ecan-target`` share."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ecan_core.command_line.options import as_one, encoders_option, existing_file, existing_folder
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


def _behind_link(context: click.Context, option: click.Parameter, path: Path) -> Path:
    """Follow a link once.

    So a command keeps to the model that it began with.
    """
    return path.resolve() if path.is_symlink() else path


model_option = click.option(
    "--model",
    "model_dir",
    type=existing_folder,
    required=True,
    callback=_behind_link,
    help="Folder that `adapt` made, or a link that `switch` made.",
)

all_channels_option = click.option(
    "--all-channels",
    metavar="REASON",
    help="Listen to every channel of a recording although no rules say who speaks on which; the reason is kept.",
)

cache_option = click.option(
    "--cache",
    type=any_path,
    help="File that keeps features between runs; default: inside the model's folder, for `predict` none.",
)


@dataclass(frozen=True, kw_only=True)
class Setup:
    """Hold what a command that opens recordings runs under.

    Attributes:
        config: file with the site's rules; None if it has none.
        cache: file that keeps features between runs; None takes the one in the model's folder.
        encoders: folder of public encoders; None takes the one in the user's folder for data.
        accepted: why somebody accepts that the system cannot contain the process; None if nobody does.
    """

    config: Path | None
    cache: Path | None
    encoders: Path | None
    accepted: str | None

    @property
    def policy(self) -> "SitePolicy | None":
        """Return the site's rules, where it has any."""
        return policy_of(self.config)

    def cache_of(self, model_dir: Path) -> Path:
        """Return the file that keeps features."""
        from target_site.model.folder import CACHE_FILE

        return self.cache or model_dir / CACHE_FILE


setup_options = as_one(
    "setup",
    {
        "config": config_option,
        "cache": cache_option,
        "encoders": encoders_option,
        "accepted": uncontained_option,
    },
    Setup,
)
"""The options of every command that opens recordings, as one `Setup`."""


def policy_of(config: Path | None) -> "SitePolicy | None":
    """Read the site's rules, where it has any."""
    from target_site.site_policy import read_policy

    return None if config is None else read_policy(config)
