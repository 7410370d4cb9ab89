"""Tell how a target site stands: ``ecan-target status``."""

from pathlib import Path

import click

from ecan_core.command_line.options import (
    encoders_option,
    existing_file,
    existing_folder,
    status_format_option,
    status_out_option,
)
from target_site.commands.options import any_path, config_option


@click.command(epilog="Example: ecan-target status --model adapted --predictions predictions --format prometheus")
@click.option("--model", "model", type=any_path, help="Folder that `adapt` made.")
@click.option("--predictions", type=any_path, help="Folder that `predict` writes into.")
@click.option("--keys", "keys_dir", type=existing_folder, help="This site's keys; default: those of the model.")
@click.option("--bundle", type=existing_file, help="A bundle, to tell for how long it may still be received.")
@click.option(
    "--within",
    "hours",
    metavar="HOURS",
    type=click.IntRange(min=1),
    default=48,
    show_default=True,
    help="Hours after which predictions count as old.",
)
@config_option
@encoders_option
@status_format_option
@status_out_option
def status(
    model: Path | None,
    predictions: Path | None,
    keys_dir: Path | None,
    bundle: Path | None,
    hours: int,
    config: Path | None,
    encoders: Path | None,
    form: str,
    out: Path | None,
) -> None:
    """Tell how this site stands, and what needs attention.

    Reads what the other commands have left: logs, model, predictions, keys, rules. Name what there is; the model
    remembers its rules and keys. Changes nothing, calls nobody and opens no recording.

    Exit code 0: healthy. Exit code 19: something needs attention; the first lines say what, and what to do.
    """
    from datetime import UTC, datetime

    from protocol.files import write_readable
    from target_site.accountability.status import Site, status_of

    if model is None and predictions is None and keys_dir is None:
        raise click.UsageError("nothing is named to look at; give --model, --predictions or --keys")
    found = status_of(
        Site(
            model=model,
            predictions=predictions,
            named_keys=keys_dir,
            config=config,
            bundle=bundle,
            encoders=encoders,
            oldest_s=3600 * hours,
            now=datetime.now(UTC),
        )
    )
    if out is None:
        click.echo(found.in_form(form), nl=False)
    else:
        write_readable(out, found.in_form(form).encode())
    found.raise_attention()
