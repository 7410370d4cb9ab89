"""The adaptation methods by the name that ``--method`` takes."""

from dataclasses import fields
from typing import Protocol

from ecan_core.adapt import Adaptation, AdaptSettings, OnEpoch, adapt
from ecan_core.baselines.aad import adapt_aad
from ecan_core.baselines.adabn import adapt_adabn
from ecan_core.baselines.cahtn import adapt_cahtn
from ecan_core.baselines.cowa import adapt_cowa
from ecan_core.baselines.lame import adapt_lame
from ecan_core.baselines.nrc import adapt_nrc
from ecan_core.baselines.shot import adapt_shot, adapt_shot_im
from ecan_core.baselines.source_only import adapt_none
from ecan_core.baselines.t3a import adapt_t3a
from ecan_core.baselines.tent import adapt_tent
from ecan_core.baselines.ucon import adapt_ucon
from ecan_core.data.inputs import Inputs
from ecan_core.errors import SettingsError
from ecan_core.model.network import Network


class Method(Protocol):
    """Adapts a network in place to unlabelled inputs."""

    def __call__(
        self,
        network: Network,
        inputs: Inputs,
        settings: AdaptSettings,
        *,
        seed: int,
        on_epoch: OnEpoch | None = None,
    ) -> Adaptation: ...


METHODS: dict[str, Method] = {
    "ecan": adapt,
    "none": adapt_none,
    "adabn": adapt_adabn,
    "t3a": adapt_t3a,
    "tent": adapt_tent,
    "shot-im": adapt_shot_im,
    "shot": adapt_shot,
    "nrc": adapt_nrc,
    "aad": adapt_aad,
    "ucon": adapt_ucon,
    "cahtn": adapt_cahtn,
    "cowa": adapt_cowa,
}
"""What ``--method`` takes: each leaves a network that can be saved and used again."""

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

DEFAULT_METHOD = "committee"
"""What wins on the development pairs under one setting for all (docs/method.md)."""
COMMITTEES = {DEFAULT_METHOD: ("cowa", "shot-im", "cowa")}
"""Committees of several methods, by the name that ``--method`` takes."""
MEMBERS = 3
"""Networks of a committee of one method."""
SINGLE_PASS = ("none", "adabn", "t3a")
"""Methods without epochs and without chance: more than one of them would be the same."""


def members_of(method: str) -> tuple[str, ...]:
    """The methods of the committee that ``--method`` asks for, member by member."""
    if method in COMMITTEES:
        return COMMITTEES[method]
    return (method,) * (1 if method in SINGLE_PASS else MEMBERS)


SCORING_METHODS: dict[str, Method] = {"lame": adapt_lame}
"""What leaves the network as it is and gives these utterances other scores; no command offers it, because there is
nothing to save."""


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
