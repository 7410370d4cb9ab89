"""Define the network: encoder, bottleneck and a cosine head."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ecan_core.data.inputs import FrameBatch
from ecan_core.model.encoder import Encoder
from ecan_core.normalization.normalize import CLAMP, moments_of


class NetOutput(NamedTuple):
    """Hold unit-length embeddings ``[B, D]`` and logits ``[B, C]``."""

    embeddings: Tensor
    logits: Tensor


class Network(nn.Module):
    """Chain encoder, bottleneck and head.

    The bottleneck's output at unit length is the *embedding*.

    No layer collects statistics of the data it sees, so the weights and biases are the whole model.
    """

    def __init__(
        self, *, encoder: Encoder, embedding_dim: int, num_classes: int, standardize: "Standardize | None" = None
    ) -> None:
        super().__init__()
        self.standardize = standardize
        self.encoder = encoder
        self.bottleneck = nn.Linear(encoder.output_dim, embedding_dim)
        self.head = CosineHead(embedding_dim, num_classes)

    def forward(self, batch: Tensor | FrameBatch) -> NetOutput:
        """Return embeddings and logits of a batch.

        The batch holds statistics ``[B, S]`` or frames ``[B, F, M]``.
        """
        if self.standardize is not None:
            batch = self.standardize(batch)
        embeddings = functional.normalize(self.bottleneck(self.encoder(batch)), dim=1)
        return NetOutput(embeddings, self.head(embeddings))


class Standardize(nn.Module):
    """Center and scale the inputs by the source's own statistics.

    Only a network trained with ``--normalize none`` does so.

    With corpus or speaker normalization each side normalizes by its own statistics and nothing of the kind
    crosses.
    """

    center: Tensor
    scale: Tensor

    def __init__(self, input_dim: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(input_dim))
        self.register_buffer("scale", torch.ones(input_dim))

    def fit(self, values: Sequence[np.ndarray]) -> None:
        """Take center and scale from front-end outputs, ``[S]`` or ``[F, M]``."""
        moments = moments_of(values)
        self.center.copy_(torch.from_numpy(moments.center))
        self.scale.copy_(torch.from_numpy(moments.scale))

    def forward(self, batch: Tensor | FrameBatch) -> Tensor | FrameBatch:
        """Standardize ``[B, S]`` or ``[B, F, M]``, clamped like other inputs."""
        if isinstance(batch, FrameBatch):
            return FrameBatch(self._apply_to(batch.frames), batch.lengths)
        return self._apply_to(batch)

    def _apply_to(self, values: Tensor) -> Tensor:
        return ((values - self.center) / self.scale).clamp(-CLAMP, CLAMP)


class CosineHead(nn.Module):
    """Classify unit embeddings by ``LENGTH * cosine + bias``.

    All rows of the weight have one length.

    Neither a feature nor a class can grow certain by growing long, so that information maximization has to turn
    embeddings towards a class; with free lengths it harms across corpora (docs/method.md).
    """

    LENGTH = 8.0

    def __init__(self, embedding_dim: int, num_classes: int) -> None:
        super().__init__()
        self.direction = nn.Parameter(nn.init.xavier_normal_(torch.empty(num_classes, embedding_dim)))
        self.bias = nn.Parameter(torch.zeros(num_classes))

    def rows(self) -> Tensor:
        """Return the effective weight rows ``[C, D]``."""
        return self.LENGTH * functional.normalize(self.direction, dim=1)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return logits ``[B, C]`` of unit embeddings ``[B, D]``."""
        return functional.linear(embeddings, self.rows(), self.bias)
