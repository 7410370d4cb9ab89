"""Compute Fourier transforms of real sounds, and decibels.

Spectra are transformed back as well. Single precision stays single precision.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Real = npt.NDArray[np.floating[Any]]

_BLOCK = 128  # rows
_DB_PER_NEPER = 10 / math.log(10)


def blocks(rows: Real) -> Iterator[Real]:
    """Cut rows into blocks that fit a core's cache, [rows, ...] each.

    What is computed from a block fits as well.
    """
    for start in range(0, len(rows), _BLOCK):
        yield rows[start : start + _BLOCK]


def power(windows: Real, length: int) -> Real:
    """Compute the power spectrum of windows.

    Args:
        windows: Sound, tapered, [..., T] with T at most `length`.
        length: Of the transform, in samples; what the windows lack is silence.

    Returns:
        Power per bin, [..., length / 2 + 1].
    """
    from scipy.fft import rfft  # numpy's takes twice as long

    spectrum = rfft(windows, length)
    power: Real = np.square(spectrum.real) + np.square(spectrum.imag)
    return power


def cosine_transform(spectra: Real) -> Real:
    """Transform real spectra back.

    Power gives autocorrelations, logarithmic power gives cepstra.

    Args:
        spectra: From zero to half the sample rate, [..., bins].

    Returns:
        The first half of what `irfft` gives, the second being its mirror image, [..., bins].
    """
    from scipy.fft import dct  # the imaginary half of `irfft` would be zeros

    correlation: Real = dct(spectra, type=1) / (2 * (spectra.shape[-1] - 1))
    return correlation


def decibels(power: Real) -> Real:
    """Return the level of a power above zero in dB.

    numpy's natural logarithm is several times faster than `log10`.
    """
    level: Real = np.log(power) * _DB_PER_NEPER
    return level
