"""Adapt by LAME: keep the network, let neighbors agree on their classes.

Source: Boudiaf et al. 2022, "Parameter-free Online Test-time Adaptation"; method section 6.14.
Differs: over the whole target at once, where the original takes one mini-batch after another. The affinity is kept as
the list of neighbors and the neighbors are found block by block, so that memory grows with N alone; the time of the
search grows with its square.
"""

import torch
from torch import Tensor

from ecan_core.adaptation.banks import MemoryBanks, fill_banks
from ecan_core.adaptation.loop import Adaptation, OnEpoch
from ecan_core.adaptation.losses.neighbor import neighborhood
from ecan_core.adaptation.settings import AdaptSettings
from ecan_core.data.inputs import Inputs
from ecan_core.model.network import Network

NUM_NEIGHBORS = 10
MAX_STEPS = 100
TOLERANCE = 1e-6
"""Largest change of a score at which the iteration has converged."""
BLOCK_VALUES = 2**24
"""Similarities that are in memory at one time (64 MiB)."""


@torch.no_grad()
def adapt_lame(
    network: Network,
    inputs: Inputs,
    settings: AdaptSettings,
    *,
    seed: int,
    on_epoch: OnEpoch | None = None,
) -> Adaptation:
    """Give the utterances the scores that LAME assigns.

    The network stays as it is, so these scores are not its own.
    """
    banks = fill_banks(network, inputs)
    return Adaptation([], assign(banks.scores, all_neighbors(banks, NUM_NEIGHBORS)).numpy())


def assign(scores: Tensor, neighbors: Tensor) -> Tensor:
    """Iterate ``Y <- softmax(log p + W Y)`` from ``Y = p`` until it converges.

    Args:
        scores: softmax outputs p ``[N, C]``.
        neighbors: rows of the neighbors ``[N, K]``, which make W.

    Returns:
        Assignments Y ``[N, C]``, rows of sum 1.
    """
    log_scores = scores.clamp_min(1e-12).log()
    assigned = scores
    for _ in range(MAX_STEPS):
        previous, assigned = assigned, (log_scores + affinity_times(assigned, neighbors)).softmax(dim=1)
        if (assigned - previous).abs().max() <= TOLERANCE:
            break
    return assigned


def affinity_times(values: Tensor, neighbors: Tensor) -> Tensor:
    """Multiply ``W V`` ``[N, C]`` by lists of neighbors.

    ``W = (A + A^T) / 2``, and ``A_ij = 1`` where j is a neighbor of i.

    Args:
        values: V ``[N, C]``.
        neighbors: rows of the neighbors ``[N, K]``.
    """
    received = values[neighbors].sum(dim=1)
    sent = values.repeat_interleave(neighbors.shape[1], dim=0)  # [N K, C]
    return 0.5 * received.index_add(0, neighbors.flatten(), sent)


def all_neighbors(banks: MemoryBanks, num_neighbors: int) -> Tensor:
    """Find the K nearest rows of every row ``[N, K]``, self excluded.

    The search goes block by block.
    """
    count = len(banks.embeddings)
    blocks = torch.arange(count).split(max(1, BLOCK_VALUES // count))
    return torch.cat([neighborhood(banks.embeddings[rows], rows, banks, num_neighbors).neighbors for rows in blocks])
