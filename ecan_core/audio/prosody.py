"""Measure pitch, voicing, harmonicity and energy of every frame.

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

from ecan_core.audio import fourier
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
    """Hold what the voice does in every frame.

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
        """Mark the frames that have a pitch, [F]."""
        return self.f0_hz > 0


def track_prosody(samples: npt.NDArray[np.float32]) -> Prosody:
    """Measure pitch, harmonicity and energy every 10 ms.

    Args:
        samples: Sound at 16 kHz with a peak of full scale, [T]; it may hold silence.

    Returns:
        The prosody of every frame.
    """
    blocks = fourier.blocks(frames(samples, PITCH_WINDOW))
    peaks, energy, lags, strengths, spectrum = map(np.concatenate, zip(*map(_measure, blocks), strict=True))
    f0 = _track(SAMPLE_RATE / lags, strengths, _voiceless_gain(peaks))
    return Prosody(
        f0_hz=f0,
        harmonicity=_harmonicity(SAMPLE_RATE / lags, strengths, f0),
        energy_db=fourier.decibels(energy + 1e-12),
        spectrum=spectrum,
    )


def _measure(windows: Curve) -> tuple[Curve, Curve, Curve, Curve, Curve]:
    """Measure frames without their neighbors.

    Args:
        windows: The sound of each, [F, PITCH_WINDOW].

    Returns:
        Its peak [F], its energy [F], lags [F, K] and strengths [F, K] of its candidates, its spectrum [F, bins].
    """
    centered = windows - windows.mean(axis=1, keepdims=True)
    peaks = np.maximum(centered.max(axis=1), -centered.min(axis=1))
    power = fourier.power(centered * _taper(), PITCH_FFT)
    correlation = fourier.cosine_transform(power)[:, :_NUM_LAGS]
    energy = correlation[:, 0].copy()
    correlation /= np.maximum(energy, 1e-20)[:, None] * _taper_correlation()
    return peaks, energy, *_candidates(correlation), power


def _voiceless_gain(peaks: Curve) -> Curve:
    """Rate having no pitch, [F].

    It is better than any candidate where the frame is silent.
    """
    loudness = peaks / max(peaks.max(), 1e-20)
    gain: Curve = _VOICING + np.maximum(0, 2 - loudness * (1 + _VOICING) / _SILENCE)
    return gain


@cache
def _taper() -> Curve:
    return np.hanning(PITCH_WINDOW + 1)[:-1].astype(np.float32)


@cache
def _taper_correlation() -> Curve:
    """Return the autocorrelation of the window itself, 1 at lag 0.

    Dividing by it undoes the window's taper.
    """
    power = fourier.power(_taper().astype(np.float64), PITCH_FFT)
    correlation = fourier.cosine_transform(power)[:_NUM_LAGS]
    normalized: Curve = (correlation / correlation[0]).astype(np.float32)
    return normalized


def _candidates(correlation: Curve) -> tuple[Curve, Curve]:
    """Find the strongest local maxima of every frame's autocorrelation.

    Args:
        correlation: Normalized autocorrelation, [F, lags].

    Returns:
        Refined lags in samples and their correlation, both [F, K]; absent candidates have correlation 0.
    """
    left, middle, right = (correlation[:, SHORTEST_LAG + step : LONGEST_LAG + 1 + step] for step in (-1, 0, 1))
    is_peak = (middle > left) & (middle >= right) & (middle > 0)
    best, found = _strongest(np.where(is_peak, middle - _preference(), -np.inf))
    rows = np.nonzero(found)[0]
    whole = SHORTEST_LAG + best[found]
    a, b, c = (correlation[rows, whole + step] for step in (-1, 0, 1))
    refined = whole.astype(np.float32) + 0.5 * (c - a) / np.maximum(2 * b - a - c, 1e-9)  # the top of a parabola
    lags, strengths = (SHORTEST_LAG + best).astype(np.float32), np.zeros(best.shape, dtype=np.float32)
    lags[found] = refined
    strengths[found] = np.clip(_height(correlation, rows, refined), 0, 1)
    return lags, strengths


def _strongest(ranks: Curve) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """Take the highest ranks of every frame; overwrites ``ranks``.

    Args:
        ranks: One per lag, -inf where there is no candidate, [F, lags].

    Returns:
        Columns of the K highest ranks from the first to the last, and whether there is a candidate, both [F, K].
    """
    frame, best = np.arange(len(ranks)), np.empty((len(ranks), _NUM_CANDIDATES), dtype=np.intp)
    found = np.empty(best.shape, dtype=np.bool_)
    for place in range(_NUM_CANDIDATES):
        best[:, place] = ranks.argmax(axis=1)
        found[:, place] = ranks[frame, best[:, place]] > -np.inf
        ranks[frame, best[:, place]] = -np.inf
    return best, found


