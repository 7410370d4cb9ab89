"""Describe the options that several commands of ``ecan-source`` share."""

import shlex
import time
from collections.abc import Sequence
from pathlib import Path

import click

from ecan_core.command_line.console import Narrator
from ecan_core.command_line.options import as_one, existing_file, existing_folder

corpora_option = click.option(
    "--corpus",
    "corpora",
    multiple=True,
    required=True,
    metavar="RECIPE=PATH",
    help="A labelled corpus: its recipe (emodb, ravdess, ..., csv) and its path; may be repeated.",
)
keys_option = click.option(
    "--keys", "keys_dir", type=existing_folder, required=True, help="Folder that `keys init` made."
)

terms_options = as_one(
    "terms",
    {
        "tier": click.option(
            "--tier",
            type=click.IntRange(0, 2),
            default=0,
            show_default=True,
            help="How sensitive the speech is, and so what its audit must show: 0 public speech (nothing), 1 consented "
            "research, 2 clinical or call-centre speech.",
        ),
        "releases": click.option(
            "--releases",
            type=click.IntRange(1, 1000),
            default=3,
            show_default=True,
            help="How many models of the same speech may leave, at a tier above 0.",
        ),
        "override": click.option(
            "--override",
            type=existing_file,
            help="File that `officer override` signed: the model may leave although its audit failed (tier above 0).",
        ),
    },
)
"""On which terms a model leaves, as one mapping ``terms`` (`source_site.release.clearance.Terms`)."""
unconfined_option = click.option(
    "--unconfined", is_flag=True, help="Go on where this system cannot confine a process (dangerous)."
)


def recipes_and_paths(corpora: Sequence[str]) -> list[tuple[str, Path]]:
    """Parse the corpora of a command line."""
    return [_recipe_and_path(item) for item in corpora]


def _recipe_and_path(item: str) -> tuple[str, Path]:
    recipe, separator, path = item.partition("=")
    if not separator or not recipe or not path:
        raise click.BadParameter(f"{item!r} is not RECIPE=PATH, such as emodb=/data/emodb", param_hint="--corpus")
    return recipe, Path(path)


def quoted(path: Path) -> str:
    """Return a path as a shell reads it, for a command that is copied."""
    return shlex.quote(str(path))


def unix_time_s() -> int:
    """Return the time, in whole seconds since 1970."""
    return int(time.time())


def utc(time_s: int) -> str:
    """Return a time as people read it, in UTC."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M UTC")


def warn_of_missing_walls(unconfined: bool) -> None:
    """Warn of missing walls, even with --quiet: it is a danger."""
    if unconfined:
        Narrator().say(
            "WARNING: UNCONFINED: what holds the release key and what listens may run without walls around them"
        )
