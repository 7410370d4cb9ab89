"""Choose the method and the settings of an adaptation.

Read without torch, before the adaptation begins.
"""

from dataclasses import dataclass, fields
from typing import NamedTuple

from ecan_core.errors import SettingsError, UsageError
from ecan_core.settings.checks import at_least, non_negative, one_of, positive

NEIGHBOR_FORMS = ("ncl-1", "ncl-2", "ncl-3", "ncl-4", "ncl-5")
SUPERVISED_FORMS = ("scl-1", "scl-2")
PSEUDO_LABELS = ("vote", "own")


@dataclass(frozen=True, kw_only=True)
class AdaptSettings:
    """Configure how a model is adapted; see docs/method.md for reasons.

    Attributes:
        epochs: passes over the target corpus.
        batch_size: utterances per step, B.
        optimizer: ``adamw`` or ``sgd`` (Nesterov momentum 0.9).
        learning_rate: of bottleneck and head, decayed as ``(1 + 10 t/T)^-0.75``.
        encoder_rate: learning rate of the encoder as a share of ``learning_rate``.
        weight_decay: weight decay.
        train_head: whether the head is trained; False keeps the source's head (SHOT).
        num_neighbors: K of the neighbor loss.
        num_voters: K' of the vote for pseudo-labels.
        candidates: neighbors are searched among the mini-batch and at most so many other bank rows, drawn afresh
            for every epoch, so that an epoch's cost is linear in N; a smaller corpus is searched whole.
        temperature: of both contrastive losses.
        neighbor_form: form of the neighbor loss, see ``ecan_core.adaptation.losses.neighbor``.
        supervised_form: ``scl-1`` contrasts within the mini-batch, ``scl-2`` with the whole bank.
        pseudo_labels: ``vote`` of the neighbors or the ``own`` score (SCL-3).
        dispersion: weight of the dispersion of ``ncl-3`` and ``ncl-5`` at the start.
        dispersion_decay: exponent of its decay ``(1 + 10 t/T)^-exponent``.
        diversity_weight: weight of the diversity loss.
        neighbor_weight: lambda of E11.
        supervised_weight: beta of E11.
        certainty_weight: weight of the mean entropy of the scores; 0 in the paper.
    """

    epochs: int = 15
    batch_size: int = 64
    optimizer: str = "adamw"
    learning_rate: float = 3e-4
    encoder_rate: float = 1.0
    weight_decay: float = 1e-3
    train_head: bool = True
    num_neighbors: int = 5
    num_voters: int = 10
    candidates: int = 16384
    temperature: float = 0.07
    neighbor_form: str = "ncl-3"
    supervised_form: str = "scl-1"
    pseudo_labels: str = "vote"
    dispersion: float = 0.0
    dispersion_decay: float = 1.0
    diversity_weight: float = 1.0
    neighbor_weight: float = 0.2
    supervised_weight: float = 0.02
    certainty_weight: float = 0.0

    def __post_init__(self) -> None:
        at_least(self, "batch_size", 2)
        positive(self, "epochs", "learning_rate", "num_neighbors", "num_voters", "candidates", "temperature")
        non_negative(self, "encoder_rate", "weight_decay", "dispersion", "dispersion_decay")
        non_negative(self, "diversity_weight", "neighbor_weight", "supervised_weight", "certainty_weight")
        one_of(self, "optimizer", ("adamw", "sgd"))
        one_of(self, "neighbor_form", NEIGHBOR_FORMS)
        one_of(self, "supervised_form", SUPERVISED_FORMS)
        one_of(self, "pseudo_labels", PSEUDO_LABELS)


class AdaptPlan(NamedTuple):
    """Plan an adaptation: method, settings, seed of shuffling and dropout."""

    method: str
    settings: AdaptSettings
    seed: int


OPTIMIZATION = frozenset({"epochs", "batch_size", "optimizer", "learning_rate", "encoder_rate", "weight_decay"})
NEIGHBORS = frozenset({"num_neighbors", "candidates"})

READS: dict[str, frozenset[str]] = {
    "ecan": frozenset(field.name for field in fields(AdaptSettings)),
    "none": frozenset(),
    "adabn": frozenset(),
    "t3a": frozenset(),
    "tent": OPTIMIZATION - {"weight_decay"},
    "shot-im": OPTIMIZATION,
    "shot": OPTIMIZATION,
    "nrc": OPTIMIZATION | NEIGHBORS | {"train_head"},
    "aad": OPTIMIZATION | NEIGHBORS | {"train_head"},
    "ucon": OPTIMIZATION | NEIGHBORS | {"train_head"},
    "cahtn": OPTIMIZATION,
    "cowa": OPTIMIZATION,
}
"""The settings that count in each method; the others it decides for itself or has no use for."""

LEARNS_FROM_LABELS = frozenset({"ecan", "shot-im", "cowa"})
"""The methods that take labels which an operator hands over."""

DEFAULT_METHOD = "committee"
"""What wins on the development pairs under one setting for all (docs/method.md)."""
COMMITTEES = {DEFAULT_METHOD: ("cowa", "ecan", "cowa")}
"""Committees of several methods, by the name that ``--method`` takes."""
OFFERED = (DEFAULT_METHOD, "ecan", "cowa", "shot-im", "none")
"""The methods for use: the default, its members, ECAN and none; the others are relatives, for comparisons."""
MIN_UTTERANCES = 8
"""Fewer utterances than this are no corpus: neighbors and class shares mean nothing."""
MEMBERS = 3
"""Networks of a committee of one method."""
SINGLE_PASS = ("none", "adabn", "t3a")
"""Methods without epochs and without chance: more than one of them would be the same."""


def members_of(method: str) -> tuple[str, ...]:
    """Return the methods of the committee that ``--method`` asks for.

    Member by member.
    """
    if method in COMMITTEES:
        return COMMITTEES[method]
    return (method,) * (1 if method in SINGLE_PASS else MEMBERS)


def refuse_relative(method: str) -> None:
    """Refuse a method that is there for comparisons alone.

    Raises:
        UsageError: no default uses it.
    """
    if method not in OFFERED:
        raise UsageError(
            f"--method {method} serves comparisons and nothing uses it by default; give --research to adapt by it all "
            f"the same, or choose one of {', '.join(OFFERED)}"
        )


def refuse_without_labels(method: str) -> None:
    """Refuse a method that cannot learn from labels.

    Raises:
        UsageError: one of its members cannot.
    """
    if not set(members_of(method)) <= LEARNS_FROM_LABELS:
        raise UsageError(f"--method {method} learns from no labels; leave --labels out, or --method for the default")


def check_settings(method: str, settings: AdaptSettings) -> None:
    """Refuse settings that would change nothing.

    Args:
        method: what ``--method`` was given; in a committee a setting counts if one of the members reads it.
        settings: how to adapt.

    Raises:
        SettingsError: a setting has another value than its default, and is not read.
    """
    read = frozenset[str]().union(*(READS[member] for member in members_of(method)))
    for field in fields(settings):
        if field.name not in read and getattr(settings, field.name) != field.default:
            raise SettingsError(f"{field.name} is not read by --method {method}; leave it out or use --method ecan")
