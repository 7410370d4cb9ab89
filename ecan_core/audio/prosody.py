"""Pitch, voicing, harmonicity and energy of every frame.

Pitch is tracked in two steps: each frame proposes periods, then a Viterbi search picks the smoothest likely way
through the proposals of the whole utterance.

Source: Boersma, "Accurate short-term analysis of the fundamental frequency and the harmonics-to-noise ratio of a
    sampled sound", 1993 (the candidates, their strengths and the costs of a path).
Differs: the search runs twice, the second time within a range taken from the speaker's own first result, which
    removes most octave errors.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from ecan_core.audio.logmel import HOP, SAMPLE_RATE, frames

Array = npt.NDArray[np.float32]

LOWEST_F0_HZ, HIGHEST_F0_HZ = 60.0, 600.0
PITCH_WINDOW = 800  # samples, 50 ms: three periods of the lowest pitch
PITCH_FFT = 1152  # at least the window and the longest period, and a fast length
NUM_CANDIDATES = 8

_SILENCE = 0.03  # a peak under this share of the utterance's largest one is silence
_VOICING = 0.45  # strength from which a frame counts as voiced
_OCTAVE_COST = 0.01  # favors the shorter of two equally strong periods, per octave
_JUMP_COST = 0.35  # per octave between neighboring frames
_SWITCH_COST = 0.14  # between voiced and voiceless


@dataclass(frozen=True, kw_only=True, eq=False)
class Prosody:
    """What the voice does in every frame.

    Attributes:
        f0_hz: Fundamental frequency in Hz, 0 where voiceless, [F].
        harmonicity: Share of the energy that repeats with the best period, 0 to 1, [F].
        energy_db: Energy of the frame in dB, floored far below speech, [F].
        spectrum: Power spectrum of the 50 ms window, [F, PITCH_FFT / 2 + 1].
    """

    f0_hz: Array
    harmonicity: Array
    energy_db: Array
    spectrum: Array

    @property
    def voiced(self) -> npt.NDArray[np.bool_]:
        """Tells which frames have a pitch, [F]."""
        return self.f0_hz > 0


def track_prosody(samples: Array) -> Prosody:
    """Measures pitch, harmonicity and energy every 10 ms.

    Args:
        samples: Sound at 16 kHz, [T]; its level does not matter, it may contain silence.

    Returns:
        The prosody of every frame.
    """
    windows = frames(samples, PITCH_WINDOW)
    centered = windows - windows.mean(axis=1, keepdims=True)
    peaks = np.abs(centered).max(axis=1)
    spectrum = np.fft.rfft(centered * _window(), PITCH_FFT)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    correlation = np.fft.irfft(power, PITCH_FFT)[:, : _longest_lag() + 2]
    energy = correlation[:, 0].copy()
    normalized = correlation / (np.maximum(energy, 1e-20)[:, None] * _window_correlation())
    lags, strengths = _candidates(normalized)
    unvoiced = _VOICING + np.maximum(0, 2 - (peaks / max(peaks.max(), 1e-20)) / (_SILENCE / (1 + _VOICING)))
    f0 = _search(SAMPLE_RATE / lags, strengths, unvoiced, LOWEST_F0_HZ, HIGHEST_F0_HZ)
    if np.count_nonzero(f0) >= 10:
        low, high = np.quantile(f0[f0 > 0], [0.15, 0.85])
        f0 = _search(SAMPLE_RATE / lags, strengths, unvoiced, low / 1.7, high * 2.0)
    return Prosody(
        f0_hz=f0,
        harmonicity=_at_pitch(lags, strengths, f0),
        energy_db=(10 * np.log10(energy + 1e-12)).astype(np.float32),
        spectrum=power,
    )


def _longest_lag() -> int:
    return int(SAMPLE_RATE / LOWEST_F0_HZ)


@cache
def _window() -> Array:
    return np.hanning(PITCH_WINDOW + 1)[:-1].astype(np.float32)


@cache
def _window_correlation() -> Array:
    """Autocorrelation of the window itself, 1 at lag 0: dividing by it undoes the window's taper."""
    power = np.square(np.abs(np.fft.rfft(_window().astype(np.float64), PITCH_FFT)))
    correlation = np.fft.irfft(power)[: _longest_lag() + 2]
    return (correlation / correlation[0]).astype(np.float32)


