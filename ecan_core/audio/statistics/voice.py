"""Measure the voice's quality: breathy, pressed, rough or clear."""

from functools import cache

import numpy as np

from ecan_core.audio import fourier
from ecan_core.audio.contours import FLOOR_DB, Contours, Curve
from ecan_core.audio.logmel import HOP, SAMPLE_RATE
from ecan_core.audio.prosody import LONGEST_LAG, SHORTEST_LAG
from ecan_core.audio.statistics.tally import Tally

_QUARTILES = (25, 50, 75)
_ENVELOPE_HOP = 32  # samples, 2 ms
_ENVELOPE_WINDOW = 64  # envelope values, 128 ms
_ENVELOPE_STEP = 20  # envelope values, 40 ms
_ROUGHNESS_HZ = (14, 30, 55, 90, 140, 250)


def clearness(contours: Contours, tally: Tally) -> None:
    """Note how far harmonics stand out, by correlation and by cepstrum.

    They stand out of noise.
    """
    voiced, active = contours.voiced, contours.active
    share = np.clip(contours.prosody.harmonicity[voiced], 1e-3, 0.999)
    tally.distribution("hnr", 10 * np.log10(share / (1 - share)))
    prominence = _cepstral_peak(contours.prosody.spectrum[active])
    tally.distribution("cpp", prominence[voiced[active]])
    tally.moments("cpp.active", prominence)


def _cepstral_peak(power: Curve) -> Curve:
    """Measure how far the pitch stands out of the cepstrum, [F].

    It is compared with the cepstrum's straight line.

    Source: Hillenbrand et al., "Acoustic correlates of breathy vocal quality", 1994.
    """
    floor = power.max() * 10 ** (-FLOOR_DB / 10)
    place = np.arange(SHORTEST_LAG, LONGEST_LAG + 1, dtype=np.float32)
    place -= place.mean()
    peaks = []
    for block in fourier.blocks(power):
        cepstrum = fourier.cosine_transform(fourier.decibels(block + floor))[:, SHORTEST_LAG : LONGEST_LAG + 1]
        centered = cepstrum - cepstrum.mean(axis=1, keepdims=True)
        line = (centered @ place / (place @ place))[:, None] * place
        peaks.append((centered - line).max(axis=1))
    return np.concatenate(peaks)


def perturbation(contours: Contours, tally: Tally) -> None:
    """Note how unsteady pitch and loudness are.

    Both are compared from frame to frame, and loudness also from period to period.
    """
    voiced = contours.voiced
    inner = voiced[2:] & voiced[1:-1] & voiced[:-2]
    jitter = np.abs(np.diff(contours.semitones, n=2))[inner]
    tally.distribution("jitter", jitter[jitter < 3], _QUARTILES)
    tally.distribution("shimmer", np.abs(np.diff(contours.prosody.energy_db, n=2))[inner], _QUARTILES)
    levels = _period_levels(contours)
    tally.distribution("period.bend", np.abs(levels[0] - 2 * levels[1] + levels[2]), _QUARTILES)
    tally.distribution("period.step", np.abs(np.diff(levels, axis=0)).mean(axis=0), _QUARTILES)


def _period_levels(contours: Contours) -> Curve:
    """Measure the energy of four pitch periods around each frame, in dB.

    The periods are consecutive, the frames are the voiced ones.

    Returns:
        One row per period, one column per voiced frame, [4, frames].
    """
    rows = np.flatnonzero(contours.voiced)
    centers = HOP * rows + HOP / 2
    periods = SAMPLE_RATE / contours.prosody.f0_hz[rows]
    energy = np.concatenate([[0.0], np.cumsum(np.square(contours.centered, dtype=np.float64))])
    edges = np.rint(centers + np.arange(-2, 3)[:, None] * periods).astype(np.intp)
    per_period = np.diff(energy[np.clip(edges, 0, len(contours.centered))], axis=0)
    levels: Curve = 10 * np.log10(per_period + 1e-9 * energy[-1])
    return levels


def roughness(contours: Contours, tally: Tally) -> None:
    """Note how strongly loudness trembles at 14 to 250 Hz.

    Screams and harsh voices tremble at 30 to 150 Hz.

    Source: Arnal et al., "Human screams occupy a privileged niche in the communication soundscape", 2015.
    """
    windows = _envelope_windows(contours)
    centered = windows - windows.mean(axis=1, keepdims=True)
    power = fourier.power(centered * _envelope_taper(), _ENVELOPE_WINDOW)
    frequencies = np.fft.rfftfreq(_ENVELOPE_WINDOW, _ENVELOPE_HOP / SAMPLE_RATE)
    edges = np.searchsorted(frequencies, _ROUGHNESS_HZ)
    trembling = np.log(np.add.reduceat(power[:, : edges[-1]], edges[:-1], axis=1) + 1e-3)
    for low, mean, curve in zip(_ROUGHNESS_HZ, trembling.mean(axis=0), trembling.T, strict=False):
        tally.number(f"roughness.{low}.mean", mean)
        tally.quantiles(f"roughness.{low}", curve, (75,))


def _envelope_windows(contours: Contours) -> Curve:
    """Cut logarithmic energy into windows around frames, [windows, 64].

    Energy is taken in steps of 2 ms, windows around active frames.
    """
    sound = contours.centered
    count = len(sound) // _ENVELOPE_HOP
    energy = np.square(sound[: count * _ENVELOPE_HOP]).reshape(count, _ENVELOPE_HOP).sum(axis=1)
    envelope = np.log(energy + 1e-5 * energy.max())
    envelope = np.pad(envelope, (0, max(0, _ENVELOPE_WINDOW - count)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(envelope, _ENVELOPE_WINDOW)[::_ENVELOPE_STEP]
    centers = np.arange(len(windows)) * _ENVELOPE_STEP + _ENVELOPE_WINDOW // 2
    frames = np.minimum(centers * _ENVELOPE_HOP // HOP, len(contours.active) - 1)
    active = contours.active[frames]
    chosen: Curve = windows[active] if active.any() else windows
    return chosen


@cache
def _envelope_taper() -> Curve:
    return np.hanning(_ENVELOPE_WINDOW)
