"""Describe what a contained process is told to do, as plain values.

An order also lists the files and folders that the process needs.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ecan_core.adaptation.settings import AdaptSettings
from ecan_core.command_line.console import Narrator
from ecan_core.data.calls import Parties
from ecan_core.data.unlabeled import LeftOut, roots
from ecan_core.errors import UsageError
from protocol.containment.launcher import Task
from target_site.site_policy import SitePolicy
from target_site.trust.acceptance import receipt_path


@dataclass(frozen=True, kw_only=True)
class RememberedSite:
    """Hold what a model remembers of the site that it was adapted at.

    Attributes:
        rules: the site's rules; None if it has none.
        keys: folder of its keys; None if they were not named.
    """

    rules: SitePolicy | None = None
    keys: Path | None = None


@dataclass(frozen=True, kw_only=True)
class AdaptOrder:
    """Adapt a bundle to recordings.

    Attributes:
        bundle: what this site accepted.
        sha256: digest of the bundle that was checked, in hexadecimal.
        audio: folder, file, pattern or list.
        parties: who speaks on which channel; None where channels mean nothing.
        out: folder of the adapted model, which is there.
        normalization: as ``--normalize``; None decides by the model and the list.
        method: a name that ``--method`` takes.
        settings: how to adapt.
        seed: seed of shuffling and dropout.
        cache: where features are kept.
        left_out: whose recordings are not looked at.
        least_confidence: the model abstains where it is less sure.
        site: the rules and the keys that the model shall remember (`target_site.trust.remembered`).
    """

    bundle: Path
    sha256: str
    audio: Path
    parties: Parties | None
    out: Path
    normalization: str | None
    method: str
    settings: AdaptSettings
    seed: int
    cache: Path
    left_out: LeftOut
    least_confidence: float
    site: RememberedSite = RememberedSite()

    @property
    def readable(self) -> tuple[Path, ...]:
        """Return the files and folders that the process may read."""
        return (self.bundle, receipt_path(self.bundle), *roots(self.audio))

    @property
    def writable(self) -> tuple[Path, ...]:
        """Return the folders that the process may write."""
        return (self.out, self.cache.parent)


@dataclass(frozen=True, kw_only=True)
class PredictOrder:
    """Predict recordings with an adapted model.

    Attributes:
        model: folder of the adapted model.
        audio: folder, file, pattern or list.
        parties: who speaks on which channel; None where channels mean nothing.
        out: folder of the predictions, which is there.
        cache: where features are kept.
        least_confidence: the model abstains where it is less sure.
    """

    model: Path
    audio: Path
    parties: Parties | None
    out: Path
    cache: Path
    least_confidence: float

    @property
    def readable(self) -> tuple[Path, ...]:
        """Return the files and folders that the process may read."""
        return (self.model, *roots(self.audio))

    @property
    def writable(self) -> tuple[Path, ...]:
        """Return the folders that the process may write."""
        return (self.out, self.cache.parent)


@dataclass(frozen=True, kw_only=True)
class EvaluateOrder:
    """Measure an adapted model on labelled recordings.

    Attributes:
        model: folder of the adapted model.
        labels: list of the recordings.
        cache: where features are kept.
    """

    model: Path
    labels: Path
    cache: Path

    @property
    def readable(self) -> tuple[Path, ...]:
        """Return the files and folders that the process may read."""
        return roots(self.labels)

    @property
    def writable(self) -> tuple[Path, ...]:
        """Return the folders that the process may write."""
        return (self.model, self.cache.parent)


@dataclass(frozen=True, kw_only=True)
class OnnxOrder:
    """Write an adapted model as an ONNX file.

    Attributes:
        model: folder of the adapted model.
        out: folder of the file, which is there.
    """

    model: Path
    out: Path

    @property
    def readable(self) -> tuple[Path, ...]:
        """Return the files and folders that the process may read."""
        return (self.model,)

    @property
    def writable(self) -> tuple[Path, ...]:
        """Return the folders that the process may write."""
        return (self.out,)


@dataclass(frozen=True, kw_only=True)
class SharedOrder:
    """Reach as far as an adaptation, for a model that sites share.

    Attributes:
        adapt: to what and how.
    """

    adapt: AdaptOrder

    @property
    def readable(self) -> tuple[Path, ...]:
        """Return the files and folders that the process may read."""
        return self.adapt.readable

    @property
    def writable(self) -> tuple[Path, ...]:
        """Return the folders that the process may write."""
        return self.adapt.writable


@dataclass(frozen=True, kw_only=True)
class RoundOrder(SharedOrder):
    """Adapt a shared model for one round and write how its weights changed.

    The output folder holds the change so far, and gets the update.

    Attributes:
        longest: largest Euclidean length of the update; a longer one is shortened to it.
    """

    longest: float


@dataclass(frozen=True, kw_only=True)
class ConcludeOrder(SharedOrder):
    """Judge a model that several sites share, and make it this site's.

    Attributes:
        rounds: how many there were.
    """

    rounds: int


Order = AdaptOrder | PredictOrder | EvaluateOrder | OnnxOrder | RoundOrder | ConcludeOrder
ORDERS: Mapping[str, type[Order]] = {
    "adapt": AdaptOrder,
    "predict": PredictOrder,
    "evaluate": EvaluateOrder,
    "onnx": OnnxOrder,
    "round": RoundOrder,
    "conclude": ConcludeOrder,
}
"""Every kind of order by its name."""


def refuse_among_recordings(out: Path, cache: Path, audio: Path) -> None:
    """Refuse to write among the recordings.

    What may write into their folder could change them.

    Raises:
        UsageError: the output folder holds recordings, the cache lies in a folder of theirs, or there is nothing at
            ``audio``.
    """
    folders = [root.resolve() for root in roots(audio)]
    if any(folder.is_relative_to(out.resolve()) for folder in folders):
        raise UsageError(f"{out} holds the recordings, which nothing here may change; choose another --out.")
    if cache.parent.resolve() in folders:
        raise UsageError(f"{cache} lies among the recordings, which nothing here may change; choose another --cache.")


def task_of(order: Order) -> Task:
    """Describe an order to the launcher of contained processes."""
    command = next(name for name, kind in ORDERS.items() if isinstance(order, kind))
    return Task(program="target_site.containment.contained", command=command, order=asdict(order))


def carry_out(
    order: "Order", policy: SitePolicy | None, accepted: str | None, narrator: Narrator, *, quiet: bool
) -> dict[str, Any]:
    """Carry out an order in a contained process."""
    from protocol.containment.launcher import carry_out_contained
    from protocol.containment.walls import DEFAULT_LEAST, Conditions
    from protocol.files import make_private_folder

    for place in order.writable:
        make_private_folder(place)
    conditions = Conditions(least=policy.least_level if policy else DEFAULT_LEAST, accepted=accepted)
    return carry_out_contained(task_of(order), conditions=conditions, announce=narrator.say, quiet=quiet)
