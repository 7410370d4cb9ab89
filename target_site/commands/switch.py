"""Choose which adapted model a site uses."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ecan_core.command_line.console import Narrator
from ecan_core.command_line.options import quiet_option
from target_site.accountability.audit_log import log_of
from target_site.commands.options import any_path, keys_option, model_option

if TYPE_CHECKING:
    from collections.abc import Mapping


@click.command(epilog="Example: ecan-target switch --model models/2026-11-30 --current current --keys keys")
@model_option
@click.option("--current", "link", type=any_path, required=True, help="Link to the model in use; made on first use.")
@keys_option
@quiet_option
def switch(model_dir: Path, link: Path, keys_dir: Path, quiet: bool) -> None:
    """Put another adapted model to use, or go back to an earlier one.

    `predict --model CURRENT` uses what the link names when it starts. The link changes in one step. A model is refused
    if these keys have not signed it, if its source has withdrawn it, or if it was made without knowing of somebody whom
    the model in use has forgotten.
    """
    from protocol.locks import alone
    from target_site.model.current import in_use, put_in_use
    from target_site.model.folder import read_facts, weights_digest
    from target_site.model.forgotten import refuse_recalling
    from target_site.trust.acceptance import refuse_withdrawn
    from target_site.trust.own_model import require_own_model

    narrator = Narrator(quiet=quiet)
    provenance = read_facts(model_dir)["provenance"]
    require_own_model(model_dir, keys_dir)
    refuse_withdrawn(keys_dir, provenance)
    busy = f"Another command is changing {link}; wait for it, and look which model it chose."
    with alone(link.with_name(f".{link.name}.lock"), busy):
        before = in_use(link)
        if before is not None:
            refuse_recalling(model_dir, before)
        put_in_use(model_dir, link)
    log_of(keys_dir, narrator).append("switch", model_sha256=weights_digest(model_dir).hex())
    narrator.say(f"{link} is {model_dir}: {_described(provenance)}")
    if before is not None:
        narrator.say(f"before it was {before}; to go back, name that as --model")


def _described(provenance: "Mapping[str, Any]") -> str:
    verdict = provenance.get("verdict")
    return f"adapted by {provenance.get('method')}, {verdict if isinstance(verdict, str) else 'no verdict'}"
