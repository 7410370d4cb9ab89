"""Hear recordings as a telephone gives them.

The band of a telephone, 8 kHz, G.711 mu-law. A source that trains on such copies beside its recordings is understood
better where calls are heard.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256

import numpy as np
import numpy.typing as npt

from ecan_core.audio.decode import resample
from ecan_core.audio.frontend import FrontEnd
from ecan_core.audio.waveform import Waveform

RATE = 8_000
BAND = (300.0, 3_400.0)
_MU, _STEPS = 255.0, 127.0


def telephone(sound: Waveform) -> Waveform:
    """Return a sound as a telephone gives it, at the rate it had."""
    narrow = narrowed(sound)
    return resample(replace(narrow, samples=companded(narrow.samples)), sound.sample_rate)


def narrowed(sound: Waveform) -> Waveform:
    """Return a sound in the band of a telephone, at its rate."""
    from scipy.signal import butter, sosfilt

    narrow = resample(sound, RATE)
    band = butter(4, BAND, btype="bandpass", fs=RATE, output="sos")
    return replace(narrow, samples=sosfilt(band, narrow.samples).astype(np.float32))


def companded(samples: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Round samples ``[T]`` to the steps of mu-law.

    What is louder than full scale is scaled down first.

    Source: ITU-T G.711, in its continuous form.
    """
    scaled = samples / max(1.0, float(np.abs(samples).max(initial=0.0)))
    codes = np.round(_STEPS * np.log1p(_MU * np.abs(scaled)) / np.log1p(_MU))
    rounded: npt.NDArray[np.float32] = np.asarray(
        np.sign(scaled) * np.expm1(codes / _STEPS * np.log1p(_MU)) / _MU, dtype=np.float32
    )
    return rounded


@dataclass(frozen=True)
class TelephoneFrontEnd:
    """Compute what another front end gives for a sound over the telephone.

    Attributes:
        direct: the other front end.
    """

    direct: FrontEnd

    @property
    def name(self) -> str:
        """Return a name for messages; no model carries it."""
        return f"{self.direct.name} over the telephone"

    @property
    def dim(self) -> int:
        """Return the numbers per utterance or frame."""
        return self.direct.dim

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Return what each number is."""
        return self.direct.feature_names

    @cached_property
    def fingerprint(self) -> str:
        """Return what changes whenever the same sound gives other numbers."""
        return sha256(f"telephone {RATE} {BAND} {self.direct.fingerprint}".encode()).hexdigest()

    def compute(self, waveform: Waveform) -> npt.NDArray[np.float32]:
        """Compute the features of one utterance over the telephone."""
        return self.direct.compute(telephone(waveform))
