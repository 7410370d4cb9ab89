"""Hold what a network reads: normalized front-end outputs.

N utterances, addressed by index.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ecan_core.errors import UsageError

MAX_FRAMES = 800
"""Frames per utterance that a network reads (8 s at 10 ms): the middle of a longer one."""


class FrameBatch(NamedTuple):
    """Hold zero-padded frames ``[B, F, M]`` and true lengths ``[B]``."""

    frames: Tensor
    lengths: Tensor


class Inputs(Protocol):
    """Hold N utterances ready for a network."""

    def __len__(self) -> int: ...

    def batch(self, rows: Tensor) -> Tensor | FrameBatch:
        """Return the utterances of the index tensor ``rows`` ``[B]``."""


class StatisticsInputs:
    """Hold normalized utterance statistics ``[N, S]``."""

    def __init__(self, statistics: np.ndarray) -> None:
        self._statistics = torch.from_numpy(np.ascontiguousarray(statistics, dtype=np.float32))

    def __len__(self) -> int:
        return len(self._statistics)

    def batch(self, rows: Tensor) -> Tensor:
        """Return statistics ``[B, S]``."""
        return self._statistics[rows]


class FrameInputs:
    """Hold normalized frame sequences, each ``[F, M]`` with its own F."""

    def __init__(self, sequences: Sequence[np.ndarray]) -> None:
        self._sequences = [torch.from_numpy(_middle(s).astype(np.float32)) for s in sequences]

    def __len__(self) -> int:
        return len(self._sequences)

    def batch(self, rows: Tensor) -> FrameBatch:
        """Return frames ``[B, F, M]`` padded to the longest of the batch."""
        chosen = [self._sequences[row] for row in rows.tolist()]
        lengths = torch.tensor([len(frames) for frames in chosen])
        return FrameBatch(pad_sequence(chosen, batch_first=True), lengths)


def _middle(frames: np.ndarray) -> np.ndarray:
    start = max(0, (len(frames) - MAX_FRAMES) // 2)
    return frames[start : start + MAX_FRAMES]


def matrix_of(inputs: Inputs) -> np.ndarray:
    """Return utterance statistics as a matrix ``[N, S]``.

    Raises:
        UsageError: the inputs are frames.
    """
    if not isinstance(inputs, StatisticsInputs):
        raise UsageError("frames are no matrix; take a front end of utterance statistics")
    rows: np.ndarray = inputs.batch(torch.arange(len(inputs))).numpy()
    return rows


def inputs_of(values: Sequence[np.ndarray]) -> Inputs:
    """Return inputs for a network from normalized front-end outputs.

    Each utterance is ``[S]`` statistics or ``[F, M]`` frames.
    """
    return StatisticsInputs(np.stack(values)) if values[0].ndim == 1 else FrameInputs(values)
