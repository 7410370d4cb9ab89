"""SHOT-IM: information maximization with the source's head frozen.

Source: Liang, Hu & Feng 2020, "Do We Really Need to Access the Source Data?"; method section 6.1.
Differs: AdamW at the product's learning rate in place of SGD, as for every method here.
"""

from dataclasses import replace

from ecan_core.adapt import AdaptSettings, EpochRecord, LossTerms, OnEpoch, Step, minimize
from ecan_core.data.inputs import Inputs
from ecan_core.losses.diversity import diversity_loss, mean_entropy
from ecan_core.model.network import Network


def adapt_shot_im(
    network: Network,
    inputs: Inputs,
    settings: AdaptSettings,
    *,
    seed: int,
    on_epoch: OnEpoch | None = None,
) -> list[EpochRecord]:
    """Make every prediction certain and all predictions together diverse."""
    frozen_head = replace(settings, train_head=False)
    return minimize(information_maximization, network, inputs, frozen_head, seed=seed, on_epoch=on_epoch)


def information_maximization(step: Step) -> LossTerms:
    """Mean entropy of the scores plus the divergence of their mean from uniform."""
    return {"certainty": mean_entropy(step.scores), "diversity": diversity_loss(step.scores)}
