"""Memory banks: one feature row and one score row for every target utterance.

A bank is a plain object and never a module buffer: per-utterance rows must not be able to reach a
``state_dict`` and so a saved model.
"""

from dataclasses import dataclass

from torch import Tensor

from ecan_core.data.inputs import Inputs
from ecan_core.model.network import Network
from ecan_core.predict import run


@dataclass(kw_only=True)
class MemoryBanks:
    """Unit-length features ``[N, D]`` and softmax scores ``[N, C]`` (E3, E4); no gradients."""

    features: Tensor
    scores: Tensor

    def update(self, indices: Tensor, features: Tensor, scores: Tensor) -> None:
        """Overwrite the rows ``indices`` ``[B]`` with the mini-batch's detached outputs (E5)."""
        self.features[indices] = features.detach()
        self.scores[indices] = scores.detach()


def fill_banks(network: Network, inputs: Inputs) -> MemoryBanks:
    """Fill both banks by one pass in evaluation mode (E5)."""
    features, logits = run(network, inputs)
    return MemoryBanks(features=features, scores=logits.softmax(dim=1))
