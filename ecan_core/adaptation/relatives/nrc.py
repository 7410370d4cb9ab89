"""Adapt by NRC: agree with neighbors, and a little with theirs.

Those that are neighbors in return count fully.

Source: Yang et al. 2021, "Exploiting the Intrinsic Neighborhood Structure"; method section 6.3.
Differs: AdamW at the product's learning rate in place of SGD, as for every method here. As many neighbors of neighbors
as neighbors (the published setting for VisDA). As in the published code an utterance may be among the neighbors of its
neighbors, which takes the place of the paper's term for itself.
"""

import torch
from torch import Tensor

from ecan_core.adaptation.banks import MemoryBanks
from ecan_core.adaptation.loop import Adaptation, LossTerms, OnEpoch, Step, minimize
from ecan_core.adaptation.losses.diversity import diversity_loss
from ecan_core.adaptation.losses.neighbor import Neighborhood, neighborhood
from ecan_core.adaptation.settings import AdaptSettings
from ecan_core.data.inputs import Inputs
from ecan_core.model.network import Network

WEAK = 0.1
"""Affinity of a neighbor that is none in return, and of a neighbor of a neighbor."""


def adapt_nrc(
    network: Network,
    inputs: Inputs,
    settings: AdaptSettings,
    *,
    seed: int,
    on_epoch: OnEpoch | None = None,
) -> Adaptation:
    """Agree with the K nearest neighbors and with theirs.

    All predictions together stay diverse.
    """

    def objective(step: Step) -> LossTerms:
        hood = step.neighborhood(settings.num_neighbors)
        return {
            "neighbor": reciprocal_loss(step.scores, hood, step.banks),
            "diversity": diversity_loss(step.scores),
        }

    return minimize(objective, network, inputs, settings, seed=seed, on_epoch=on_epoch)


def reciprocal_loss(scores: Tensor, hood: Neighborhood, banks: MemoryBanks) -> Tensor:
    """Attract neighbors, weighted by whether they are neighbors in return.

    ``-sum_k w_ik p_i . s_k - 0.1 sum_k sum_m p_i . s_m``, mean over i, with ``w_ik = 1`` when i is a neighbor of k
    and 0.1 otherwise.

    Args:
        scores: softmax outputs ``[B, C]``.
        hood: neighborhood of the mini-batch.
        banks: memory banks; neither bank receives a gradient.
    """
    num_rows, num_neighbors = hood.neighbors.shape
    rows = hood.neighbors.flatten()
    second = neighborhood(banks.embeddings[rows], rows, banks, num_neighbors).neighbors
    second = second.reshape(num_rows, num_neighbors, -1)  # [B, K, K]
    mutual = (second == hood.indices[:, None, None]).any(dim=2)
    affinity = torch.where(mutual, 1.0, WEAK).to(scores.dtype)
    near = torch.einsum("bc,bkc,bk->b", scores, banks.scores[hood.neighbors], affinity)
    expanded = torch.einsum("bc,bkmc->b", scores, banks.scores[second])
    return -(near + WEAK * expanded).mean()
