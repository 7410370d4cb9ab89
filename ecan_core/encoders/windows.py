"""Compute spectra and mel bands as public encoders were trained on them.

Each has its own frames and bands.
"""

from functools import cache

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_BREAK_HZ, _HZ_PER_MEL, _LOG_STEP = 1000.0, 200.0 / 3, np.log(6.4) / 27.0


def triangles(edges: Array, places: Array) -> npt.NDArray[np.float32]:
    """Compute triangular filters.

    Args:
        edges: Corners of the triangles on any scale, [M + 2].
        places: Where the bins of a spectrum lie on that scale, [bins].

    Returns:
        Weight of each bin in each band, 1 at the peaks, [bins, M].
    """
    rising, falling = edges[1:-1] - edges[:-2], edges[2:] - edges[1:-1]
    bins = places[:, None]
    weights = np.maximum(0, np.minimum((bins - edges[:-2]) / rising, (edges[2:] - bins) / falling))
    return weights.astype(np.float32)


@cache
def slaney_filters(num_bands: int, num_fft: int, rate: int) -> npt.NDArray[np.float32]:
    """Compute mel filters of equal area up to half the rate, [bins, M].

    Source: Slaney's auditory toolbox: linear below 1 kHz, logarithmic above; as librosa and Whisper have them.
    """
    edges = _slaney_hertz(np.linspace(0, _slaney_mel(rate / 2), num_bands + 2))
    bins = _bins(num_fft, rate)
    area: npt.NDArray[np.float32] = (triangles(edges, bins) * (2 / (edges[2:] - edges[:-2]))).astype(np.float32)
    return area


@cache
def kaldi_filters(num_bands: int, num_fft: int, rate: int) -> npt.NDArray[np.float32]:
    """Compute Kaldi's mel filters, 20 Hz to half the rate, [bins, M].

    Triangles on the mel scale itself.
    """
    lowest, highest = _kaldi_mel(np.array([20.0, rate / 2]))
    filters = triangles(np.linspace(lowest, highest, num_bands + 2), _kaldi_mel(_bins(num_fft, rate)))
    filters[-1] = 0  # Kaldi leaves the last bin out
    return filters


def _slaney_mel(hertz: float) -> float:
    return float(_BREAK_HZ / _HZ_PER_MEL + np.log(hertz / _BREAK_HZ) / _LOG_STEP)


def _slaney_hertz(mel: Array) -> Array:
    knee = _BREAK_HZ / _HZ_PER_MEL
    hertz: Array = np.where(mel < knee, _HZ_PER_MEL * mel, _BREAK_HZ * np.exp(_LOG_STEP * (mel - knee)))
    return hertz


def _kaldi_mel(hertz: Array) -> Array:
    mel: Array = 1127.0 * np.log1p(hertz / 700.0)
    return mel


def _bins(num_fft: int, rate: int) -> Array:
    """Return the frequency of each bin of a spectrum in Hz."""
    return np.linspace(0, rate / 2, num_fft // 2 + 1)
