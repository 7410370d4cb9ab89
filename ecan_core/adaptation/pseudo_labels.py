"""Derive pseudo-labels from the score bank."""

from torch import Tensor

from ecan_core.adaptation.banks import MemoryBanks


def vote(neighbors: Tensor, banks: MemoryBanks) -> Tensor:
    """Return the mean score of the K' nearest neighbors (E8).

    Args:
        neighbors: bank rows ``[B, K']``.
        banks: memory banks.

    Returns:
        Soft votes ``[B, C]``; their argmax is the pseudo-label.
    """
    return banks.scores[neighbors].mean(dim=1)
