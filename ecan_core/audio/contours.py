"""The frame-wise curves of one utterance that front ends describe, each computed once when first asked for.

All of them are free of absolute level: energies are relative to the loudest frame, log-mel bands to their own
mean, so a recording at -40 dB gives the same numbers as one at -3 dB.
"""

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import numpy.typing as npt

from ecan_core.audio import logmel
from ecan_core.audio.prosody import Prosody, track_prosody

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

ACTIVE_DB = 35.0  # frames within this distance of the loudest one count as speech
FLOOR_DB = 80.0  # nothing is measured below this distance: digital silence has no spectrum
NUM_CEPSTRA = 20
REFERENCE_HZ = 100.0  # zero semitones


@dataclass(frozen=True, eq=False)
class Contours:
    """Curves over the F frames of an utterance.

    Attributes:
        samples: Sound at 16 kHz, [T], not silent.
    """

    samples: Array

    @cached_property
    def centered(self) -> Array:
        """The sound at full scale without its constant offset, [T]."""
        centered = self.samples - self.samples.mean()
        return centered / np.abs(centered).max()

    @cached_property
    def power(self) -> Array:
        """Power spectrum of 25 ms windows, [F, 257]."""
        return logmel.power_spectrum(self.centered)

    @cached_property
    def energy_db(self) -> Array:
        """Energy above 60 Hz in dB relative to the loudest frame, [F]."""
        energy = self.power[:, 2:].sum(axis=1)
        return 10 * np.log10(np.maximum(energy / energy.max(), 10 ** (-FLOOR_DB / 10)))

    @cached_property
    def active(self) -> Mask:
        """Which frames hold speech rather than silence, [F]."""
        return self.energy_db > -ACTIVE_DB

    @cached_property
    def span(self) -> slice:
        """From the first to the last active frame."""
        rows = np.flatnonzero(self.active)
        return slice(int(rows[0]), int(rows[-1]) + 1)

    @cached_property
    def log_mel(self) -> Array:
        """Natural logarithm of mel bands relative to their mean over active frames, [F, M]."""
        mel = logmel.mel_power(self.power)
        logarithm = np.log(np.maximum(mel, mel.max() * 10 ** (-FLOOR_DB / 10)))
        return logarithm - logarithm[self.active].mean()

    @cached_property
    def cepstra(self) -> Array:
        """Mel cepstra 1 to 20, [F, 20]."""
        return self.log_mel @ _cosines()

    @cached_property
    def prosody(self) -> Prosody:
        """Pitch, harmonicity and energy."""
        return track_prosody(self.centered)

    @cached_property
    def voiced(self) -> Mask:
        """Which frames hold voiced speech, [F]."""
        return self.prosody.voiced & self.active

    @cached_property
    def semitones(self) -> Array:
        """Pitch in semitones above 100 Hz, 0 where voiceless, [F]."""
        f0_hz = np.where(self.voiced, self.prosody.f0_hz, REFERENCE_HZ)
        return 12 * np.log2(f0_hz / REFERENCE_HZ)


@cache
def _cosines() -> Array:
    """Cosine transform of log-mel bands without its constant, [M, 20]."""
    orders = np.arange(1, NUM_CEPSTRA + 1)
    angles = np.pi * orders * (np.arange(logmel.NUM_BANDS)[:, None] + 0.5) / logmel.NUM_BANDS
    return (np.cos(angles) * np.sqrt(2 / logmel.NUM_BANDS)).astype(np.float32)
