"""Describe what a contained process is told to do, as plain values.

An order also lists the files and folders that the process needs.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ecan_core.adaptation.settings import AdaptSettings
from ecan_core.command_line.console import Narrator
from ecan_core.data.cache import OF_SQLITE
from ecan_core.data.calls import Parties
from ecan_core.data.forgotten import Forgotten
from ecan_core.data.unlabeled import roots, searched
from ecan_core.errors import UsageError
from ecan_core.model.abstention import Abstention
from protocol.containment.launcher import Task
from protocol.containment.layout import out_of_reach
from protocol.identity.key_files import PRIVATE_FILES
from target_site.model.encoders import encoder_files
from target_site.model.folder import CACHE_FILE
from target_site.results.handed_labels import HandedLabel
from target_site.results.index import INDEX
from target_site.results.shards import Shard
from target_site.site_policy import SitePolicy
from target_site.trust.acceptance import receipt_path
from target_site.trust.approval import APPROVAL
from target_site.trust.state import STATE_FILE


@dataclass(frozen=True, kw_only=True)
class RememberedSite:
    """Hold what a model remembers of the site that it was adapted at.

    Attributes:
        rules: the site's rules; None if it has none.
        keys: folder of its keys; None if they were not named.
    """

    rules: SitePolicy | None = None
    keys: Path | None = None


RULES, LEDGER = "site.yaml", "ledger.sqlite"
"""How a site's rules are called in the documents, and a source's ledger."""
_PRIVATE = frozenset({*PRIVATE_FILES, STATE_FILE, RULES, LEDGER})


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
        left_out: who was forgotten, and is not heard again.
        abstention: where the model abstains.
        encoders: folder of public encoders.
        added_encoder: SHA-256 of the added encoder that the model is read by, in hexadecimal; empty for others.
        labels: what the operator hands over to learn from.
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
    left_out: Forgotten
    abstention: Abstention
    encoders: Path
    added_encoder: str = ""
    labels: tuple[HandedLabel, ...] = ()
    site: RememberedSite = RememberedSite()

    @property
    def readable(self) -> tuple[Path, ...]:
        """Return the files and folders that the process may read."""
        return (
            self.bundle,
            receipt_path(self.bundle),
            *encoder_files(self.encoders, self.added_encoder),
            *roots(self.audio),
        )

    @property
    def listable(self) -> tuple[Path, ...]:
        """Return the folders whose names the process may read."""
        return searched(self.audio)

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
        out: folder for what this run predicts, which is there (`target_site.results.runs`).
        index: folder of the index of what was predicted before.
        shard: the share of the recordings that is predicted.
        day: today, in days since 1970.
        cache: where features are kept.
        abstention: where the model abstains.
        encoders: folder of public encoders.
        left_out: who was forgotten, and is not heard again.
        added_encoder: SHA-256 of the added encoder that the model is read by, in hexadecimal; empty for others.
    """

    model: Path
    audio: Path
    parties: Parties | None
    out: Path
    index: Path
    shard: Shard
    day: int
    cache: Path
    abstention: Abstention
    encoders: Path
    left_out: Forgotten
    added_encoder: str = ""

    @property
    def readable(self) -> tuple[Path, ...]:
        """Return the files and folders that the process may read."""
        return (self.model, self.index / INDEX, *encoder_files(self.encoders, self.added_encoder), *roots(self.audio))

    @property
    def listable(self) -> tuple[Path, ...]:
        """Return the folders whose names the process may read."""
        return searched(self.audio)

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
        encoders: folder of public encoders.
        left_out: who was forgotten, and is not heard again.
        relabel: what labels count as (`ecan_core.labels.parse_relabel`).
        added_encoder: SHA-256 of the added encoder that the model is read by, in hexadecimal; empty for others.
    """

    model: Path
    labels: Path
    cache: Path
    encoders: Path
    left_out: Forgotten
    relabel: dict[str, str] = field(default_factory=dict)
    added_encoder: str = ""

    @property
    def readable(self) -> tuple[Path, ...]:
        """Return the files and folders that the process may read."""
        return (*encoder_files(self.encoders, self.added_encoder), *roots(self.labels))

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
    def listable(self) -> tuple[Path, ...]:
        """Return the folders whose names the process may read."""
        return self.adapt.listable

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
    """Refuse to write among the recordings, or where anything else lies.

    What may write into their folder could change them.

    Raises:
        UsageError: the output folder or that of the cache holds recordings, the cache has no folder of its own, or
            there is nothing at ``audio``.
    """
    places = {root.parent if root.is_file() and not root.is_symlink() else root for root in roots(audio)}
    heard = [place.resolve() for place in places]
    for option, folder in (("--out", out.resolve()), ("--cache", cache.parent.resolve())):
        if any(place.is_relative_to(folder) for place in heard):
            raise UsageError(f"{folder} holds the recordings, which nothing here may change; choose another {option}.")
    own = {cache.name + suffix for suffix in OF_SQLITE}
    if not cache.parent.is_dir() or cache.parent.resolve().is_relative_to(out.resolve()):
        return
    if any(name not in own for name in os.listdir(cache.parent)):  # noqa: PTH208 - no paths are wanted
        raise UsageError(
            f"{cache.parent} holds more than a cache, and what reads recordings may change all that lies there; "
            f"choose a --cache in a folder of its own, such as {cache.parent / CACHE_FILE}."
        )


def task_of(order: Order, own: Iterable[Path | None]) -> Task:
    """Describe an order to the launcher of contained processes.

    Args:
        order: what is to be done.
        own: the site's own keys and rules, as files or folders; None where a command was told of none.

    Raises:
        ContainmentError: keys, rules or approvals lie where the process may read or write.
    """
    named = [path for path in own if path is not None]
    # What a run predicts becomes part of a day beside the index: no key may lie there either.
    filled = (order.index,) if isinstance(order, PredictOrder) else ()
    return Task(
        program="target_site.containment.contained",
        command=next(name for name, kind in ORDERS.items() if isinstance(order, kind)),
        order=asdict(order),
        private=out_of_reach(named, is_private, readable=order.readable, writable=(*order.writable, *filled)),
    )


def is_private(name: str) -> bool:
    """Return whether a file of such a name must be out of reach."""
    return name in _PRIVATE or name.endswith(APPROVAL)


def carry_out(
    order: "Order",
    policy: SitePolicy | None,
    accepted: str | None,
    narrator: Narrator,
    *,
    quiet: bool,
    own: Iterable[Path | None] = (),
) -> dict[str, Any]:
    """Carry out an order in a contained process.

    See `task_of` for what is ``own``.
    """
    from protocol.containment.launcher import carry_out_contained
    from protocol.containment.walls import DEFAULT_LEAST, Conditions
    from protocol.files import make_private_folder

    task = task_of(order, own)
    for place in order.writable:
        make_private_folder(place)
    conditions = Conditions(least=policy.least_level if policy else DEFAULT_LEAST, accepted=accepted)
    return carry_out_contained(task, conditions=conditions, announce=narrator.say, quiet=quiet)
