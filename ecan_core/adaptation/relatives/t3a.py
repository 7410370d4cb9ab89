"""Adapt by T3A: turn the head's rows towards certain target utterances.

Source: Iwasawa & Matsuo 2021, "Test-Time Classifier Adjustment Module"; method section 6.14.
Differs: all utterances are supports at once, where the original takes them as they arrive. A row of the head supports
its own class, so that every class has a support to begin with. The head keeps its ``LENGTH``, which scales the scores
and changes no prediction.
"""

import torch
from torch import Tensor
from torch.nn import functional

from ecan_core.adaptation.loop import Adaptation, OnEpoch, single_pass
from ecan_core.adaptation.losses.diversity import entropy
from ecan_core.adaptation.settings import AdaptSettings
from ecan_core.data.inputs import Inputs
from ecan_core.model.network import Network
from ecan_core.model.predict import run

SUPPORTS_PER_CLASS = 64
"""How many supports of a class are kept: those with the lowest entropy."""


@torch.no_grad()
def adapt_t3a(
    network: Network,
    inputs: Inputs,
    settings: AdaptSettings,
    *,
    seed: int,
    on_epoch: OnEpoch | None = None,
) -> Adaptation:
    """Point each class's row of the head at its sum of supports.

    All biases become zero; no loss, no epochs.
    """
    embeddings, logits = run(network, inputs)
    head = network.head
    rows = functional.normalize(head.direction, dim=1)
    supports = torch.cat([rows, embeddings])
    scores = torch.cat([head(rows), logits]).softmax(dim=1)
    classes = scores.argmax(dim=1)
    classes[: len(rows)] = torch.arange(len(rows))
    head.direction.copy_(support_sums(supports, scores, classes))
    head.bias.zero_()
    return single_pass(head(embeddings).softmax(dim=1).numpy(), logits.softmax(dim=1).numpy(), on_epoch)


def support_sums(supports: Tensor, scores: Tensor, classes: Tensor) -> Tensor:
    """Sum the most certain supports of each class ``[C, D]``.

    At most ``SUPPORTS_PER_CLASS`` supports of a class count.

    Args:
        supports: unit-length rows ``[M, D]``.
        scores: their softmax outputs ``[M, C]``.
        classes: the class that each supports ``[M]``.
    """
    by_certainty = entropy(scores).sort(stable=True).indices
    kept = [by_certainty[classes[by_certainty] == c][:SUPPORTS_PER_CLASS] for c in range(scores.shape[1])]
    return torch.stack([supports[members].sum(dim=0) for members in kept])
