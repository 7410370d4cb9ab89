"""Pitch, voicing, harmonicity and energy of every frame.

Pitch is tracked in two steps: each frame proposes periods, then a Viterbi search picks the smoothest likely way
through the proposals of the whole utterance.

Source: Boersma, "Accurate short-term analysis of the fundamental frequency and the harmonics-to-noise ratio of
    a sampled sound", 1993 (the candidates, their strengths and the costs of a path).
Differs: the search runs twice, the second time within a range taken from the first result, which removes most
    octave errors.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ecan_core.audio.logmel import SAMPLE_RATE, frames

Curve = npt.NDArray[np.floating[Any]]

LOWEST_F0_HZ, HIGHEST_F0_HZ = 60.0, 600.0
SHORTEST_LAG, LONGEST_LAG = int(SAMPLE_RATE / HIGHEST_F0_HZ), int(SAMPLE_RATE / LOWEST_F0_HZ)  # samples
PITCH_WINDOW = 800  # samples, 50 ms: three periods of the lowest pitch
PITCH_FFT = 1152  # at least the window and the longest period, and a fast length

_REACH = 8  # samples on either side that tell the height of a peak between two of them
_NUM_LAGS = LONGEST_LAG + _REACH + 2
_NUM_CANDIDATES = 8
_SILENCE = 0.03  # a frame whose peak is under this share of the utterance's is silence
_VOICING = 0.45  # correlation from which a frame counts as voiced
_OCTAVE_COST = 0.02  # favors the shorter of two equally strong periods, per octave
_JUMP_COST = 0.35  # per octave between neighboring frames
_SWITCH_COST = 0.14  # between voiced and voiceless
_IMPOSSIBLE = -1e3
_ENOUGH_FRAMES = 10  # voiced frames that tell a speaker's range


@dataclass(frozen=True, kw_only=True, eq=False)
class Prosody:
    """What the voice does in every frame.

    Attributes:
        f0_hz: Fundamental frequency in Hz, 0 where voiceless, [F].
        harmonicity: Share of the energy that repeats with the best period, 0 to 1, [F].
        energy_db: Energy of the 50 ms window in dB, floored far below speech, [F].
        spectrum: Power spectrum of the 50 ms window, [F, PITCH_FFT / 2 + 1].
    """

    f0_hz: Curve
    harmonicity: Curve
    energy_db: Curve
    spectrum: Curve

    @property
    def voiced(self) -> npt.NDArray[np.bool_]:
        """Tells which frames have a pitch, [F]."""
        return self.f0_hz > 0


def track_prosody(samples: npt.NDArray[np.float32]) -> Prosody:
    """Measures pitch, harmonicity and energy every 10 ms.

    Args:
        samples: Sound at 16 kHz with a peak of full scale, [T]; it may hold silence.

    Returns:
        The prosody of every frame.
    """
    windows = frames(samples, PITCH_WINDOW)
    centered = windows - windows.mean(axis=1, keepdims=True)
    spectrum = np.fft.rfft(centered * _taper(), PITCH_FFT)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    correlation = np.fft.irfft(power, PITCH_FFT)[:, :_NUM_LAGS]
    energy = correlation[:, 0].copy()
    correlation /= np.maximum(energy, 1e-20)[:, None] * _taper_correlation()
    lags, strengths = _candidates(correlation)
    f0 = _track(SAMPLE_RATE / lags, strengths, _voiceless_gain(np.abs(centered).max(axis=1)))
    return Prosody(
        f0_hz=f0,
        harmonicity=_harmonicity(SAMPLE_RATE / lags, strengths, f0),
        energy_db=10 * np.log10(energy + 1e-12),
        spectrum=power,
    )


def _voiceless_gain(peaks: Curve) -> Curve:
    """Rates having no pitch, [F]: better than any candidate where the frame is silent."""
    loudness = peaks / max(peaks.max(), 1e-20)
    gain: Curve = _VOICING + np.maximum(0, 2 - loudness * (1 + _VOICING) / _SILENCE)
    return gain


@cache
def _taper() -> Curve:
    return np.hanning(PITCH_WINDOW + 1)[:-1].astype(np.float32)


@cache
def _taper_correlation() -> Curve:
    """Autocorrelation of the window itself, 1 at lag 0: dividing by it undoes the window's taper."""
    power = np.square(np.abs(np.fft.rfft(_taper().astype(np.float64), PITCH_FFT)))
    correlation = np.fft.irfft(power)[:_NUM_LAGS]
    normalized: Curve = (correlation / correlation[0]).astype(np.float32)
    return normalized


