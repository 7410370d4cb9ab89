"""Adapt by UCon-SFDA: AaD with bounded dispersion and sets of labels.

An utterance between two classes gets several labels.

Source: Xu et al. 2025, "Revisiting Source-Free Domain Adaptation: a New Perspective via Uncertainty Control"; method
section 6.12 and the published code's settings (threshold 1.1, weights 1 and 0.01).
Differs: AdamW at the product's learning rate in place of SGD, as for every method here. The augmented view is a second
pass with its own dropout over inputs with noise, because statistics cannot be cropped or recolored. The cross-entropy
on label sets is not smoothed.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ecan_core.adaptation.loop import Adaptation, LossTerms, OnEpoch, Step, minimize
from ecan_core.adaptation.losses.neighbor import score_loss
from ecan_core.adaptation.settings import AdaptSettings
from ecan_core.data.inputs import FrameBatch, Inputs
from ecan_core.model.network import Network
from ecan_core.model.predict import run

NOISE = 0.1
"""Deviation of the second view's noise, as a share of the inputs' own."""
SMOOTHING = 0.1
VIEW_WEIGHT = 1.0
LABEL_SET_WEIGHT = 0.01
AMBIGUOUS = 1.1
"""Ratio of the two largest scores under which an utterance stands between two classes."""


@dataclass(kw_only=True)
class LabelSets:
    """Hold what an adaptation has noted of every utterance so far.

    Plain tensors, no gradients.

    Attributes:
        candidates: whether the class ever was among the two likeliest ``[N, C]``.
        ambiguous: whether the two likeliest classes ever came close ``[N]``.
    """

    candidates: Tensor
    ambiguous: Tensor

    def note(self, rows: Tensor, scores: Tensor) -> None:
        """Add what the scores ``[B, C]`` of utterances ``rows`` ``[B]`` show."""
        top = scores.detach().topk(2, dim=1)
        self.candidates[rows[:, None], top.indices] = True
        self.ambiguous[rows] |= top.values[:, 0] < AMBIGUOUS * top.values[:, 1]


def adapt_ucon(
    network: Network,
    inputs: Inputs,
    settings: AdaptSettings,
    *,
    seed: int,
    on_epoch: OnEpoch | None = None,
) -> Adaptation:
    """Run AaD with a noisy view and label sets.

    Both views are to get the same prediction; a label set holds where two classes compete.
    """
    source_scores = run(network, inputs).logits.softmax(dim=1)
    sets = LabelSets(
        candidates=torch.zeros(source_scores.shape, dtype=torch.bool),
        ambiguous=torch.zeros(len(inputs), dtype=torch.bool),
    )
    sets.note(torch.arange(len(inputs)), source_scores)

    def objective(step: Step) -> LossTerms:
        sets.note(step.rows, step.scores)
        hood = step.neighborhood(settings.num_neighbors)
        dispersion = 1.0 / (1.0 + 10.0 * step.progress)
        noisy_scores = network(with_noise(inputs.batch(step.rows))).logits.softmax(dim=1)
        return {
            "neighbor": score_loss(step.scores, hood, step.banks, dispersion),
            "view": VIEW_WEIGHT * view_loss(step.scores, noisy_scores),
            "label_set": LABEL_SET_WEIGHT
            * label_set_loss(step.scores, sets.candidates[step.rows], sets.ambiguous[step.rows]),
        }

    return minimize(objective, network, inputs, settings, seed=seed, on_epoch=on_epoch)


def view_loss(scores: Tensor, noisy_scores: Tensor) -> Tensor:
    """Return the cross-entropy of a noisy view on the clean view.

    The clean scores ``[B, C]`` are detached and smoothed.

    ``-sum_c q_ic log p'_ic`` with ``q = 0.9 p + 0.1 / C``, mean over i.
    """
    target = (1.0 - SMOOTHING) * scores.detach() + SMOOTHING / scores.shape[1]
    return -(target * noisy_scores.clamp_min(1e-12).log()).sum(dim=1).mean()


def label_set_loss(scores: Tensor, candidates: Tensor, ambiguous: Tensor) -> Tensor:
    """Return the cross-entropy averaged over candidate classes.

    The mean is over the candidates of each ambiguous utterance; it is 0 when none is ambiguous.

    Args:
        scores: softmax outputs ``[B, C]``.
        candidates: marks at least one class per utterance ``[B, C]``.
        ambiguous: marks the utterances that count ``[B]``.
    """
    surprise = -(scores.clamp_min(1e-12).log() * candidates).sum(dim=1) / candidates.sum(dim=1)
    return surprise[ambiguous].sum() / max(1, int(ambiguous.sum()))


def with_noise(batch: Tensor | FrameBatch) -> Tensor | FrameBatch:
    """Add normal noise to a batch ``[B, S]`` or ``[B, F, M]``.

    It is scaled by the deviation of each column in the batch.
    """
    if isinstance(batch, FrameBatch):
        return FrameBatch(_with_noise(batch.frames), batch.lengths)
    return _with_noise(batch)


def _with_noise(values: Tensor) -> Tensor:
    deviation = values.flatten(end_dim=-2).std(dim=0)
    return values + NOISE * deviation * torch.randn_like(values)
