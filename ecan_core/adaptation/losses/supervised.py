"""Separate the classes of embeddings, contrasting pseudo-labels."""

import torch
from torch import Tensor


def supervised_contrastive_loss(embeddings: Tensor, pseudo_labels: Tensor, temperature: float) -> Tensor:
    """Compute SCL-1: attract utterances of one pseudo-class to each other.

    All of them are in the mini-batch.

    For every anchor i with positives ``P(i)`` (same pseudo-label, not itself): the mean over P(i) of
    ``-log softmax_{a != i}(f_i . f_a / temperature)``; anchors without positives do not count. Without any
    positive pair the loss is 0; equal embeddings give ``log(B - 1)``.

    Args:
        embeddings: unit-length embeddings ``[B, D]``.
        pseudo_labels: class indices ``[B]``.
        temperature: softmax temperature.

    Source: method E9 (Khosla et al. 2020, "L_out").
    """
    itself = torch.eye(len(embeddings), dtype=torch.bool, device=embeddings.device)
    similarity = (embeddings @ embeddings.T / temperature).masked_fill(itself, -torch.inf)
    positive = (pseudo_labels[:, None] == pseudo_labels[None, :]) & ~itself
    return _mean_over_positives(similarity, positive)


def bank_supervised_contrastive_loss(
    similarity: Tensor, pseudo_labels: Tensor, bank_labels: Tensor, temperature: float
) -> Tensor:
    """Compute SCL-2: contrast like SCL-1, but with the whole embedding bank.

    Args:
        similarity: cosine similarity to the bank ``[B, N]``, the own row ``-inf`` (``Neighborhood.similarity``).
        pseudo_labels: class indices of the mini-batch ``[B]``.
        bank_labels: class indices of the bank ``[N]``.
        temperature: softmax temperature.

    Source: method section 1, rival SCL-2.
    """
    positive = (pseudo_labels[:, None] == bank_labels[None, :]) & torch.isfinite(similarity)
    return _mean_over_positives(similarity / temperature, positive)


def _mean_over_positives(similarity: Tensor, positive: Tensor) -> Tensor:
    log_share = torch.log_softmax(similarity, dim=1).masked_fill(~positive, 0.0)
    num_positives = positive.sum(dim=1)
    anchors = num_positives > 0
    if not anchors.any():
        return similarity.new_zeros(())
    return -(log_share.sum(dim=1)[anchors] / num_positives[anchors]).mean()
