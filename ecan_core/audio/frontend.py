"""Define the front ends: what a network reads of an utterance, by name.

The name travels with a model, so the target site computes exactly what the source site trained on. A
published front end never changes; a better one gets a new name.
"""

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ecan_core.audio import frames_v1, statistics
from ecan_core.audio.logmel import SAMPLE_RATE
from ecan_core.audio.waveform import Waveform


class FrontEnd(Protocol):
    """Turn a 16 kHz waveform into the numbers that a network reads."""

    @property
    def name(self) -> str:
        """Return the name that a model carries, such as "stats-v1"."""

    @property
    def dim(self) -> int:
        """Return how many numbers an utterance or a frame has."""

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Return the meaning of each of the `dim` numbers."""

    @property
    def fingerprint(self) -> str:
        """Return a hash that changes if equal sound gives other numbers."""

    def compute(self, waveform: Waveform) -> npt.NDArray[Any]:
        """Compute the features of one utterance.

        Args:
            waveform: Sound at 16 kHz.

        Returns:
            Finite numbers, [dim] or [F, dim].
        """


def fingerprint_of(front_end: FrontEnd) -> str:
    """Hash what the front end makes of a fixed sound.

    A change of code, libraries or processor shows in it.
    """
    t = np.arange(SAMPLE_RATE // 2) / SAMPLE_RATE
    sound = np.sin(2 * np.pi * (150 + 40 * t) * t) ** 5 * np.hanning(len(t))
    features = front_end.compute(Waveform(samples=sound.astype(np.float32), sample_rate=SAMPLE_RATE))
    form = f"{front_end.name} {features.dtype} {features.shape}"
    return sha256(form.encode() + features.tobytes()).hexdigest()


@dataclass(frozen=True)
class StatisticsFrontEnd:
    """Compute one vector of utterance statistics, float32 [S].

    The absolute level of the sound does not matter.
    """

    name: str = "stats-v1"

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """Return the names of the statistics, `family.what.which`."""
        return statistics.statistic_names()

    @property
    def dim(self) -> int:
        """Return the number of statistics, S."""
        return len(self.feature_names)

    @cached_property
    def fingerprint(self) -> str:
        """Return a hash that changes if equal sound gives other numbers."""
        return fingerprint_of(self)

    def compute(self, waveform: Waveform) -> npt.NDArray[np.float32]:
        """Compute the statistics of one utterance, [S]."""
        values = statistics.utterance_statistics(waveform.samples).values()
        return np.fromiter(values, dtype=np.float32, count=self.dim)


@dataclass(frozen=True)
class FramesFrontEnd:
    """Compute log-mel bands and prosody every 10 ms, float16 [F, 68].

    The absolute level of the sound does not matter.
    """

    name: str = "frames-v1"

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Return the column names: mel bands from low to high, then prosody."""
        return frames_v1.COLUMNS

    @property
    def dim(self) -> int:
        """Return the number of columns."""
        return len(frames_v1.COLUMNS)

    @cached_property
    def fingerprint(self) -> str:
        """Return a hash that changes if equal sound gives other numbers."""
        return fingerprint_of(self)

    def compute(self, waveform: Waveform) -> npt.NDArray[np.float16]:
        """Compute the frames of one utterance, [F, 68]."""
        return frames_v1.utterance_frames(waveform.samples)


FRONT_ENDS: dict[str, FrontEnd] = {front_end.name: front_end for front_end in (StatisticsFrontEnd(), FramesFrontEnd())}
