"""Keep the predictions of a mini-batch spread over all classes."""

import math

from torch import Tensor


def diversity_loss(scores: Tensor) -> Tensor:
    """Return the divergence of the mean prediction from uniform.

    ``KL(p || u) = sum_c p_c log p_c + log C`` with ``p`` the mean row of ``scores``: 0 when all classes are
    predicted equally often, ``log C`` when one class takes everything.

    Args:
        scores: softmax outputs ``[B, C]``.

    Returns:
        A scalar in ``[0, log C]``.

    Source: method E10 (the form used by G-SFDA and NRC).
    Differs: by the constant ``log C``, which makes 0 the best value.
    """
    mean = scores.mean(dim=0)
    return (mean * mean.clamp_min(1e-12).log()).sum() + math.log(scores.shape[1])


def mean_entropy(scores: Tensor) -> Tensor:
    """Return the mean Shannon entropy of rows ``[B, C]`` in nats.

    Source: the certainty half of information maximization (SHOT, Liang et al. 2020).
    """
    return entropy(scores).mean()


def entropy(scores: Tensor) -> Tensor:
    """Return the Shannon entropy ``[B]`` of each row ``[B, C]`` in nats."""
    return -(scores * scores.clamp_min(1e-12).log()).sum(dim=1)
