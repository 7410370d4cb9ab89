"""Measure the resonances of the vocal tract (formants).

They are read off the peaks of a linear-prediction spectrum.
"""

from functools import cache

import numpy as np
import numpy.typing as npt

from ecan_core.audio.contours import Contours, Curve
from ecan_core.audio.fourier import decibels
from ecan_core.audio.logmel import BIN_HZ
from ecan_core.audio.statistics.tally import Tally

_NUM_FORMANTS = 3
_ORDER = 12
_HIGHEST_HZ, _LOWEST_HZ = 5500.0, 200.0
_NUM_POINTS = 128  # of the prediction spectrum up to the highest frequency
_POINT_HZ = _HIGHEST_HZ / _NUM_POINTS
_PRE_EMPHASIS = 0.97


def formants(contours: Contours, tally: Tally) -> None:
    """Note frequency, sharpness and level of the first three formants.

    Voiced frames count.
    """
    spectrum = _prediction_spectrum(contours.power[contours.voiced_or_active])
    peaks = _peaks(spectrum)
    for number in range(1, _NUM_FORMANTS + 1):
        rows = np.flatnonzero(peaks.any(axis=1))
        points = peaks[rows].argmax(axis=1)
        peaks[rows, points] = False
        below, at, above = (spectrum[rows, points + step] for step in (-1, 0, 1))
        bend = np.maximum(2 * at - below - above, 1e-6)
        frequency = (points + 0.5 * (above - below) / bend) * _POINT_HZ
        neutral = 1000.0 * number - 500.0  # of a 17 cm tube
        tally.distribution(f"formant.{number}", frequency, (10, 25, 50, 75, 90), absent=neutral)
        tally.number(f"formant.{number}.sharpness", bend.mean() if len(rows) else 0.0)
        level = at - spectrum[rows].mean(axis=1)
        tally.number(f"formant.{number}.level", level.mean() if len(rows) else 0.0)


def _peaks(spectrum: Curve) -> npt.NDArray[np.bool_]:
    """Mark local maxima above the lowest frequency, [frames, points]."""
    peaks = np.zeros(spectrum.shape, dtype=np.bool_)
    middle = spectrum[:, 1:-1]
    peaks[:, 1:-1] = (middle > spectrum[:, :-2]) & (middle >= spectrum[:, 2:])
    peaks[:, : int(_LOWEST_HZ / _POINT_HZ) + 1] = False
    return peaks


def _prediction_spectrum(power: Curve) -> Curve:
    """Compute the all-pole envelope of power spectra in dB.

    The autocorrelation comes from the pre-emphasized power spectrum below 5.5 kHz, as if the sound had been
    sampled at 11 kHz; Levinson's recursion runs over all frames at once.

    Args:
        power: Power spectra, [frames, bins].

    Returns:
        Envelope up to 5.5 kHz, [frames, points + 1].
    """
    to_correlation, to_real, to_imaginary = _transforms()
    polynomials = _levinson(to_correlation @ power[:, : to_correlation.shape[1]].T)
    return -decibels(np.square(polynomials.T @ to_real) + np.square(polynomials.T @ to_imaginary) + 1e-18)


def _levinson(correlation: Curve) -> Curve:
    """Solve for the prediction polynomials of all frames.

    Args:
        correlation: Autocorrelations, [order + 1, frames].

    Returns:
        Polynomials that start with 1, [order + 1, frames].
    """
    polynomial = np.zeros_like(correlation)
    polynomial[0] = 1
    error = correlation[0].copy()
    for order in range(1, len(correlation)):
        known = polynomial[:order]
        reflection = -(known * correlation[order:0:-1]).sum(axis=0) / error
        polynomial[1 : order + 1] += reflection * known[::-1].copy()
        error = np.maximum(error * (1 - reflection**2), 1e-12 * correlation[0])
    return polynomial


@cache
def _transforms() -> tuple[Curve, Curve, Curve]:
    """Return Fourier transforms as matrices.

    There are so few coefficients that a fast transform is not needed.

    Returns:
        From power to autocorrelation after pre-emphasis, [order + 1, bins]; from a polynomial to the real and the
        imaginary part of its spectrum, [order + 1, points + 1] each.
    """
    num_bins = int(_HIGHEST_HZ / BIN_HZ) + 1
    orders = np.arange(_ORDER + 1)[:, None]
    angles = np.pi * np.arange(num_bins) / (num_bins - 1)
    weights = 1 + _PRE_EMPHASIS**2 - 2 * _PRE_EMPHASIS * np.cos(angles)
    weights[1:-1] *= 2  # these bins stand for their mirror images, too
    to_correlation = np.cos(orders * angles) * weights / (2 * (num_bins - 1))
    to_correlation[0] *= 1.0001
    points = np.pi * orders * np.arange(_NUM_POINTS + 1) / _NUM_POINTS
    return to_correlation, np.cos(points), np.sin(points)
