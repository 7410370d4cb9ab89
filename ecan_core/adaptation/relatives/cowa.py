"""Adapt by CoWA-JMDS: learn mixed pseudo-labels with weights.

Embeddings and scores together decide how much each pseudo-label weighs.

Source: Lee et al. 2022, "Confidence Score for Source-Free Unsupervised Domain Adaptation"; method section 6.9.
Differs: diagonal covariances, because some hundred utterances cannot fill a full one. The head is frozen, where the
original moves it at a hundredth of the rate. AdamW at the product's learning rate, as for every method here.
"""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ecan_core.adaptation.given import GivenLabels
from ecan_core.adaptation.loop import Adaptation, LossTerms, OnEpoch, Step, minimize
from ecan_core.adaptation.settings import AdaptSettings
from ecan_core.data.inputs import FrameBatch, Inputs
from ecan_core.model.network import Network
from ecan_core.model.predict import run

CONCENTRATION = 0.2
"""Both parameters of the beta distribution of a mixture's shares."""
MIN_VARIANCE = 1e-5
MIN_MASS = 1e-12


class Knowledge(NamedTuple):
    """Hold pseudo-labels ``[N]`` and how far to trust each, ``[N]``.

    Trust lies in [0, 1].
    """

    labels: Tensor
    weights: Tensor


def adapt_cowa(
    network: Network,
    inputs: Inputs,
    settings: AdaptSettings,
    *,
    seed: int,
    on_epoch: OnEpoch | None = None,
    given: GivenLabels | None = None,
) -> Adaptation:
    """Minimize weighted cross-entropy on mixtures of two utterances.

    Labels and weights are found anew for every epoch; labels that an operator has ``given`` stand, with full weight.
    """
    num_classes = network.head.bias.numel()
    targets, weights = torch.zeros(len(inputs), num_classes), torch.zeros(len(inputs))

    def judge() -> None:
        embeddings, logits = run(network, inputs)
        known = joint_knowledge(embeddings, logits.softmax(dim=1))
        if given is not None:
            given.write_into(known.labels)
            known.weights[given.rows] = 1.0
        targets.copy_(functional.one_hot(known.labels, num_classes))
        weights.copy_(known.weights)

    def objective(step: Step) -> LossTerms:
        count = len(step.rows)
        share = torch.distributions.Beta(CONCENTRATION, CONCENTRATION).sample((count,))
        partner = torch.randperm(count)
        target, weight = targets[step.rows], weights[step.rows]
        logits = network(mix(inputs.batch(step.rows), partner, share)).logits
        mixed_target, mixed_weight = _mix(target, partner, share), _mix(weight, partner, share)
        return {"mixture": weighted_cross_entropy(logits, mixed_target, mixed_weight)}

    frozen_head = replace(settings, train_head=False)
    return minimize(
        objective,
        network,
        inputs,
        frozen_head,
        seed=seed,
        on_epoch=on_epoch,
        on_start_of_epoch=judge,
        given=given,
    )


def joint_knowledge(embeddings: Tensor, scores: Tensor) -> Knowledge:
    """Find pseudo-labels and their JMDS weights by a mixture of Gaussians.

    One Gaussian per class starts at the mean weighted by the scores and is fitted once more to its own posterior.
    The weight is ``LPG_i p_i[y_i]`` with ``LPG_i`` the lead of the likeliest class over the second in log posterior,
    as a share of the largest lead of all utterances.

    Args:
        embeddings: unit-length embeddings ``[N, D]``.
        scores: softmax outputs ``[N, C]``.
    """
    embeddings, scores = embeddings.double(), scores.double()
    log_posterior = _log_posterior(embeddings, scores, torch.ones_like(scores))
    posterior = log_posterior.exp()
    log_posterior = _log_posterior(embeddings, posterior, posterior)
    labels = log_posterior.argmax(dim=1)
    first, second = log_posterior.topk(2, dim=1).values.unbind(dim=1)
    lead = (first - second) / (first - second).max().clamp_min(MIN_MASS)
    return Knowledge(labels, lead * scores.gather(1, labels[:, None])[:, 0])


def weighted_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return the mean of ``-w_i sum_c t_ic log p_ic`` over i.

    Args:
        logits: of the mixtures ``[B, C]``.
        targets: their shares of the classes ``[B, C]``.
        weights: their weights ``[B]``.
    """
    return -(weights * (targets * logits.log_softmax(dim=1)).sum(dim=1)).mean()


def mix(batch: Tensor | FrameBatch, partner: Tensor, share: Tensor) -> Tensor | FrameBatch:
    """Mix every utterance with the utterance ``partner`` ``[B]``.

    It keeps ``share`` ``[B]`` in [0, 1] of itself.

    Statistics ``[B, S]`` are mixed as they are, frames ``[B, F, M]`` over the length of the shorter utterance.
    """
    if isinstance(batch, FrameBatch):
        lengths = torch.minimum(batch.lengths, batch.lengths[partner])
        return FrameBatch(_mix(batch.frames, partner, share), lengths)
    return _mix(batch, partner, share)


def _mix(values: Tensor, partner: Tensor, share: Tensor) -> Tensor:
    share = share.reshape(-1, *[1] * (values.dim() - 1))
    return share * values + (1.0 - share) * values[partner]


def _log_posterior(embeddings: Tensor, members: Tensor, spread: Tensor) -> Tensor:
    """Return log posteriors ``[N, C]`` of diagonal Gaussians.

    Args:
        embeddings: ``[N, D]``.
        members: weights of the utterances in each class's share and mean ``[N, C]``.
        spread: weights of the utterances in each class's variance ``[N, C]``.
    """
    columns = []
    for member, weight in zip(members.T, spread.T, strict=True):
        mass = member.sum().clamp_min(MIN_MASS)
        squared = (embeddings - member @ embeddings / mass) ** 2  # [N, D]
        variance = weight @ squared / weight.sum().clamp_min(MIN_MASS) + MIN_VARIANCE
        columns.append(mass.log() - 0.5 * (variance.log() + squared / variance).sum(dim=1))
    return torch.stack(columns, dim=1).log_softmax(dim=1)
