"""Count the models that left and share speech, and their promises.

The book is ``corpora.json`` in the keys folder, where the process on the network cannot write. Each model reveals
something about the people it was trained on; two models reveal more. A model counts from the moment when its sealing
begins, even if that fails.

Models are only ever added to the book, and each is chained to those before it. Every grant writes the chain's hash
into the ledger. So a book that was deleted or put back to an earlier day lacks a model that has left, and then every
further release is refused.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from ecan_core.errors import ModelError, SettingsError
from ecan_core.settings.parse import parse_settings
from protocol.announce import Announce
from protocol.errors import Code, FileError, RefusedError
from protocol.files import read_bounded, write_atomic
from protocol.ledger.grants import NO_BOOK
from protocol.locks import locked
from source_site.training.accountant import epsilon_of
from source_site.training.run_folder import StoredRun, damaged_run

BUDGET_FILE = "corpora.json"
RELEASES = 3
"""Models that may leave of the same speech, unless the operator allows more."""
MAX_BUDGET_BYTES = 256 * 1024 * 1024
_RECORD_FILE = "training.json"


@dataclass(frozen=True, kw_only=True)
class Spent:
    """Describe one model that left, or was about to.

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
    """Hold all models that left at a tier above 0, in order.

    The order in which they were counted.
    """

    spent: tuple[Spent, ...] = ()

    def digests(self) -> Iterator[bytes]:
        """Yield the chain's hash before the first model and after each.

        32 bytes each, the present one last.
        """
        digest = NO_BOOK
        yield digest
        for one in self.spent:
            digest = hashlib.sha256(digest + json.dumps(asdict(one), sort_keys=True).encode()).digest()
            yield digest


def digest_of_book(keys_dir: Path, anchor: bytes) -> bytes:
    """Return the hash of the book's chain, for the ledger.

    Args:
        keys_dir: the source's keys.
        anchor: how it stood at the last grant, as the ledger says.

    Raises:
        RefusedError: the book does not go on from there.
        FileError: it cannot be read.
    """
    return list(_load(keys_dir, anchor).digests())[-1]


def spend(
    keys_dir: Path,
    run_dir: Path,
    run: StoredRun,
    *,
    anchor: bytes,
    releases: int,
    most_epsilon: float | None,
    announce: Announce,
) -> None:
    """Count a model against the budget of the speech that it was trained on.

    Args:
        keys_dir: the source's keys.
        run_dir: folder of the trained model.
        run: the model.
        anchor: how the chain of the book stood at the last grant, as the ledger says.
        releases: models that may leave of speech that they share, this one included.
        most_epsilon: the most that private ones may promise together; None asks for nothing.
        announce: told how much is spent.

    Raises:
        RefusedError: the budget is spent, or the book has lost what was in it.
        ModelError: the run does not say what it was trained on.
        FileError: the book cannot be read or written; restore it from a backup.
    """
    mine = _of_run(run_dir, run)
    with locked(os.open(keys_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)):
        book = _load(keys_dir, anchor)
        others = [one for one in book.spent if one.run_sha256 != mine.run_sha256]
        related = [mine, *(one for one in others if not set(one.utterances).isdisjoint(mine.utterances))]
        if len(related) > releases:
            raise RefusedError(
                Code.RELEASE_BUDGET,
                f"{len(related) - 1} other model(s) of this speech have left, and {releases} may leave in all; grant "
                "one of those, or raise --releases if the speakers' consent allows that.",
            )
        together = _together(related)
        if together is not None and most_epsilon is not None and together > most_epsilon:
            raise RefusedError(
                Code.RELEASE_BUDGET,
                f"The models of this speech promise an epsilon of {together:g} together, more than {most_epsilon:g}; "
                "grant one that has left before, or train with less.",
            )
        if mine not in book.spent:
            write_atomic(keys_dir / BUDGET_FILE, json.dumps(asdict(Book(spent=(*book.spent, mine)))).encode())
    promised = "" if together is None else f", which promise an epsilon of {together:g} together"
    announce(f"models of this speech that have left or are to leave now: {len(related)} of {releases}{promised}")


def _together(related: Iterable[Spent]) -> float | None:
    """Return what models promise together, or None.

    None if one of them promises nothing, or they protect different units.
    """
    trainings = list(related)
    if "" in (units := {one.unit for one in trainings}) or len(units) > 1:
        return None
    return epsilon_of([(one.noise_multiplier, one.steps) for one in trainings], min(one.delta for one in trainings))


def _of_run(run_dir: Path, run: StoredRun) -> Spent:
    """Return what is counted of a run.

    Its record is read as plain JSON, because nothing here may come near the speech.
    """
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


def _load(keys_dir: Path, anchor: bytes) -> Book:
    path = keys_dir / BUDGET_FILE
    try:
        told = json.loads(read_bounded(path, MAX_BUDGET_BYTES)) if path.exists() else {}
        book = parse_settings(Book, told, BUDGET_FILE)
    except (ValueError, RecursionError, SettingsError) as fault:
        raise FileError(
            Code.STORAGE, f"{path} is damaged, and without it no one knows what has left; restore it from a backup."
        ) from fault
    if anchor not in book.digests():
        raise RefusedError(
            Code.RELEASE_BUDGET,
            f"{path} lacks a model that has left by the ledger: it was deleted, changed or put back to an earlier day; "
            "restore the last copy.",
        )
    return book