@cache
def _preference() -> Curve:
    """Return what each lag costs in the choice of candidates, [lags].

    Longer periods repeat shorter ones.
    """
    return (_OCTAVE_COST * np.log2(np.arange(SHORTEST_LAG, LONGEST_LAG + 1))).astype(np.float32)


def _height(correlation: Curve, rows: npt.NDArray[np.intp], lags: Curve) -> Curve:
    """Read the autocorrelation between its samples.

    The peaks of a bright voice are too narrow for a parabola: it would miss a third of the height of a period that
    lies between two samples and prefer a multiple that does not.

    Args:
        correlation: Normalized autocorrelation, [F, lags].
        rows: In which frame to read, [P].
        lags: Where to read in it, in samples, [P].

    Returns:
        Its values by windowed sinc interpolation, [P].
    """
    whole = np.floor(lags).astype(np.intp)
    near = np.arange(1 - _REACH, 1 + _REACH)
    distance = near.astype(np.float32) - np.maximum(lags - whole.astype(np.float32), 1e-6)[:, None]
    # The sine of sinc has the same size at every sample and changes sign from one to the next; its size cancels out.
    weights = (1 + np.cos(distance * (np.pi / _REACH))) / distance
    weights[:, ::2] *= -1
    values = correlation[rows[:, None], whole[:, None] + near]
    height: Curve = np.einsum("pn,pn->p", values, weights) / weights.sum(axis=1)
    return height


def _track(f0: Curve, strengths: Curve, voiceless_gain: Curve) -> Curve:
    """Track the pitch in two passes.

    The first searches the whole range, the second the range that the speaker used.

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
    if not np.any((f0 == track[:, None]) & ~in_range):
        return track  # where the best way is allowed, it stays the best
    return _best_way(f0, np.where(in_range, gains, _IMPOSSIBLE), voiceless_gain)


def _best_way(f0: Curve, gains: Curve, voiceless_gain: Curve) -> Curve:
    """Find the path that gains most and jumps least, [F] in Hz."""
    count, voiceless = f0.shape
    octaves = np.log2(np.ascontiguousarray(f0.T))
    steps = np.full((voiceless + 1, voiceless + 1, count), -_SWITCH_COST)
    steps[:-1, :-1, 1:] = -_JUMP_COST * np.abs(octaves[:, None, :-1] - octaves[None, :, 1:])
    steps[-1, -1] = 0
    steps[:, :, 0] = 0  # into the first frame every way is free
    steps += np.vstack([gains.T, voiceless_gain])
    way = _best_states(steps)[1:]
    track: Curve = np.column_stack([f0, np.zeros(count)])[np.arange(count), way]
    return track


def _best_states(steps: Curve) -> npt.NDArray[np.intp]:
    """Find the states whose steps have the largest sum, by halves.

    This is Viterbi's problem.

    Every two steps are joined into one over the best state between them, until one step is left; on the way back the
    states between are filled in. All pairs are joined at once, so there is no loop over time.

    Args:
        steps: Gain of going from one state to the next, [states, states, T].

    Returns:
        The best states, [T + 1].
    """
    count = steps.shape[2]
    if count == 1:
        return np.array(np.unravel_index(steps.argmax(), steps.shape[:2]))
    paired = count - count % 2
    first, second = steps[:, :, 0:paired:2].copy(), steps[:, :, 1:paired:2].copy()
    joined = (first[:, :, None] + second[None]).max(axis=1)
    outer = _best_states(np.concatenate([joined, steps[:, :, paired:]], axis=2))
    states = np.empty(count + 1, dtype=np.intp)
    states[-1], states[0 : paired + 1 : 2] = outer[-1], outer[: paired // 2 + 1]
    pair = np.arange(paired // 2)
    states[1:paired:2] = (first[outer[pair], :, pair] + second[:, outer[pair + 1], pair].T).argmax(axis=1)
    return states


def _harmonicity(f0: Curve, strengths: Curve, track: Curve) -> Curve:
    """Return each frame's correlation at its pitch, [F].

    A frame without a pitch gets its strongest correlation.
    """
    chosen = (f0 == track[:, None]) | (track[:, None] == 0)
    harmonicity: Curve = np.where(chosen, strengths, 0).max(axis=1)
    return harmonicity
