"""Adapt by SHOT: maximize information with the source's head frozen.

Alone (SHOT-IM) or with centroid pseudo-labels.

Source: Liang, Hu & Feng 2020, "Do We Really Need to Access the Source Data?"; method section 6.1.
Differs: AdamW at the product's learning rate in place of SGD, as for every method here. The embeddings have unit length
before the constant is appended to them. A class that loses its last utterance between the two rounds of the
pseudo-labels takes none in the second, where the published code compares with an undefined centroid.
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from ecan_core.adaptation.given import GivenLabels
from ecan_core.adaptation.loop import Adaptation, LossTerms, OnEpoch, Step, minimize
from ecan_core.adaptation.losses.diversity import diversity_loss, mean_entropy
from ecan_core.adaptation.settings import AdaptSettings
from ecan_core.data.inputs import Inputs
from ecan_core.model.network import Network
from ecan_core.model.predict import run

LABEL_WEIGHT = 0.3
"""Weight of the cross-entropy on pseudo-labels."""


def adapt_shot_im(
    network: Network,
    inputs: Inputs,
    settings: AdaptSettings,
    *,
    seed: int,
    on_epoch: OnEpoch | None = None,
    given: GivenLabels | None = None,
) -> Adaptation:
    """Make every prediction certain and all predictions together diverse."""
    frozen_head = replace(settings, train_head=False)
    return minimize(information_maximization, network, inputs, frozen_head, seed=seed, on_epoch=on_epoch, given=given)


def adapt_shot(
    network: Network,
    inputs: Inputs,
    settings: AdaptSettings,
    *,
    seed: int,
    on_epoch: OnEpoch | None = None,
) -> Adaptation:
    """Run SHOT-IM and agree with the class of the nearest centroid.

    It is found anew for every epoch.
    """
    labels = torch.zeros(len(inputs), dtype=torch.long)

    def relabel() -> None:
        embeddings, logits = run(network, inputs)
        labels.copy_(centroid_labels(embeddings, logits.softmax(dim=1)))

    def objective(step: Step) -> LossTerms:
        return information_maximization(step) | {
            "pseudo_labels": LABEL_WEIGHT * label_loss(step.scores, labels[step.rows])
        }

    frozen_head = replace(settings, train_head=False)
    return minimize(objective, network, inputs, frozen_head, seed=seed, on_epoch=on_epoch, on_start_of_epoch=relabel)


def information_maximization(step: Step) -> LossTerms:
    """Return the mean entropy plus the divergence of the mean from uniform.

    Entropy and mean are those of the scores.
    """
    return {"certainty": mean_entropy(step.scores), "diversity": diversity_loss(step.scores)}


def label_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy ``-log p_i[y_i]`` on pseudo-labels.

    Scores are ``[B, C]``, pseudo-labels ``[B]``.
    """
    return functional.nll_loss(scores.clamp_min(1e-12).log(), labels)


def centroid_labels(embeddings: Tensor, scores: Tensor) -> Tensor:
    """Find pseudo-labels by the nearest class centroid of embeddings.

    The centroids are means of the embeddings weighted by the scores, and once more means over the labels so found.
    Nearest is the largest cosine after a constant 1 is appended to every embedding; a class that no utterance has
    takes none.

    Args:
        embeddings: unit-length embeddings ``[N, D]``.
        scores: softmax outputs ``[N, C]``.

    Returns:
        Class indices ``[N]``.
    """
    extended = functional.normalize(functional.pad(embeddings, (0, 1), value=1.0), dim=1)
    labels = _nearest_centroid(extended, scores, scores.argmax(dim=1))
    members = functional.one_hot(labels, scores.shape[1]).to(extended.dtype)
    return _nearest_centroid(extended, members, labels)


def _nearest_centroid(embeddings: Tensor, weights: Tensor, labels: Tensor) -> Tensor:
    """Return labels ``[N]`` by the cosine to weighted sums of embeddings.

    Among the classes found in ``labels``.
    """
    centroids = functional.normalize(weights.T @ embeddings, dim=1)  # [C, D]; a sum points where its mean does
    found = torch.zeros(weights.shape[1], dtype=torch.bool)
    found[labels] = True
    return (embeddings @ centroids.T).masked_fill(~found, -torch.inf).argmax(dim=1)
