"""Adapt a source model to unlabelled target utterances by ECAN.

Source: Zhao et al., ICASSP 2024, arXiv 2401.12925, re-implemented from secondary sources; docs/method.md says
what is certain, what is inferred and where this differs.
"""

from torch import Tensor

from ecan_core.adaptation.given import GivenLabels
from ecan_core.adaptation.loop import Adaptation, LossTerms, OnEpoch, Step, minimize
from ecan_core.adaptation.losses.diversity import diversity_loss, mean_entropy
from ecan_core.adaptation.losses.neighbor import (
    Neighborhood,
    batch_instance_loss,
    filtered_score_loss,
    instance_loss,
    score_loss,
    summed_instance_loss,
)
from ecan_core.adaptation.losses.supervised import bank_supervised_contrastive_loss, supervised_contrastive_loss
from ecan_core.adaptation.pseudo_labels import vote
from ecan_core.adaptation.settings import AdaptSettings
from ecan_core.data.inputs import Inputs
from ecan_core.model.network import Network


def adapt(
    network: Network,
    inputs: Inputs,
    settings: AdaptSettings,
    *,
    seed: int,
    on_epoch: OnEpoch | None = None,
    given: GivenLabels | None = None,
) -> Adaptation:
    """Adapt ``network`` in place by ECAN (E11).

    The objective is diversity + lambda * neighbor + beta * supervised.

    Args:
        network: the source model.
        inputs: N normalized target utterances, without labels.
        settings: how to adapt.
        seed: seed of the shuffling and of dropout.
        on_epoch: called after each epoch.
        given: classes of some of the utterances, where an operator gave them.
    """

    def objective(step: Step) -> LossTerms:
        widest = max(settings.num_neighbors, settings.num_voters)
        hood = step.neighborhood(widest)
        near = hood._replace(neighbors=hood.neighbors[:, : settings.num_neighbors])
        return {
            "diversity": settings.diversity_weight * diversity_loss(step.scores),
            "neighbor": settings.neighbor_weight * _neighbor_loss(step, near, settings),
            "supervised": settings.supervised_weight * _supervised_loss(step, hood, settings),
            "certainty": settings.certainty_weight * mean_entropy(step.scores),
        }

    return minimize(objective, network, inputs, settings, seed=seed, on_epoch=on_epoch, given=given)


def _neighbor_loss(step: Step, hood: Neighborhood, settings: AdaptSettings) -> Tensor:
    dispersion = settings.dispersion * (1.0 + 10.0 * step.progress) ** -settings.dispersion_decay
    match settings.neighbor_form:
        case "ncl-1":
            return instance_loss(hood, settings.temperature)
        case "ncl-2":
            return summed_instance_loss(hood, settings.temperature)
        case "ncl-3":
            return score_loss(step.scores, hood, step.banks, dispersion)
        case "ncl-4":
            return batch_instance_loss(step.embeddings, hood, settings.temperature)
        case _:
            return filtered_score_loss(step.scores, hood, step.banks, dispersion)


def _supervised_loss(step: Step, hood: Neighborhood, settings: AdaptSettings) -> Tensor:
    votes = step.scores.detach()
    if settings.pseudo_labels == "vote":
        votes = vote(hood.neighbors[:, : settings.num_voters], step.banks)
    labels = votes.argmax(dim=1)
    if settings.supervised_form == "scl-1":
        return supervised_contrastive_loss(step.embeddings, labels, settings.temperature)
    bank_labels = step.banks.scores.argmax(dim=1)
    return bank_supervised_contrastive_loss(hood.similarity, labels, bank_labels, settings.temperature)
