"""A federation whose sites all live in this process."""

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

from protocol.in_process import InProcessGrid, context_of
from source_site.federation.client import app
from source_site.federation.coordinator import federate, write_outcome
from source_site.federation.plan import Plan
from source_site.store import RunFacts


def run_trial(sites: Sequence[tuple[str, Path]], plan: Plan, out: Path) -> RunFacts:
    """Train as a federation would and write the run folder.

    Args:
        sites: recipe and path of each site's corpus.
        plan: what the sites agreed on.
        out: run folder.

    Raises:
        UsageFault: a corpus is not there.
        AudioError: the sites share fewer than two classes.
        SettingsError: a site refused the plan, or its training diverged.
    """
    logging.getLogger("flwr").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as caches:
        described = [
            {"recipe": recipe, "path": str(path), "cache": str(Path(caches) / str(number))}
            for number, (recipe, path) in enumerate(sites)
        ]
        outcome = federate(InProcessGrid(app, described), context_of(0, {}), plan)
    write_outcome(outcome, out)
    return outcome.facts