def _candidates(correlation: Array) -> tuple[Array, Array]:
    """Finds the strongest local maxima of every frame's autocorrelation.

    Args:
        correlation: Normalized autocorrelation, [F, lags].

    Returns:
        Refined lags in samples and their correlation, both [F, K]; absent candidates have correlation 0.
    """
    first = int(SAMPLE_RATE / HIGHEST_F0_HZ)
    left, middle, right = correlation[:, first - 1 : -2], correlation[:, first:-1], correlation[:, first + 1 :]
    is_peak = (middle > left) & (middle >= right) & (middle > 0.0)
    preference = _OCTAVE_COST * np.log2(np.arange(first, first + middle.shape[1], dtype=np.float32))
    ranked = np.where(is_peak, middle - preference, -np.inf)
    best = np.argpartition(-ranked, NUM_CANDIDATES, axis=1)[:, :NUM_CANDIDATES]
    a, b, c = (np.take_along_axis(part, best, axis=1) for part in (left, middle, right))
    curvature = np.minimum(a - 2 * b + c, -1e-9)
    shift = np.clip(0.5 * (a - c) / curvature, -0.5, 0.5)
    peak = np.clip(b - 0.25 * (a - c) * shift, 0.0, 1.0)
    found = np.take_along_axis(is_peak, best, axis=1)
    return (first + best + shift).astype(np.float32), np.where(found, peak, 0).astype(np.float32)


def _search(f0: Array, strengths: Array, unvoiced: Array, lowest: float, highest: float) -> Array:
    """Finds the best way through the candidates of all frames (Viterbi).

    Args:
        f0: Candidate pitches in Hz, [F, K].
        strengths: Their correlations, 0 where absent, [F, K].
        unvoiced: Strength of having no pitch, [F].
        lowest: Lower end of the range in Hz.
        highest: Upper end of the range in Hz.

    Returns:
        Pitch of every frame in Hz, 0 where voiceless, [F].
    """
    octaves = np.log2(f0)
    allowed = (strengths > 0) & (f0 >= lowest) & (f0 <= highest)
    voiced_gain = np.where(allowed, strengths + _OCTAVE_COST * (octaves - np.log2(LOWEST_F0_HZ)), -1e3)
    gains = np.concatenate([voiced_gain, unvoiced[:, None]], axis=1).astype(np.float32)
    steps = np.full((len(f0) - 1, NUM_CANDIDATES + 1, NUM_CANDIDATES + 1), _SWITCH_COST, dtype=np.float32)
    steps[:, :-1, :-1] = _JUMP_COST * np.abs(octaves[:-1, :, None] - octaves[1:, None, :])
    steps[:, -1, -1] = 0
    choices = np.empty((len(f0), NUM_CANDIDATES + 1), dtype=np.intp)
    score = gains[0]
    for t in range(1, len(f0)):
        ways = score[:, None] - steps[t - 1]
        choices[t] = ways.argmax(axis=0)
        score = ways.max(axis=0) + gains[t]
    path = np.empty(len(f0), dtype=np.intp)
    path[-1] = score.argmax()
    for t in range(len(f0) - 1, 0, -1):
        path[t - 1] = choices[t, path[t]]
    padded = np.concatenate([f0, np.zeros((len(f0), 1), dtype=np.float32)], axis=1)
    return padded[np.arange(len(f0)), path].astype(np.float32)


def _at_pitch(lags: Array, strengths: Array, f0: Array) -> Array:
    """Takes each frame's correlation at its pitch, or the strongest one where it has none, [F]."""
    chosen = np.isclose(SAMPLE_RATE / lags, f0[:, None]) & (strengths > 0)
    at_pitch = np.where(chosen, strengths, 0).max(axis=1)
    return np.where(f0 > 0, at_pitch, strengths.max(axis=1)).astype(np.float32)
