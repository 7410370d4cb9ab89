"""The slow twin of `ecan_core.audio.prosody`: every step as its definition reads, one frame of time after the other."""

import numpy as np

from ecan_core.audio.logmel import SAMPLE_RATE, frames
from ecan_core.audio.prosody import (
    _ENOUGH_FRAMES,
    _IMPOSSIBLE,
    _JUMP_COST,
    _NUM_CANDIDATES,
    _NUM_LAGS,
    _OCTAVE_COST,
    _REACH,
    _SWITCH_COST,
    LONGEST_LAG,
    LOWEST_F0_HZ,
    PITCH_FFT,
    PITCH_WINDOW,
    SHORTEST_LAG,
    Prosody,
    _taper,
    _voiceless_gain,
)


def track_prosody(samples):
    """Measures pitch, harmonicity and energy every 10 ms."""
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


def _taper_correlation():
    """Autocorrelation of the window itself, 1 at lag 0: dividing by it undoes the window's taper."""
    power = np.square(np.abs(np.fft.rfft(_taper().astype(np.float64), PITCH_FFT)))
    correlation = np.fft.irfft(power)[:_NUM_LAGS]
    normalized = (correlation / correlation[0]).astype(np.float32)
    return normalized


def _candidates(correlation):
    """Finds the strongest local maxima of every frame's autocorrelation."""
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


def _height(correlation, lags):
    """Reads the autocorrelation between its samples."""
    whole = np.floor(lags).astype(np.intp)
    near = whole[..., None] + np.arange(1 - _REACH, 1 + _REACH)
    distance = near - lags[..., None]
    weights = np.sinc(distance) * np.square(np.cos(distance * (np.pi / 2 / _REACH)))
    values = correlation[np.arange(len(lags))[:, None, None], near]
    height = (values * weights).sum(axis=-1) / weights.sum(axis=-1)
    return height


def _track(f0, strengths, voiceless_gain):
    """Searches once in the whole range, then again in the range that the speaker used."""
    # Higher candidates gain a little, or a perfectly periodic sound could as well have twice its period.
    gains = np.where(strengths > 0, strengths + _OCTAVE_COST * np.log2(f0 / LOWEST_F0_HZ), _IMPOSSIBLE)
    track = _best_way(f0, gains, voiceless_gain)
    if np.count_nonzero(track) < _ENOUGH_FRAMES:
        return track
    low, high = np.quantile(track[track > 0], (0.15, 0.85))
    in_range = (f0 > low / 1.7) & (f0 < high * 2.0)
    return _best_way(f0, np.where(in_range, gains, _IMPOSSIBLE), voiceless_gain)


def _best_way(f0, gains, voiceless_gain):
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
    track = np.column_stack([f0, np.zeros(count)])[np.arange(count), way]
    return track


def _harmonicity(f0, strengths, track):
    """Takes each frame's correlation at its pitch, or the strongest one where it has none, [F]."""
    chosen = (f0 == track[:, None]) | (track[:, None] == 0)
    harmonicity = np.where(chosen, strengths, 0).max(axis=1)
    return harmonicity
