"""Run a federation whose sites all live in this process.

The rules are those of any other federation.
"""

import logging
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from protocol.federation.in_process import InProcessGrid
from protocol.federation.masking import Roster
from protocol.federation.site.answers import Answers
from protocol.federation.site.book import Book
from source_site.federation.coordinator import Outcome, federate, write_outcome
from source_site.federation.member import Member, Rules, speech_of
from source_site.federation.orders import Site
from source_site.federation.plan import ConsortiumPlan
from source_site.federation.tasks import carry_out
from source_site.training.run_folder import RunFacts


def run_trial(
    corpora: Sequence[tuple[str, Path]], plan: ConsortiumPlan, out: Path, relabel: dict[str, str] | None = None
) -> RunFacts:
    """Train as a federation would and write the run folder.

    Args:
        corpora: recipe and path of each site's corpus.
        plan: what the sites agreed on.
        out: run folder.
        relabel: what the labels of every site count as.

    Raises:
        UsageError: a corpus is not there.
        AudioError: the sites share fewer than two classes.
        SettingsError: a site refused the plan, or its training diverged.
    """
    with tempfile.TemporaryDirectory() as caches:
        sites = [
            Site(
                recipe=recipe,
                path=path,
                cache=Path(caches) / str(number),
                speech=speech_of(recipe, path, relabel),
                relabel=relabel or {},
            )
            for number, (recipe, path) in enumerate(corpora)
        ]
        outcome = federate_here(sites, plan)
    write_outcome(outcome, out)
    return outcome.facts


def federate_here(sites: Sequence[Site], plan: ConsortiumPlan, rules: Rules | None = None) -> Outcome:
    """Train one network for sites of this process.

    Their books last as long as that takes.

    Args:
        sites: their corpora.
        plan: what the sites agreed on.
        rules: what each site insists on.
    """
    logging.getLogger("flwr").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as home:
        return federate(InProcessGrid([one.answer for one in members(sites, plan, rules or Rules(), Path(home))]), plan)


def members(sites: Sequence[Site], plan: ConsortiumPlan, rules: Rules, home: Path) -> list[Member]:
    """Make a member of each site, with a node key and a book of its own.

    Nothing is contained.

    Args:
        sites: their corpora.
        plan: what the sites agreed on, which says whether they mask.
        rules: what each site insists on.
        home: folder for their books and their work.
    """
    keys = [ec.generate_private_key(ec.SECP384R1()) for _ in sites]
    publics = [key.public_key() for key in keys]
    return [
        Member(
            site,
            rules,
            home=home / str(number),
            answers=Answers(
                Book.create(home / str(number) / "book", {"site": number}, "a trial", int(time.time())),
                home / str(number),
                Roster(publics[number], [*publics[:number], *publics[number + 1 :]]) if plan.secure else None,
                keys[number],
            ),
            carry_out=carry_out,
            announce=lambda _: None,
        )
        for number, site in enumerate(sites)
    ]
