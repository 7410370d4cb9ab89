"""Keep one embedding and one score row for every target utterance.

A bank is a plain object and never a module buffer: per-utterance rows must not be able to reach a
``state_dict`` and so a saved model.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ecan_core.data.inputs import Inputs
from ecan_core.model.network import Network
from ecan_core.model.predict import run


@dataclass(kw_only=True)
class MemoryBanks:
    """Hold embeddings ``[N, D]`` and scores ``[N, C]``, without gradients.

    Embeddings have unit length (E3); scores are softmax outputs (E4).
    """

    embeddings: Tensor
    scores: Tensor

    def update(self, indices: Tensor, embeddings: Tensor, scores: Tensor) -> None:
        """Overwrite the rows ``indices`` ``[B]`` with new outputs (E5).

        They are the mini-batch's, detached.
        """
        self.embeddings[indices] = embeddings.detach()
        self.scores[indices] = scores.detach()

    def draw(self, limit: int) -> Tensor | None:
        """Draw at most ``limit`` rows to search; None where that is all.

        The draw is from torch's global generator.
        """
        count = len(self.embeddings)
        return None if count <= limit else torch.randperm(count)[:limit]

    def around(self, indices: Tensor, drawn: Tensor | None) -> "tuple[MemoryBanks, Tensor]":
        """Return the banks that a mini-batch is compared with.

        They hold its own rows and the drawn ones, as if there were no others.

        So a neighborhood, its own utterance and the neighbors of neighbors all lie in one set of rows, whose size
        does not grow with N.

        Args:
            indices: bank rows of the mini-batch ``[B]``.
            drawn: rows to search ``[M]``, as ``draw`` gave them.

        Returns:
            Banks of at most ``M + B`` rows, and the rows of the mini-batch in them ``[B]``; these banks
            themselves and ``indices`` where nothing was drawn.
        """
        if drawn is None:
            return self, indices
        rows = torch.cat([indices, drawn[~torch.isin(drawn, indices)]])
        near = MemoryBanks(embeddings=self.embeddings.index_select(0, rows), scores=self.scores.index_select(0, rows))
        return near, torch.arange(len(indices))


def fill_banks(network: Network, inputs: Inputs) -> MemoryBanks:
    """Fill both banks by one pass in evaluation mode (E5)."""
    embeddings, logits = run(network, inputs)
    return MemoryBanks(embeddings=embeddings, scores=logits.softmax(dim=1))