def _candidates(correlation: Curve) -> tuple[Curve, Curve]:
    """Finds the strongest local maxima of every frame's autocorrelation.

    Args:
        correlation: Normalized autocorrelation, [F, lags].

    Returns:
        Refined lags in samples and their correlation, both [F, K]; absent candidates have correlation 0.
    """
    left, middle, right = (correlation[:, SHORTEST_LAG + step : LONGEST_LAG + 1 + step] for step in (-1, 0, 1))
    is_peak = (middle > left) & (middle >= right) & (middle > 0)
    preference = (_OCTAVE_COST * np.log2(np.arange(SHORTEST_LAG, LONGEST_LAG + 1))).astype(np.float32)
    ranked = np.where(is_peak, preference - middle, np.inf)
    best = np.argpartition(ranked, _NUM_CANDIDATES, axis=1)[:, :_NUM_CANDIDATES]
    a, b, c = (np.take_along_axis(part, best, axis=1) for part in (left, middle, right))
    found = np.take_along_axis(is_peak, best, axis=1)
    bend = np.where(found, np.maximum(2 * b - a - c, 1e-9), 1)
    shift = np.where(found, 0.5 * (c - a) / bend, 0)  # the top of the parabola through three points
    lags = (SHORTEST_LAG + best).astype(np.float32) + shift
    return lags, np.where(found, np.clip(_height(correlation, lags), 0, 1), 0)


def _height(correlation: Curve, lags: Curve) -> Curve:
    """Reads the autocorrelation between its samples.

    The peaks of a bright voice are too narrow for a parabola: it would miss a third of the height of a period that
    lies between two samples and prefer a multiple that does not.

    Args:
        correlation: Normalized autocorrelation, [F, lags].
        lags: Where to read, in samples, [F, K].

    Returns:
        Its values by windowed sinc interpolation, [F, K].
    """
    whole = np.floor(lags).astype(np.intp)
    near = whole[..., None] + np.arange(1 - _REACH, 1 + _REACH)
    distance = near - lags[..., None]
    weights = np.sinc(distance) * np.square(np.cos(distance * (np.pi / 2 / _REACH)))
    values = correlation[np.arange(len(lags))[:, None, None], near]
    height: Curve = (values * weights).sum(axis=-1) / weights.sum(axis=-1)
    return height


def _track(f0: Curve, strengths: Curve, voiceless_gain: Curve) -> Curve:
    """Searches once in the whole range, then again in the range that the speaker used.

    Args:
        f0: Candidate pitches in Hz, [F, K].
        strengths: Their correlations, 0 where absent, [F, K].
        voiceless_gain: Gain of having no pitch, [F].

    Returns:
        Pitch of every frame in Hz, 0 where voiceless, [F].
    """
    # Higher candidates gain a little, or a perfectly periodic sound could as well have twice its period.
    gains = np.where(strengths > 0, strengths + _OCTAVE_COST * np.log2(f0 / LOWEST_F0_HZ), _IMPOSSIBLE)
    track = _best_way(f0, gains, voiceless_gain)
    if np.count_nonzero(track) < _ENOUGH_FRAMES:
        return track
    low, high = np.quantile(track[track > 0], (0.15, 0.85))
    in_range = (f0 > low / 1.7) & (f0 < high * 2.0)
    return _best_way(f0, np.where(in_range, gains, _IMPOSSIBLE), voiceless_gain)


def _best_way(f0: Curve, gains: Curve, voiceless_gain: Curve) -> Curve:
    """Finds the way through the candidates that gains most and jumps least (Viterbi), [F] in Hz."""
    count, voiceless = f0.shape
    octaves = np.log2(f0)
    all_gains = np.column_stack([gains, voiceless_gain])
    costs = np.full((count - 1, voiceless + 1, voiceless + 1), _SWITCH_COST)
    costs[:, :-1, :-1] = _JUMP_COST * np.abs(octaves[:-1, :, None] - octaves[1:, None, :])
    costs[:, -1, -1] = 0
    came_from = np.empty((count, voiceless + 1), dtype=np.intp)
    score = all_gains[0]
    for t in range(1, count):
        ways = score[:, None] - costs[t - 1]
        came_from[t] = ways.argmax(axis=0)
        score = ways.max(axis=0) + all_gains[t]
    way = np.empty(count, dtype=np.intp)
    way[-1] = score.argmax()
    for t in range(count - 1, 0, -1):
        way[t - 1] = came_from[t, way[t]]
    track: Curve = np.column_stack([f0, np.zeros(count)])[np.arange(count), way]
    return track


def _harmonicity(f0: Curve, strengths: Curve, track: Curve) -> Curve:
    """Takes each frame's correlation at its pitch, or the strongest one where it has none, [F]."""
    chosen = (f0 == track[:, None]) | (track[:, None] == 0)
    harmonicity: Curve = np.where(chosen, strengths, 0).max(axis=1)
    return harmonicity
