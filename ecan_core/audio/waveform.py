"""Hold sound as numbers."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_TOP = 0.9999
_MOST_AT_TOP = 0.01
"""A pure tone, which stays at its top longer than speech does, has 0.9 % of its samples there."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Waveform:
    """Hold one channel of sound.

    Attributes:
        samples: Sound pressure, full scale is ±1, [T] float32.
        sample_rate: Samples per second, in Hz.
    """

    samples: npt.NDArray[np.float32]
    sample_rate: int

    @property
    def duration_s(self) -> float:
        """Return the length in seconds."""
        return len(self.samples) / self.sample_rate

    @property
    def is_clipped(self) -> bool:
        """Whether it was recorded too loud.

        More samples then lie at the very top than in any sound that swings freely.
        """
        heights = np.abs(self.samples)
        return bool(np.mean(heights >= _TOP * heights.max()) > _MOST_AT_TOP)
