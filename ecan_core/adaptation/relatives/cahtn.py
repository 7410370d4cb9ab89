"""Adapt by CaHTN: maximize information and train on pseudo-labels.

The head is frozen. Pseudo-labels say both which class is heard and which is not.

Source: the abstract of Zhao et al., Interspeech 2024, alone; method section 6.13.
Differs: a rebuild. Frozen head, information maximization and confident positive and negative pseudo-labels are the
abstract's; the form of the two losses, the thresholds and the weights are guesses. Confidence is the model's own score
and no vote. AdamW at the product's learning rate, as for every method here.
"""

from dataclasses import replace

import torch
from torch import Tensor

from ecan_core.adaptation.loop import Adaptation, LossTerms, OnEpoch, Step, minimize
from ecan_core.adaptation.relatives.shot import information_maximization
from ecan_core.adaptation.settings import AdaptSettings
from ecan_core.data.inputs import Inputs
from ecan_core.model.network import Network

LIKELY = 0.9
"""Score from which a class is a positive pseudo-label."""
UNLIKELY = 0.05
"""Score up to which a class is a negative pseudo-label."""
POSITIVE_WEIGHT = 0.3
NEGATIVE_WEIGHT = 0.3


def adapt_cahtn(
    network: Network,
    inputs: Inputs,
    settings: AdaptSettings,
    *,
    seed: int,
    on_epoch: OnEpoch | None = None,
) -> Adaptation:
    """Run SHOT-IM and hold on to confident classes.

    They are the classes that are confidently present or confidently absent.
    """
    frozen_head = replace(settings, train_head=False)
    return minimize(bidirectional, network, inputs, frozen_head, seed=seed, on_epoch=on_epoch)


def bidirectional(step: Step) -> LossTerms:
    """Sum information maximization and both kinds of self-training.

    Positive and negative pseudo-labels count.
    """
    return information_maximization(step) | {
        "positive": POSITIVE_WEIGHT * positive_loss(step.scores),
        "negative": NEGATIVE_WEIGHT * negative_loss(step.scores),
    }


def positive_loss(scores: Tensor) -> Tensor:
    """Return the mean cross-entropy ``-log max_c p_ic``.

    The mean is over the confident rows of ``scores`` ``[B, C]``; it is 0 without any.
    """
    top = scores.max(dim=1).values
    confident = top[top.detach() >= LIKELY]
    return -confident.log().sum() / max(1, len(confident))


def negative_loss(scores: Tensor) -> Tensor:
    """Return the mean of ``-log(1 - p_ic)`` over unlikely entries.

    They are entries of ``scores`` ``[B, C]``; the mean is 0 without any.
    """
    unlikely = scores[scores.detach() <= UNLIKELY]
    return -torch.log1p(-unlikely).sum() / max(1, len(unlikely))
