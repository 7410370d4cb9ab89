"""How many models have left that were trained on the same speech, and what they promise together.

``corpora.json`` in the keys folder, where the process on the network cannot write. Each model tells something about the
people it has heard; two tell more. A model counts from the moment it is to be sealed, even if that fails.
"""

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from ecan_core.errors import ModelError, SettingsError
from ecan_core.settings import parse_settings
from protocol.errors import Code, Refused, StorageFault
from protocol.files import locked, read_bounded, write_atomic
from source_site.accountant import epsilon_of
from source_site.store import StoredRun, damaged_run

BUDGET_FILE = "corpora.json"
RELEASES = 3
"""Models that may leave of the same speech, unless the operator allows more."""
MAX_BUDGET_BYTES = 256 * 1024 * 1024
_RECORD_FILE = "training.json"

Announce = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Spent:
    """One model that left, or was about to.

    Attributes:
        run_sha256: SHA-256 of its run's weights, in hexadecimal.
        utterances: digests of what it was trained on.
        unit: what its training protects; empty if it was not private.
        noise_multiplier: noise of its training; 0 if it was not private.
        steps: steps of its training; 0 if it was not private.
        delta: probability that its promise does not hold; 0 if it was not private.
    """

    run_sha256: str
    utterances: tuple[str, ...]
    unit: str
    noise_multiplier: float
    steps: int
    delta: float


@dataclass(frozen=True, kw_only=True)
class Book:
    """All models that left at a tier above 0."""

    spent: tuple[Spent, ...] = ()


def spend(
    keys_dir: Path,
    run_dir: Path,
    run: StoredRun,
    *,
    releases: int,
    most_epsilon: float | None,
    announce: Announce,
) -> None:
    """Count a model against the budget of the speech that it was trained on.

    Args:
        keys_dir: the source's keys.
        run_dir: folder of the trained model.
        run: the model.
        releases: models that may leave of speech that they share, this one included.
        most_epsilon: the most that private ones may promise together; None asks for nothing.
        announce: told how much is spent.

    Raises:
        Refused: the budget is spent.
        ModelError: the run does not say what it was trained on.
        StorageFault: the book cannot be read or written; restore it from a backup.
    """
    mine = _of_run(run_dir, run)
    with locked(os.open(keys_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)):
        book = _load(keys_dir)
        others = [one for one in book.spent if one.run_sha256 != mine.run_sha256]
        related = [mine, *(one for one in others if not set(one.utterances).isdisjoint(mine.utterances))]
        if len(related) > releases:
            raise Refused(
                Code.RELEASE_BUDGET,
                f"{len(related) - 1} other model(s) of this speech have left, and {releases} may leave in all; grant "
                "one of those, or raise --releases if the speakers' consent allows that.",
            )
        together = _together(related)
        if together is not None and most_epsilon is not None and together > most_epsilon:
            raise Refused(
                Code.RELEASE_BUDGET,
                f"The models of this speech promise an epsilon of {together:g} together, more than {most_epsilon:g}; "
                "grant one that has left before, or train with less.",
            )
        write_atomic(keys_dir / BUDGET_FILE, json.dumps(asdict(Book(spent=(*others, mine)))).encode())
    promised = "" if together is None else f", which promise an epsilon of {together:g} together"
    announce(f"models of this speech that have left or are to leave now: {len(related)} of {releases}{promised}")


def _together(related: Iterable[Spent]) -> float | None:
    """What models promise together; None if one of them promises nothing, or they protect different units."""
    trainings = list(related)
    if "" in (units := {one.unit for one in trainings}) or len(units) > 1:
        return None
    return epsilon_of([(one.noise_multiplier, one.steps) for one in trainings], min(one.delta for one in trainings))


def _of_run(run_dir: Path, run: StoredRun) -> Spent:
    """What is counted of a run: its record is read as plain JSON, for nothing here may come near the speech."""
    path = run_dir / _RECORD_FILE
    if not path.is_file():
        raise ModelError(f"The run in {run_dir} does not say what it was trained on; train again with this version.")
    try:
        told = json.loads(read_bounded(path, MAX_BUDGET_BYTES))
        private, promised = told["recipe"]["private"] or {}, told["promise"] or {}
        fields = {
            "run_sha256": told["run_sha256"],
            "utterances": told["utterances"],
            "unit": private.get("unit", ""),
            "noise_multiplier": private.get("noise_multiplier", 0.0),
            "steps": private.get("steps", 0),
            "delta": promised.get("delta", 0.0),
        }
        spent = parse_settings(Spent, fields, _RECORD_FILE)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, SettingsError) as fault:
        raise damaged_run(run_dir, f"{_RECORD_FILE}: {fault}") from fault
    if spent.run_sha256 != run.digest.hex():
        raise damaged_run(run_dir, f"{_RECORD_FILE} is of another training than the weights")
    return spent


def _load(keys_dir: Path) -> Book:
    path = keys_dir / BUDGET_FILE
    if not path.exists():
        return Book()
    try:
        return parse_settings(Book, json.loads(read_bounded(path, MAX_BUDGET_BYTES)), BUDGET_FILE)
    except (ValueError, RecursionError, SettingsError) as fault:
        raise StorageFault(
            Code.STORAGE, f"{path} is damaged, and without it no one knows what has left; restore it from a backup."
        ) from fault
