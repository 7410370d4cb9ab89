"""Pull every utterance towards its nearest neighbors in the bank.

This is nearest-neighbor contrastive learning.

Five forms are selectable, because the paper's own text was not at hand (docs/method.md):

``ncl-1``  InfoNCE over the embedding bank, one logarithm per neighbor
``ncl-2``  the same with the neighbors summed inside the logarithm
``ncl-3``  attraction and dispersion of scores (AaD)
``ncl-4``  like ``ncl-1`` with negatives from the mini-batch alone
``ncl-5``  like ``ncl-3``, sparing negatives that are neighbors of neighbors (CaC)
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ecan_core.adaptation.banks import MemoryBanks


class Neighborhood(NamedTuple):
    """Describe where a mini-batch's utterances lie in the embedding bank.

    Attributes:
        indices: bank rows of the mini-batch ``[B]``.
        similarity: cosine similarity to every bank row ``[B, N]``, differentiable; the own row is ``-inf``.
        neighbors: bank rows of the K most similar utterances ``[B, K]``, self excluded (E6).
    """

    indices: Tensor
    similarity: Tensor
    neighbors: Tensor


def neighborhood(embeddings: Tensor, indices: Tensor, banks: MemoryBanks, num_neighbors: int) -> Neighborhood:
    """Find the K nearest bank rows of each utterance (E6).

    Args:
        embeddings: unit-length embeddings ``[B, D]``, with gradient.
        indices: bank rows of these utterances ``[B]``.
        banks: memory banks of the N target utterances.
        num_neighbors: K; all others where there are fewer.
    """
    similarity = embeddings @ banks.embeddings.T
    similarity = similarity.scatter(1, indices[:, None], -torch.inf)
    neighbors = similarity.detach().topk(min(num_neighbors, len(banks.embeddings) - 1), dim=1).indices
    return Neighborhood(indices=indices, similarity=similarity, neighbors=neighbors)


def instance_loss(hood: Neighborhood, temperature: float) -> Tensor:
    """Compute NCL-1: contrast each neighbor with the whole bank.

    The mean over neighbors k of ``-log softmax_j(f_i . F_j / temperature)[k]``, j over the bank but i.

    Equal embeddings everywhere give ``log(N - 1)``.

    Source: method E7 (its formula is a guess from secondary sources).
    """
    log_share = torch.log_softmax(hood.similarity / temperature, dim=1)
    return -log_share.gather(1, hood.neighbors).mean()


def summed_instance_loss(hood: Neighborhood, temperature: float) -> Tensor:
    """Compute NCL-2: contrast the K neighbors together with the whole bank.

    ``-log`` of the softmax mass that lies on them.

    Source: method section 1, rival NCL-2.
    """
    log_share = torch.log_softmax(hood.similarity / temperature, dim=1)
    return -log_share.gather(1, hood.neighbors).logsumexp(dim=1).mean()


def batch_instance_loss(embeddings: Tensor, hood: Neighborhood, temperature: float) -> Tensor:
    """Compute NCL-4: contrast each neighbor with the mini-batch alone.

    Its other utterances are the only negatives.

    Args:
        embeddings: unit-length embeddings of the mini-batch ``[B, D]``.
        hood: their neighborhood.
        temperature: softmax temperature.

    Source: method section 1, rival NCL-4.
    """
    positive = hood.similarity.gather(1, hood.neighbors) / temperature
    within = (embeddings @ embeddings.T / temperature).masked_fill(_diagonal(embeddings), -torch.inf)
    negative = within.logsumexp(dim=1, keepdim=True)
    return (torch.logaddexp(positive, negative) - positive).mean()


def score_loss(scores: Tensor, hood: Neighborhood, banks: MemoryBanks, dispersion: float) -> Tensor:
    """Compute NCL-3: agree with the neighbors' scores, disagree with the rest.

    The rest is that of the mini-batch.

    ``-sum_k p_i . s_k + dispersion * sum_{m != i} p_i . p_m``, mean over i.

    Args:
        scores: softmax outputs ``[B, C]``.
        hood: neighborhood of the mini-batch.
        banks: memory banks; neither bank receives a gradient.
        dispersion: weight of the second term; its size grows with B as in the original.

    Source: AaD (Yang et al. 2022); method section 6.4.
    """
    attraction = torch.einsum("bc,bkc->b", scores, banks.scores[hood.neighbors])
    overlap = (scores @ scores.T).masked_fill(_diagonal(scores), 0.0).sum(dim=1)
    return (dispersion * overlap - attraction).mean()


def filtered_score_loss(scores: Tensor, hood: Neighborhood, banks: MemoryBanks, dispersion: float) -> Tensor:
    """Compute NCL-5: like NCL-3, but spare the neighbors of neighbors.

    They are no negatives, and i is compared through its neighbors.

    ``-sum_k p_i . s_k + dispersion * sum_{m != i} w_im mean_k s_k . p_m`` with ``w_im = 0`` when m is a
    neighbor of one of i's neighbors.

    Source: CaC; method section 6.5.
    """
    num_rows, num_neighbors = hood.neighbors.shape
    neighbor_scores = banks.scores[hood.neighbors]
    attraction = torch.einsum("bc,bkc->b", scores, neighbor_scores)
    rows = hood.neighbors.flatten()
    second = neighborhood(banks.embeddings[rows], rows, banks, num_neighbors).neighbors
    second = second.reshape(num_rows, -1)
    spared = (hood.indices[None, :, None] == second[:, None, :]).any(dim=2) | _diagonal(scores)
    overlap = (neighbor_scores.mean(dim=1) @ scores.T).masked_fill(spared, 0.0).sum(dim=1)
    return (dispersion * overlap - attraction).mean()


def _diagonal(rows: Tensor) -> Tensor:
    return torch.eye(len(rows), dtype=torch.bool, device=rows.device)
