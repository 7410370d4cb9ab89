"""Sound as numbers."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, kw_only=True, eq=False)
class Waveform:
    """One channel of sound.

    Attributes:
        samples: Sound pressure, full scale is ±1, [T] float32.
        sample_rate: Samples per second, in Hz.
    """

    samples: npt.NDArray[np.float32]
    sample_rate: int

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate
