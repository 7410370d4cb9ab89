"""Compute the frame-wise curves of one utterance, each on first use.

All of them are free of absolute level: the sound is brought to full scale first, energies are relative to the
loudest frame and log-mel bands to their own mean, so a recording at -40 dB gives the same numbers as one at -3 dB.
"""

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ecan_core.audio import logmel
from ecan_core.audio.fourier import decibels
from ecan_core.audio.prosody import Prosody, track_prosody

Curve = npt.NDArray[np.floating[Any]]
Mask = npt.NDArray[np.bool_]

ACTIVE_DB = 35.0  # frames within this distance of the loudest one count as speech
FLOOR_DB = 80.0  # nothing is measured below this distance: digital silence has no spectrum
NUM_CEPSTRA = 20
REFERENCE_HZ = 100.0  # zero semitones


@dataclass(frozen=True, eq=False)
class Contours:
    """Hold the curves over the F frames of an utterance.

    Attributes:
        samples: Sound at 16 kHz, [T], not silent.
    """

    samples: npt.NDArray[np.float32]

    @cached_property
    def centered(self) -> npt.NDArray[np.float32]:
        """Return the sound at full scale without its constant offset, [T]."""
        centered = self.samples - self.samples.mean()
        full_scale: npt.NDArray[np.float32] = centered / np.abs(centered).max()
        return full_scale

    @cached_property
    def power(self) -> Curve:
        """Return the power spectrum of 25 ms windows, [F, bins]."""
        return logmel.power_spectrum(self.centered)

    @cached_property
    def decibels(self) -> Curve:
        """Return the power spectrum in dB, [F, bins].

        It is counted above a floor far below speech.
        """
        return decibels(self.power + self._floor)

    @cached_property
    def energy_db(self) -> Curve:
        """Return the energy above 60 Hz, [F], in dB below the loudest frame."""
        energy = self.power[:, 2:].sum(axis=1)
        return decibels(np.maximum(energy / energy.max(), 10 ** (-FLOOR_DB / 10)))

    @cached_property
    def active(self) -> Mask:
        """Mark the frames that hold speech and not silence, [F]; at least one."""
        active: Mask = self.energy_db > -ACTIVE_DB
        return active

    @cached_property
    def span(self) -> slice:
        """Return the slice from the first to the last active frame."""
        rows = np.flatnonzero(self.active)
        return slice(int(rows[0]), int(rows[-1]) + 1)

    @cached_property
    def log_mel(self) -> Curve:
        """Return the logarithms of the mel bands, [F, M].

        They are natural logarithms, relative to the band's mean over active frames.
        """
        mel = logmel.mel_power(self.power)
        logarithm = np.log(mel + mel.max() * 10 ** (-FLOOR_DB / 10))
        log_mel: Curve = logarithm - logarithm[self.active].mean()
        return log_mel

    @cached_property
    def cepstra(self) -> Curve:
        """Return mel cepstra 1 to 20, [F, 20]."""
        return self.log_mel @ _cosines()

    @cached_property
    def prosody(self) -> Prosody:
        """Return pitch, harmonicity and energy."""
        return track_prosody(self.centered)

    @cached_property
    def voiced(self) -> Mask:
        """Mark the frames that hold voiced speech, [F]; there may be none."""
        return self.prosody.voiced & self.active

    @cached_property
    def voiced_or_active(self) -> Mask:
        """Mark voiced frames, [F]; all active ones where nothing is voiced.

        At least one frame is marked.
        """
        return self.voiced if self.voiced.any() else self.active

    @cached_property
    def voiceless_or_active(self) -> Mask:
        """Mark active voiceless frames, [F]; at least one.

        All active frames are marked where everything is voiced.
        """
        voiceless = self.active & ~self.voiced
        return voiceless if voiceless.any() else self.active

    @cached_property
    def semitones(self) -> Curve:
        """Return the pitch in semitones above 100 Hz, 0 where voiceless, [F]."""
        f0_hz = np.where(self.voiced, self.prosody.f0_hz, REFERENCE_HZ)
        semitones: Curve = 12 * np.log2(f0_hz / REFERENCE_HZ)
        return semitones

    @cached_property
    def _floor(self) -> float:
        return float(self.power.max()) * 10 ** (-FLOOR_DB / 10)

    def mel_bands(self, count: int) -> Curve:
        """Average neighboring log-mel bands, [F, count]."""
        pooled: Curve = self.log_mel.reshape(len(self.log_mel), count, -1).mean(axis=2)
        return pooled

    def levels(self, groups: Curve) -> Curve:
        """Measure the power of groups of bins in dB.

        Args:
            groups: 1 where a bin belongs to a group and 0 elsewhere, [bins, groups].

        Returns:
            Levels, [F, groups].
        """
        return decibels(self.power @ groups + self._floor)


def region(low_hz: float, high_hz: float) -> slice:
    """Return the bins of the power spectrum between two frequencies."""
    return slice(int(low_hz / logmel.BIN_HZ), int(high_hz / logmel.BIN_HZ))


def slopes(curves: Curve) -> Curve:
    """Return the slope of a line fitted to five frames around each frame.

    Args:
        curves: [F] or [F, columns].

    Returns:
        Change per frame, the same shape.
    """
    padded = np.concatenate([curves[:1], curves[:1], curves, curves[-1:], curves[-1:]])
    slopes: Curve = (2 * (padded[4:] - padded[:-4]) + (padded[3:-1] - padded[1:-3])) / 10
    return slopes


def runs(mask: Mask) -> npt.NDArray[np.intp]:
    """Find the stretches in which the mask holds, [runs, 2].

    Each row holds the start and the stop of consecutive frames.
    """
    edges = np.diff(mask.astype(np.int8), prepend=0, append=0)
    return np.column_stack([np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)])


@cache
def _cosines() -> Curve:
    """Return the cosine transform of log-mel bands, [M, 20].

    The constant is left out.
    """
    orders = np.arange(1, NUM_CEPSTRA + 1)
    angles = np.pi * orders * (np.arange(logmel.NUM_BANDS)[:, None] + 0.5) / logmel.NUM_BANDS
    cosines: Curve = (np.cos(angles) * np.sqrt(2 / logmel.NUM_BANDS)).astype(np.float32)
    return cosines
