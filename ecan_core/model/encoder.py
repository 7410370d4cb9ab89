"""Encoders: from a front end's output to one vector per utterance."""

import torch
from torch import Tensor, nn

from ecan_core.data.inputs import FrameBatch


class StatisticsEncoder(nn.Module):
    """One hidden layer on utterance statistics: ``[B, S] -> [B, E]``."""

    def __init__(self, input_dim: int, *, width: int = 256, dropout: float = 0.3) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(input_dim, width)])
        self.output_dim = width
        self.dropout = nn.Dropout(dropout)

    def forward(self, statistics: Tensor) -> Tensor:
        """Encode ``[B, S]`` as ``[B, E]``."""
        return self.dropout(torch.relu(self.layers[0](statistics)))


class FrameEncoder(nn.Module):
    """Temporal convolutions on frames with mean and deviation pooling: ``[B, F, M] -> [B, E]``.

    Source: the x-vector network (Snyder et al. 2018), much reduced. Instance normalization over the true
    frames stands where the original has batch normalization, so that no statistics of the corpus are kept.
    """

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
        for layer in self.layers[:-1]:
            hidden = torch.relu(layer(hidden * inside))
            mean, deviation = _moments(hidden, inside)
            hidden = (hidden - mean[..., None]) / deviation[..., None]
        hidden = torch.relu(self.layers[-1](hidden * inside))
        return self.dropout(torch.cat(_moments(hidden, inside), dim=1))


def _moments(hidden: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation ``[B, channels]`` over the frames marked in ``inside`` ``[B, 1, F]``."""
    count = inside.sum(dim=2)
    mean = (hidden * inside).sum(dim=2) / count
    variance = (((hidden - mean[..., None]) * inside) ** 2).sum(dim=2) / count
    return mean, (variance + 1e-5).sqrt()


Encoder = StatisticsEncoder | FrameEncoder
