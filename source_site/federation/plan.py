"""Agree on a plan before a consortium trains: one record for all sites.

It is plain data, the same at every site.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Literal

import numpy as np

from ecan_core.errors import SettingsError
from ecan_core.model.architectures import ARCHITECTURES, build_network
from ecan_core.model.network import Network
from ecan_core.model.weights import restore, snapshot
from ecan_core.settings.checks import at_least, at_most, non_negative, positive
from ecan_core.settings.parse import parse_settings
from ecan_core.training.train import TrainSettings
from protocol.bundle.architecture import model_shapes
from protocol.bundle.form import ModelForm
from protocol.federation.masking import FEWEST_FOR_SECRECY

Arrays = dict[str, np.ndarray]
MOST_ROUNDS, MOST_EPOCHS = 1000, 1000
"""A site is kept busy for so long by one run at most, and by one round of it."""
EVERYBODY, HEARD = "all/", "heard/"
"""The two networks that are trained side by side: the one that leaves, and one that never hears the speakers who are
held out, by which the recognition rate is estimated."""


@dataclass(frozen=True, kw_only=True)
class ConsortiumPlan:
    """Hold what a consortium agrees on.

    Attributes:
        classes: the classes to learn; none takes those that every site has.
        encoder: short name of the architecture.
        normalization: ``corpus`` or ``speaker``; each site by its own statistics, which stay there.
        rounds: how often the sites' networks are averaged.
        local_epochs: passes over a site's corpus in a round.
        strategy: ``fedavg`` averages; ``fedprox`` also holds each site near the others while it trains.
        proximal: how strongly (FedProx's mu).
        secure: the coordinator learns the sum of the sites' networks alone.
        min_sites: a round begins with so many sites.
        patience_s: how long a round waits for a site that died.
        estimate: whether the recognition rate on speakers that were held out is estimated.
        epsilon: what each site promises its utterances; 0 trains as usual.
        seed: seed of initialization, shuffling and dropout.
        training: how a site trains; its epochs are ``rounds`` times ``local_epochs``. Labels are smoothed
            by 0.1, half as much as at one site alone: with more, the mean of a few rounds loses too much in 8 bits.
    """

    classes: tuple[str, ...] = ()
    encoder: Literal["mlp", "tdnn"] = "mlp"
    normalization: Literal["corpus", "speaker"] = "speaker"
    rounds: int = 10
    local_epochs: int = 3
    strategy: Literal["fedavg", "fedprox"] = "fedprox"
    proximal: float = 0.1
    secure: bool = False
    min_sites: int = 2
    patience_s: float = 900.0
    estimate: bool = True
    epsilon: float = 0.0
    seed: int = 0
    training: TrainSettings = field(default_factory=lambda: TrainSettings(label_smoothing=0.1))

    def __post_init__(self) -> None:
        positive(self, "rounds", "local_epochs", "patience_s")
        non_negative(self, "proximal", "epsilon", "seed")
        at_most(self, "rounds", MOST_ROUNDS)
        at_most(self, "local_epochs", MOST_EPOCHS)
        at_least(self, "min_sites", FEWEST_FOR_SECRECY if self.secure else 2)

    @property
    def mu(self) -> float:
        """Return the weight of the proximal term."""
        return self.proximal if self.strategy == "fedprox" else 0.0

    @property
    def is_estimated(self) -> bool:
        """Whether a second network is trained for the recognition rate.

        A private plan would pay for it twice.
        """
        return self.estimate and not self.epsilon

    def to_text(self) -> str:
        """Return the plan as one line of JSON."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_text(text: str) -> "ConsortiumPlan":
        """Read a plan.

        Raises:
            SettingsError: it is damaged, or of another version.
        """
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError):
            fields = None
        if not isinstance(fields, dict):
            raise SettingsError("the plan of the federation is no JSON object; let all sites install the same version")
        return parse_settings(ConsortiumPlan, fields, "the plan of the federation")


def fresh_network(plan: ConsortiumPlan, num_classes: int) -> Network:
    """Build the network that every site starts from."""
    arch = ARCHITECTURES[plan.encoder]
    input_dim = model_shapes(ModelForm(arch.name, num_classes, plan.normalization))["encoder.0.weight"][1]
    return build_network(
        arch, input_dim=input_dim, num_classes=num_classes, normalization=plan.normalization, seed=plan.seed
    )


def network_of(plan: ConsortiumPlan, num_classes: int, arrays: Mapping[str, np.ndarray]) -> Network:
    """Build a network with weights that came from elsewhere.

    Raises:
        SettingsError: they are of another network.
    """
    network = fresh_network(plan, num_classes)
    try:
        restore(network, arrays)
    except RuntimeError as error:
        raise SettingsError("the weights are of another network; let all sites install the same version") from error
    return network


def first_arrays(plan: ConsortiumPlan, num_classes: int) -> Arrays:
    """Return what the first round starts from.

    These are the networks that are trained side by side.
    """
    start = snapshot(fresh_network(plan, num_classes))
    return named(start, EVERYBODY) | (named(start, HEARD) if plan.is_estimated else {})


@lru_cache(maxsize=8)
def array_shapes(plan: ConsortiumPlan, num_classes: int) -> Mapping[str, tuple[int, ...]]:
    """Return the names and shapes of what a round exchanges: float32 arrays."""
    return {name: array.shape for name, array in first_arrays(plan, num_classes).items()}


def part(arrays: Mapping[str, np.ndarray], name: str) -> Arrays:
    """Return the weights of one of several networks, by their names in it.

    ``arrays`` holds those of all networks.
    """
    return {key.removeprefix(name): value for key, value in arrays.items() if key.startswith(name)}


def named(arrays: Mapping[str, np.ndarray], name: str) -> Arrays:
    """Name the weights of a network as those of one among several."""
    return {name + key: value for key, value in arrays.items()}
