"""Compute frames, power spectra and log-mel spectra.

All frame-wise measures of the project share one clock: frame t is centered on sample HOP * t + HOP / 2, so
that windows of different lengths describe the same instant.
"""

from functools import cache

import numpy as np
import numpy.typing as npt

from ecan_core.audio import fourier

Array = npt.NDArray[np.float32]

SAMPLE_RATE = 16_000  # Hz; every front end works at this rate
HOP = 160  # samples, 10 ms
WINDOW = 400  # samples, 25 ms
NUM_FFT = 512
FRAMES_PER_S = SAMPLE_RATE / HOP
BIN_HZ = SAMPLE_RATE / NUM_FFT
NUM_BANDS = 64
LOWEST_HZ, HIGHEST_HZ = 50.0, 7600.0


def num_frames(num_samples: int) -> int:
    """Count the frames of `num_samples` samples; there is at least one."""
    return max(1, (num_samples + HOP // 2) // HOP)


def frames(samples: Array, window: int) -> Array:
    """Cut overlapping windows around the common frame centers.

    Beyond the ends there is silence.

    Args:
        samples: Sound at 16 kHz, [T].
        window: Window length in samples, even.

    Returns:
        A read-only view, [F, window].
    """
    count = num_frames(len(samples))
    before = (window - HOP) // 2
    padded = np.zeros(HOP * (count - 1) + window + HOP, dtype=np.float32)
    padded[before : before + len(samples)] = samples[: len(padded) - before]
    return np.lib.stride_tricks.sliding_window_view(padded, window)[: HOP * count : HOP]


def power_spectrum(samples: Array) -> Array:
    """Compute the power spectrum of Hann-windowed frames.

    Args:
        samples: Sound at 16 kHz, [T].

    Returns:
        Power per FFT bin of 31.25 Hz, [F, 257].
    """
    windows = frames(samples, WINDOW)
    return np.concatenate([fourier.power(block * _hann(WINDOW), NUM_FFT) for block in fourier.blocks(windows)])


def mel_power(power: Array) -> Array:
    """Sum a power spectrum into mel bands.

    Args:
        power: Power spectrum, [F, 257].

    Returns:
        Power per mel band, [F, M].
    """
    return power @ _mel_filters()


@cache
def _hann(length: int) -> Array:
    return np.hanning(length + 1)[:-1].astype(np.float32)


@cache
def _mel_filters() -> Array:
    """Build the triangular mel filters, [257, M]."""
    lowest, highest = _mel(np.array([LOWEST_HZ, HIGHEST_HZ]))
    edges = _hertz(np.linspace(lowest, highest, NUM_BANDS + 2))
    rising, falling = edges[1:-1] - edges[:-2], edges[2:] - edges[1:-1]
    bins = BIN_HZ * np.arange(NUM_FFT // 2 + 1)[:, None]
    return np.maximum(0, np.minimum((bins - edges[:-2]) / rising, (edges[2:] - bins) / falling)).astype(np.float32)


def _mel(hertz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the height of a frequency on the mel scale of HTK."""
    return 2595 * np.log10(1 + hertz / 700)


def _hertz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the frequency of a height in mel."""
    return 700 * (10 ** (mel / 2595) - 1)
