"""Sounds whose pitch, level and length are known."""

import numpy as np

RATE = 16_000


def times(seconds: float) -> np.ndarray:
    return np.arange(int(seconds * RATE)) / RATE


def tone(f0_hz: float, seconds: float = 1.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * f0_hz * times(seconds))).astype(np.float32)


def noise(seconds: float = 1.0, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).normal(size=int(seconds * RATE))).astype(np.float32)


def pulse_train(f0_hz: float, seconds: float = 1.0) -> np.ndarray:
    """Equal harmonics up to 7 kHz: the buzz of a larynx without a mouth."""
    count = int(7000 / f0_hz)
    phases = 2 * np.pi * f0_hz * times(seconds)[:, None] * np.arange(1, count + 1)
    return (np.cos(phases).sum(axis=1) / count).astype(np.float32)


def syllables(f0_hz: float = 120.0, seconds: float = 2.0, seed: int = 0) -> np.ndarray:
    """A buzz with a moving pitch and four syllables per second over faint noise."""
    t = times(seconds)
    f0 = f0_hz * 2 ** (0.25 * np.sin(2 * np.pi * 0.7 * t))
    phase = 2 * np.pi * np.cumsum(f0) / RATE
    buzz = sum(np.cos(k * phase) / k for k in range(1, 16))
    loudness = np.clip(np.sin(2 * np.pi * 2 * t) ** 2 - 0.1, 0, None)
    return (0.2 * buzz * loudness + 0.01 * noise(seconds, seed)).astype(np.float32)
