"""Show and verify the certificates that `forget` signs."""

import json
from pathlib import Path

import click

from ecan_core.command_line.options import existing_file, existing_folder, format_option
from target_site.commands.options import keys_option

_file = click.argument("file", type=existing_file, metavar="FILE")


@click.group(epilog="Example: ecan-target certificate show adapted/forgotten-0d5c3f1a2b4e6978.certificate")
def certificate() -> None:
    """Show or verify a certificate of forgetting."""


@certificate.command(
    "show",
    short_help="Show what a certificate says.",
    epilog="Example: ecan-target certificate show adapted/forgotten-0d5c3f1a2b4e6978.certificate",
)
@_file
@format_option
def certificate_show(file: Path, form: str) -> None:
    """Show in plain words what a certificate of `forget` says.

    A certificate that was changed is refused. Whether this site has signed it is not checked: see `verify`.
    """
    from target_site.accountability.certificate import in_words, read_certificate

    shown = read_certificate(file)
    if form == "json":
        click.echo(json.dumps(shown.as_plain()))
        return
    for line in in_words(shown):
        click.echo(line)
    click.echo("whether that is this site tells `ecan-target certificate verify`")


@certificate.command(
    "verify",
    short_help="Verify that this site has signed it.",
    epilog="Example: ecan-target certificate verify adapted/forgotten-0d5c3f1a2b4e6978.certificate --keys keys",
)
@_file
@keys_option
@click.option("--model", type=existing_folder, help="Folder of the model that it must speak of.")
@format_option
def certificate_verify(file: Path, keys_dir: Path, model: Path | None, form: str) -> None:
    """Verify who has signed a certificate, for which model, and when.

    With --model also that the model there is the one that took the other's place. Exit code 10 if this does not hold.
    """
    from target_site.accountability.certificate import in_words, verify_certificate

    verified = verify_certificate(file, keys_dir, model)
    if form == "json":
        click.echo(json.dumps(verified.as_plain()))
        return
    for line in in_words(verified):
        click.echo(line)
    click.echo("verified: this site has signed it")
    if model is not None:
        click.echo(f"verified: {model} holds the model after")
