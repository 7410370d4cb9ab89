import cmath
import math

import numpy as np
import pytest

from ecan_core.audio import logmel
from ecan_core.runtime.torchaudio_compat import functional
from tests.ecan_core.audio.sounds import noise, tone


def slow_power(samples, frame, frequency_bin):
    """One bin of one frame by the formula of the Fourier transform."""
    start = logmel.HOP * frame + logmel.HOP // 2 - logmel.WINDOW // 2
    total = 0j
    for n in range(logmel.WINDOW):
        inside = 0 <= start + n < len(samples)
        weight = 0.5 - 0.5 * math.cos(2 * math.pi * n / logmel.WINDOW)
        value = float(samples[start + n]) if inside else 0.0
        total += value * weight * cmath.exp(-2j * math.pi * frequency_bin * n / logmel.NUM_FFT)
    return abs(total) ** 2


def slow_mel_weight(band, frequency_hz):
    """One weight of one triangular mel filter."""

    def to_mel(hz):
        return 2595 * math.log10(1 + hz / 700)

    lowest, highest = to_mel(logmel.LOWEST_HZ), to_mel(logmel.HIGHEST_HZ)
    step = (highest - lowest) / (logmel.NUM_BANDS + 1)
    left, center, right = (700 * (10 ** ((lowest + step * (band + i)) / 2595) - 1) for i in range(3))
    rising = (frequency_hz - left) / (center - left)
    falling = (right - frequency_hz) / (right - center)
    return max(0.0, min(rising, falling))


@pytest.mark.parametrize("frame", [0, 1, 50, 99])
def test_power_agrees_with_the_slow_formula(frame):
    samples = noise(1.0)
    fast = logmel.power_spectrum(samples)
    for frequency_bin in (0, 1, 17, 200, 256):
        slow = slow_power(samples, frame, frequency_bin)
        assert fast[frame, frequency_bin] == pytest.approx(slow, rel=1e-3, abs=1e-6)


def test_mel_bands_agree_with_slow_triangles():
    power = logmel.power_spectrum(noise(0.2))
    fast = logmel.mel_power(power)
    for band in (0, 5, 31, 63):
        weights = [slow_mel_weight(band, n * logmel.BIN_HZ) for n in range(power.shape[1])]
        np.testing.assert_allclose(fast[:, band], power @ np.array(weights), rtol=1e-3)


def test_the_filters_are_those_of_torchaudio():
    expected = functional.melscale_fbanks(257, 50.0, 7600.0, 64, 16_000).numpy()
    np.testing.assert_allclose(logmel.mel_power(np.eye(257, dtype=np.float32)), expected, atol=1e-5)


@pytest.mark.parametrize(("samples", "count"), [(1, 1), (79, 1), (1_600, 10), (1_679, 10), (1_680, 11)])
def test_there_is_a_frame_for_every_ten_milliseconds(samples, count):
    assert logmel.num_frames(samples) == count
    assert logmel.frames(np.ones(samples, np.float32), logmel.WINDOW).shape == (count, logmel.WINDOW)


@pytest.mark.parametrize("window", [400, 800])
def test_windows_of_any_length_share_their_centers(window):
    samples = np.zeros(16_000, np.float32)
    samples[logmel.HOP * 30 + logmel.HOP // 2] = 1
    row = logmel.frames(samples, window)[30]
    assert row.argmax() == window // 2


def test_a_tone_lands_in_its_band():
    mel = logmel.mel_power(logmel.power_spectrum(tone(1000)))
    weights = [slow_mel_weight(band, 1000.0) for band in range(logmel.NUM_BANDS)]
    assert (mel[10:90].argmax(axis=1) == np.argmax(weights)).all()
