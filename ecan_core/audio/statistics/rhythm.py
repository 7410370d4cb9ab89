"""Measure loudness over time: dynamics, modulation, syllables, pauses."""

import numpy as np

from ecan_core.audio.contours import Contours, Curve, runs, slopes
from ecan_core.audio.logmel import FRAMES_PER_S
from ecan_core.audio.statistics.tally import Tally

_FLOOR_DB = -40.0  # below this, loudness is background
_NUCLEUS_DB = -25.0  # syllables are louder than this
_LONG_PAUSE_S = 0.1
_MODULATION_HZ = (0.5, 2, 4, 6, 9, 13, 20)


def energy(contours: Contours, tally: Tally) -> None:
    """Note dynamics below the loudest frame and the speed of loudness."""
    tally.distribution("energy", contours.energy_db[contours.active], (5, 10, 25, 50, 75, 90))
    speed = slopes(contours.energy_db)[contours.span]
    tally.distribution("energy.slope", speed, (5, 25, 75, 95))


def modulation(contours: Contours, tally: Tally) -> None:
    """Note at which rates loudness goes up and down."""
    loudness = np.maximum(contours.energy_db[contours.span], _FLOOR_DB)
    rates, power = _modulation_spectrum(loudness)
    shares = power / (power.sum() + 1e-9)
    edges = np.searchsorted(rates, _MODULATION_HZ)
    tally.numbers("modulation", np.add.reduceat(shares, edges[:-1]))
    tally.number("modulation.center", rates @ shares)


def _modulation_spectrum(curve: Curve) -> tuple[Curve, Curve]:
    """Compute power per modulation rate between 0.5 and 20 Hz.

    Args:
        curve: Loudness in dB, [F].

    Returns:
        Rates in Hz and power at each, both [rates].
    """
    taper = np.hanning(len(curve) + 2)[1:-1]
    length = max(512, 1 << (len(curve) - 1).bit_length())
    power = np.square(np.abs(np.fft.rfft((curve - curve.mean()) * taper, length)))
    rates = np.fft.rfftfreq(length, 1 / FRAMES_PER_S)
    first, last = np.searchsorted(rates, (_MODULATION_HZ[0], _MODULATION_HZ[-1]))
    return rates[first:last], power[first:last]


def timing(contours: Contours, tally: Tally) -> None:
    """Note length, voiced stretches, pauses and syllables."""
    span = contours.span
    duration_s = (span.stop - span.start) / FRAMES_PER_S
    tally.number("duration", np.log(duration_s))
    _voiced_stretches(contours, duration_s, tally)
    _pauses(contours, duration_s, tally)
    _syllables(contours, duration_s, tally)


def _voiced_stretches(contours: Contours, duration_s: float, tally: Tally) -> None:
    stretches = runs(contours.voiced)
    lengths = np.diff(stretches, axis=1)[:, 0] / FRAMES_PER_S
    gaps = (stretches[1:, 0] - stretches[:-1, 1]) / FRAMES_PER_S
    tally.number("voiced.rate", len(lengths) / duration_s)
    tally.moments("voiced.length", np.log(lengths + 0.01), absent=-3.0)
    tally.number("voiced.longest", lengths.max() if len(lengths) else 0.0)
    tally.moments("voiced.gap", np.log(gaps + 0.01), absent=-3.0)


def _pauses(contours: Contours, duration_s: float, tally: Tally) -> None:
    silent = ~contours.active[contours.span]
    lengths = np.diff(runs(silent), axis=1)[:, 0] / FRAMES_PER_S
    tally.number("pause.share", silent.mean())
    tally.number("pause.rate", (lengths > _LONG_PAUSE_S).sum() / duration_s)
    tally.number("pause.longest", lengths.max() if len(lengths) else 0.0)


def _syllables(contours: Contours, duration_s: float, tally: Tally) -> None:
    """Note rate, evenness and prominence of the syllables.

    Maxima of loudness stand for syllables.
    """
    loudness = _smooth(np.maximum(contours.energy_db, _FLOOR_DB), 7)
    middle = loudness[1:-1]
    is_nucleus = (middle > loudness[:-2]) & (middle >= loudness[2:]) & (middle > _NUCLEUS_DB)
    nuclei = np.flatnonzero(is_nucleus) + 1
    gaps = np.diff(nuclei) / FRAMES_PER_S
    uneven = np.abs(np.diff(gaps)) / (gaps[1:] + gaps[:-1]) * 2
    valleys = np.minimum.reduceat(loudness, nuclei)[:-1] if len(nuclei) else np.zeros(0)
    dips = np.minimum(loudness[nuclei[:-1]], loudness[nuclei[1:]]) - valleys
    pitch = contours.semitones[nuclei[contours.voiced[nuclei]]]
    tally.number("syllable.rate", len(nuclei) / duration_s)
    tally.moments("syllable.gap", gaps)
    tally.number("syllable.uneven", uneven.mean() if len(uneven) else 0.0)
    tally.moments("syllable.dip", dips)
    tally.moments("syllable.peak", loudness[nuclei])
    tally.number("syllable.pitch", pitch.std() if len(pitch) else 0.0)


def _smooth(curve: Curve, width: int) -> Curve:
    """Average over `width` frames with a bell-shaped weight, [F]."""
    weights = np.hanning(width + 2)[1:-1]
    padded = np.pad(curve, width // 2, mode="edge")
    return np.convolve(padded, weights / weights.sum(), "valid")
