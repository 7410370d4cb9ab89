"""Adapt by AaD: attract neighbors and disperse the rest, in score space.

Source: Yang et al. 2022, "Attracting and Dispersing"; method section 6.4.
Differs: AdamW at the product's learning rate in place of SGD, as for every method here.
"""

from ecan_core.adaptation.loop import Adaptation, LossTerms, OnEpoch, Step, minimize
from ecan_core.adaptation.losses.neighbor import score_loss
from ecan_core.adaptation.settings import AdaptSettings
from ecan_core.data.inputs import Inputs
from ecan_core.model.network import Network


def adapt_aad(
    network: Network,
    inputs: Inputs,
    settings: AdaptSettings,
    *,
    seed: int,
    on_epoch: OnEpoch | None = None,
) -> Adaptation:
    """Agree with the K nearest neighbors' scores, disagree with the rest.

    The rest is that of the mini-batch.
    """

    def objective(step: Step) -> LossTerms:
        hood = step.neighborhood(settings.num_neighbors)
        dispersion = 1.0 / (1.0 + 10.0 * step.progress)
        return {"neighbor": score_loss(step.scores, hood, step.banks, dispersion)}

    return minimize(objective, network, inputs, settings, seed=seed, on_epoch=on_epoch)
