"""Adapt by TENT: make predictions certain by moving only biases.

Nothing moves that a normalization layer could not move.

Source: Wang et al. 2021, "Tent: Fully Test-time Adaptation by Entropy Minimization"; method section 6.14.
Differs: our networks have no normalization layers with parameters of their own. What comes nearest to their shifts are
the biases of encoder and bottleneck, and they alone are trained; there is nothing like their scales. Several passes in
mini-batches, as for every method here, where the original adapts once to a stream. AdamW at a small share of the
product's learning rate, without weight decay; dropout stays on.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from torch import nn

from ecan_core.adaptation.loop import Adaptation, LossTerms, OnEpoch, Step, minimize
from ecan_core.adaptation.losses.diversity import mean_entropy
from ecan_core.adaptation.settings import AdaptSettings
from ecan_core.data.inputs import Inputs
from ecan_core.model.network import Network

RATE = 0.1
"""Learning rate as a share of the other methods': 3e-5 by default."""


def adapt_tent(
    network: Network,
    inputs: Inputs,
    settings: AdaptSettings,
    *,
    seed: int,
    on_epoch: OnEpoch | None = None,
) -> Adaptation:
    """Minimize the mean entropy of the scores over some biases.

    Those of encoder and bottleneck.
    """
    gentle = replace(settings, learning_rate=RATE * settings.learning_rate, weight_decay=0.0)
    with training_only(network, shifts(network)):
        return minimize(certainty, network, inputs, gentle, seed=seed, on_epoch=on_epoch)


def certainty(step: Step) -> LossTerms:
    """Return the mean entropy of the scores."""
    return {"certainty": mean_entropy(step.scores)}


def shifts(network: Network) -> list[nn.Parameter]:
    """Return the biases of encoder and bottleneck."""
    return [*(layer.get_parameter("bias") for layer in network.encoder.layers), network.bottleneck.bias]


@contextmanager
def training_only(network: Network, chosen: list[nn.Parameter]) -> Iterator[None]:
    """Run a block in which only the chosen parameters get gradients.

    No other parameter can move.
    """
    others = [p for p in network.parameters() if p.requires_grad and all(p is not one for one in chosen)]
    for parameter in others:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in others:
            parameter.requires_grad_(True)
