"""Encode a front end's output as one vector per utterance."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ecan_core.data.inputs import FrameBatch


class StatisticsEncoder(nn.Module):
    """Encode utterance statistics by one layer: ``[B, S] -> [B, E]``.

    It is a hidden layer. ``num_heard`` of the last numbers are what a public encoder heard, a view of their own.
    """

    def __init__(self, input_dim: int, *, width: int = 256, dropout: float = 0.3, num_heard: int = 0) -> None:
        super().__init__()
        self.num_heard = num_heard
        self.layers = nn.ModuleList([nn.Linear(input_dim, width)])
        self.output_dim = width
        self.dropout = nn.Dropout(dropout)

    def forward(self, statistics: Tensor) -> Tensor:
        """Encode ``[B, S]`` as ``[B, E]``."""
        encoded: Tensor = self.dropout(functional.gelu(self.layers[0](statistics)))
        return encoded


class FrameEncoder(nn.Module):
    """Encode frames by temporal convolutions: ``[B, F, M] -> [B, E]``.

    Mean and deviation pool the frames.

    Source: the x-vector network (Snyder et al. 2018), much reduced. Every frame is normalized over its channels
    where the original has batch normalization, so that no statistics of the corpus are kept.
    """

    num_heard = 0

    def __init__(self, input_dim: int, *, width: int = 128, pooled: int = 256, dropout: float = 0.3) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [
                nn.Conv1d(input_dim, width, 5, padding=2),
                nn.Conv1d(width, width, 3, dilation=3, padding=3),
                nn.Conv1d(width, pooled, 1),
            ]
        )
        self.output_dim = 2 * pooled
        self.dropout = nn.Dropout(dropout)

    def forward(self, batch: FrameBatch) -> Tensor:
        """Encode padded frames as ``[B, E]``; padding never reaches the result."""
        frames, lengths = batch
        inside = (torch.arange(frames.shape[1], device=frames.device)[None] < lengths[:, None])[:, None]
        hidden = frames.transpose(1, 2)  # [B, M, F]
        for layer in self.layers:
            hidden = _normalize_frames(torch.relu(layer(hidden * inside)))
        pooled: Tensor = self.dropout(torch.cat(_moments(hidden, inside), dim=1))
        return pooled


def _normalize_frames(hidden: Tensor) -> Tensor:
    """Normalize every frame over its channels, ``[B, channels, F]``.

    Each frame gets zero mean and unit deviation.
    """
    return functional.layer_norm(hidden.transpose(1, 2), hidden.shape[1:2]).transpose(1, 2)


def _moments(hidden: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and deviation ``[B, channels]`` over marked frames.

    They are marked in ``inside`` ``[B, 1, F]``.
    """
    count = inside.sum(dim=2)
    mean = (hidden * inside).sum(dim=2) / count
    variance = (((hidden - mean[..., None]) * inside) ** 2).sum(dim=2) / count
    return mean, (variance + 1e-5).sqrt()


Encoder = StatisticsEncoder | FrameEncoder
