"""Describe what a federation's contained process is to do."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

QUESTION_FILE, ANSWER_FILE = "question.safetensors", "answer.safetensors"
"""Arrays that come into a folder of work and go out of it."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """Describe the corpus that a site brings in.

    Attributes:
        recipe: how it is laid out.
        path: where it lies.
        cache: where front-end outputs are kept between rounds.
        speech: the folder of its recordings, or the list and the files that it names.
        relabel: what its labels are to count as (`ecan_core.labels.parse_relabel`).
    """

    recipe: str
    path: Path
    cache: Path
    speech: tuple[Path, ...] = ()
    relabel: dict[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, kw_only=True)
class CountOrder:
    """Count a site's utterances and the classes that it has speech of.

    Attributes:
        site: whose.
    """

    site: Site

    @property
    def readable(self) -> tuple[Path, ...]:
        """Return the files and folders that are read."""
        return self.site.speech

    @property
    def writable(self) -> tuple[Path, ...]:
        """Return the folders that are written into."""
        return (self.site.cache.parent,)


@dataclass(frozen=True, kw_only=True)
class RoundOrder(CountOrder):
    """Train the networks of a round a little further.

    Attributes:
        plan: the plan that the run is bound to, as text.
        classes: class names in the order of the head's rows.
        number: of the round, from 1.
        utterances: of the whole site, by which what is promised to each of them is counted.
        work: folder with the networks to start from; it gets those that were trained.
    """

    plan: str
    classes: tuple[str, ...]
    number: int
    utterances: int
    work: Path

    @property
    def writable(self) -> tuple[Path, ...]:
        """Return the folders that are written into."""
        return (self.work, *super().writable)


@dataclass(frozen=True, kw_only=True)
class TallyOrder(RoundOrder):
    """Count a site's speech, and test the network of the last round.

    It is tested on the speakers that were held out. The folder of work holds that network, or nothing where the plan
    estimates no rate.
    """


Order = CountOrder | RoundOrder | TallyOrder
ORDERS: Mapping[str, type[Order]] = {"count": CountOrder, "round": RoundOrder, "tally": TallyOrder}
"""Every kind of order by its name."""


def name_of(order: Order) -> str:
    """Return the name of an order's kind."""
    return next(name for name, kind in ORDERS.items() if type(order) is kind)
