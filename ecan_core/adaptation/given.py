"""Learn from the labels that an operator hands to an adaptation.

A few utterances that a person labelled. No adaptation finds a label by itself: who holds a `GivenLabels` was given it.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ecan_core.data.inputs import Inputs
from ecan_core.model.network import Network

PER_STEP = 64
"""So many labelled utterances, drawn anew, are learned from in each step."""
SMOOTHING = 0.1


@dataclass(frozen=True, kw_only=True, eq=False)
class GivenLabels:
    """Hold the classes of a few utterances.

    Attributes:
        rows: which utterances of the target corpus, int64 ``[L]``.
        classes: the class of each, int64 ``[L]``.
    """

    rows: np.ndarray
    classes: np.ndarray

    @cached_property
    def _tensors(self) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(self.rows), torch.from_numpy(self.classes)

    def loss(self, network: Network, inputs: Inputs) -> Tensor:
        """Compute the cross-entropy on some of the labelled utterances.

        Classes weigh alike, however many utterances each has. Draws from torch's generator.
        """
        rows, classes = self._tensors
        drawn = torch.randperm(len(rows))[:PER_STEP]
        balance = 1.0 / torch.bincount(classes).clamp_min(1)
        logits = network(inputs.batch(rows[drawn])).logits
        losses = functional.cross_entropy(logits, classes[drawn], reduction="none", label_smoothing=SMOOTHING)
        weights = balance[classes[drawn]]
        return (weights * losses).sum() / weights.sum()

    def write_into(self, labels: Tensor) -> None:
        """Put the given classes in place of pseudo-labels, int64 ``[N]``."""
        rows, classes = self._tensors
        labels[rows] = classes

    def known(self, scores: np.ndarray) -> np.ndarray:
        """Return scores ``[N, C]`` that are certain of the given classes."""
        certain = scores.copy()
        certain[self.rows] = np.eye(scores.shape[1], dtype=scores.dtype)[self.classes]
        return certain

    def others(self, num_utterances: int) -> np.ndarray:
        """Mark the utterances that no label was given for, bool ``[N]``."""
        unlabeled = np.ones(num_utterances, dtype=bool)
        unlabeled[self.rows] = False
        return unlabeled
