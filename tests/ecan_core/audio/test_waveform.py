import numpy as np
import pytest

from ecan_core.audio.waveform import Waveform

RATE = 16_000
TIMES = np.arange(RATE) / RATE
SOUNDS = {
    "a pure tone": np.sin(2 * np.pi * 220 * TIMES),
    "noise": np.random.default_rng(0).normal(size=RATE),
    "a voice of four harmonics": sum(np.sin(2 * np.pi * 120 * k * TIMES + k) / k for k in range(1, 5)),
}


def waveform(samples) -> Waveform:
    return Waveform(samples=samples.astype(np.float32), sample_rate=RATE)


@pytest.mark.parametrize("name", SOUNDS)
def test_what_swings_freely_is_not_clipped_at_any_level(name):
    assert not any(waveform(gain * SOUNDS[name] / np.abs(SOUNDS[name]).max()).is_clipped for gain in (0.01, 0.5, 1.0))


@pytest.mark.parametrize("name", SOUNDS)
def test_what_hits_the_ceiling_is_clipped_also_when_it_was_made_softer_since(name):
    clipped = np.clip(2 * SOUNDS[name] / np.abs(SOUNDS[name]).max(), -1, 1)
    assert waveform(clipped).is_clipped
    assert waveform(0.1 * clipped).is_clipped
