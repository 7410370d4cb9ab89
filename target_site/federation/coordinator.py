"""Coordinate sites that adapt one model together.

The coordinator has neither recordings nor the bundle, which is sealed to each site. Round by round it averages how the
sites would change the weights that all of them have, and tells them what that has come to.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from flwr.app.message_type import MessageType
from flwr.serverapp import Grid

from ecan_core.settings.checks import at_least, non_negative, positive
from protocol.errors import Code, PeerError, RefusedError
from protocol.federation.masking import FEWEST_FOR_SECRECY
from protocol.federation.rounds import Averaging, ask, average, wait_for_nodes
from protocol.federation.update import shapes
from target_site.federation.member import ARCH, CLASSES, END, LARGEST, WEIGHTS, Round

GATHERING_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class TogetherPlan:
    """Hold what an operator asks of the sites.

    Attributes:
        rounds: how often updates are averaged.
        epochs: passes over a site's recordings in between.
        secure: whether the sum of the updates alone is learned.
        sites: how many there are; a round begins with all of them.
        patience_s: how long a round waits for a site that died.
        seed: of shuffling and dropout.
    """

    rounds: int = 5
    epochs: int = 3
    secure: bool = True
    sites: int = FEWEST_FOR_SECRECY
    patience_s: float = 3600.0
    seed: int = 0

    def __post_init__(self) -> None:
        positive(self, "rounds", "epochs", "patience_s")
        non_negative(self, "seed")
        at_least(self, "sites", FEWEST_FOR_SECRECY if self.secure else 2)

    def round(self, weights: str, number: int) -> Round:
        """Return what the sites are asked for in a round."""
        return Round(weights=weights, rounds=self.rounds, number=number, epochs=self.epochs, seed=self.seed)


def adapt_together(grid: Grid, plan: TogetherPlan) -> int:
    """Have the sites adapt one model; return how many have it in the end.

    Args:
        grid: Flower's way to the sites.
        plan: what is asked of them.

    Raises:
        PeerError: too few sites came or answered.
        RefusedError: the sites have different models.
    """
    nodes = wait_for_nodes(grid, plan.sites, GATHERING_S)
    if len(nodes) < plan.sites:
        raise PeerError(
            Code.CONNECTION, f"{len(nodes)} of {plan.sites} sites came; start the others' nodes and run again."
        )
    weights, form = _agree(grid, nodes, plan)
    how = Averaging(secure=plan.secure, patience_s=plan.patience_s, largest=LARGEST)
    change = {name: np.zeros(shape, np.float32) for name, shape in shapes(*form).items()}
    for number in range(1, plan.rounds + 1):
        fields = asdict(plan.round(weights, number))
        update = average(grid, nodes, how, fields, change, step=f"round {number}")
        change = {name: (change[name] + update[name]).astype(np.float32) for name in change}
    return len(ask(grid, nodes, END, asdict(plan.round(weights, plan.rounds)), change, plan.patience_s))


def _agree(grid: Grid, nodes: Sequence[int], plan: TogetherPlan) -> tuple[str, tuple[str, int]]:
    """Return the release that all sites have, and the form of an update of it."""
    told = [answer.fields for answer in ask(grid, nodes, MessageType.QUERY, {}, {}, plan.patience_s)]
    models = {(str(one.get(WEIGHTS)), str(one.get(ARCH)), int(one.get(CLASSES, 0))) for one in told}
    if len(models) > 1:
        raise RefusedError(Code.POLICY, "The sites have different models; give all of them the same release.")
    [(weights, arch, num_classes)] = models
    return weights, (arch, num_classes)
