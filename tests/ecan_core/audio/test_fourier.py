import numpy as np
import pytest

from ecan_core.audio import fourier


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_power_agrees_with_numpy_in_the_precision_of_the_sound(dtype):
    windows = np.random.default_rng(0).normal(size=(3, 80)).astype(dtype)
    power = fourier.power(windows, 128)
    assert power.dtype == dtype
    np.testing.assert_allclose(power, np.abs(np.fft.rfft(windows, 128)) ** 2, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_cosine_transform_is_the_first_half_of_an_inverse_transform(dtype):
    spectra = np.random.default_rng(0).normal(size=(3, 65)).astype(dtype)
    transformed = fourier.cosine_transform(spectra)
    assert transformed.dtype == dtype
    np.testing.assert_allclose(transformed, np.fft.irfft(spectra, 128)[:, :65], atol=1e-6)


def test_power_becomes_an_autocorrelation():
    sound = np.random.default_rng(0).normal(size=50)
    correlation = fourier.cosine_transform(fourier.power(sound, 128))
    expected = [sound[: len(sound) - lag] @ sound[lag:] for lag in range(50)]
    np.testing.assert_allclose(correlation[:50], expected, atol=1e-9)


def test_ten_decibels_are_ten_times_the_power():
    power = np.array([1e-12, 1, 10, 2e6], np.float32)
    assert fourier.decibels(power).dtype == np.float32
    np.testing.assert_allclose(fourier.decibels(power), 10 * np.log10(power), rtol=1e-6)


@pytest.mark.parametrize("count", [1, 127, 128, 129, 1000])
def test_blocks_are_all_rows_in_order(count):
    rows = np.arange(2 * count).reshape(count, 2)
    np.testing.assert_array_equal(np.concatenate(list(fourier.blocks(rows))), rows)
