"""Tell how a source site stands: ``ecan-source status``."""

from pathlib import Path

import click

from ecan_core.command_line.options import encoders_option, status_format_option, status_out_option
from source_site.commands.options import keys_option


@click.command(epilog="Example: ecan-source status --keys keys --format prometheus --out /var/lib/metrics/ecan.prom")
@keys_option
@encoders_option
@status_format_option
@status_out_option
def status(keys_dir: Path, encoders: Path | None, form: str, out: Path | None) -> None:
    """Tell how this site stands, and what needs attention.

    Reads the ledger, the grants, the revocation list and the certificate. Changes nothing and opens no private key.
    `ecan-source ledger verify` computes the ledger again, which this does not.

    Exit code 0: healthy. Exit code 19: something needs attention; the first lines say what, and what to do.
    """
    from datetime import UTC, datetime

    from protocol.files import write_readable
    from source_site.release.status import Source, status_of

    found = status_of(Source(keys=keys_dir, encoders=encoders, now=datetime.now(UTC)))
    if out is None:
        click.echo(found.in_form(form), nl=False)
    else:
        write_readable(out, found.in_form(form).encode())
    found.raise_attention()
