import numpy as np
import pytest

from ecan_core.audio.statistics import statistic_names, utterance_statistics
from tests.ecan_core.audio.sounds import RATE, noise, pulse_train, syllables, times, tone


def click(seconds=1.0):
    samples = np.zeros(int(seconds * RATE), np.float32)
    samples[len(samples) // 2] = 1
    return samples


def square(seconds=1.0):
    return np.sign(tone(97, seconds))


STRANGE = {
    "a tenth of a second": noise(0.1),
    "a tenth of a second of voice": pulse_train(200, 0.1),
    "a pure tone": tone(200),
    "a high tone": tone(5000),
    "a tone above every formant": tone(7800),
    "hum below speech": tone(20),
    "white noise": noise(1.0),
    "one click": click(),
    "a click at the edge": np.roll(click(), RATE // 2 - 1),
    "clipped": square(),
    "speech in digital silence": np.concatenate([click(0.5) * 0, syllables(), click(0.5) * 0]),
    "almost silent": (2e-4 * noise(0.5)).astype(np.float32),
    "offset": syllables() + np.float32(0.5),
    "thirty seconds": np.tile(syllables(), 15),
}


@pytest.mark.parametrize("name", STRANGE)
def test_every_statistic_of_any_sound_is_finite(name):
    statistics = utterance_statistics(STRANGE[name])
    assert [key for key, value in statistics.items() if not np.isfinite(value)] == []


@pytest.mark.parametrize("name", STRANGE)
def test_every_sound_has_the_same_statistics(name):
    assert tuple(utterance_statistics(STRANGE[name])) == statistic_names()


@pytest.mark.parametrize("gain", [0.01, 0.25, 3.7])
def test_the_level_of_the_recording_does_not_matter(gain):
    plain = utterance_statistics(syllables())
    louder = utterance_statistics((gain * syllables()).astype(np.float32))
    for name, value in plain.items():
        assert louder[name] == pytest.approx(value, rel=1e-2, abs=1e-2), name


def test_a_constant_offset_does_not_matter():
    plain = utterance_statistics(syllables())
    offset = utterance_statistics(syllables() + np.float32(0.2))
    for name, value in plain.items():
        assert offset[name] == pytest.approx(value, rel=2e-2, abs=2e-2), name


def test_silence_around_speech_changes_little():
    plain = utterance_statistics(syllables())
    silence = np.zeros(RATE, np.float32)
    padded = utterance_statistics(np.concatenate([silence, syllables(), silence]))
    for name in (
        "band.mean.03",
        "cepstrum.std.02",
        "pitch.q50",
        "tilt.alpha.mean",
        "formant.1.q50",
        "duration",
    ):
        assert padded[name] == pytest.approx(plain[name], rel=0.05, abs=0.1), name


def test_pitch_is_in_semitones_above_100_hz():
    statistics = utterance_statistics(pulse_train(200))
    assert statistics["pitch.q50"] == pytest.approx(12, abs=0.05)
    assert statistics["pitch.range"] == pytest.approx(0, abs=0.1)
    assert statistics["pitch.hz.mean"] == pytest.approx(200, rel=0.01)


def test_rising_and_falling_melodies_are_told_apart():
    def glide(octaves):
        f0 = 150 * 2 ** (octaves * times(1.0))
        return np.cos(2 * np.pi * np.cumsum(f0) / RATE).astype(np.float32)

    rising, falling = (utterance_statistics(glide(octaves)) for octaves in (0.5, -0.5))
    assert rising["movement.rise.mean"] == pytest.approx(6, rel=0.05)
    assert falling["movement.rise.mean"] == pytest.approx(-6, rel=0.05)
    assert rising["pitch.final"] > 0 > falling["pitch.final"]
    assert rising["pitch.course.00"] > 0 > falling["pitch.course.00"]


def test_noise_lowers_the_measures_of_a_clear_voice():
    clear = pulse_train(150)
    hoarse = (clear + noise(1.0) / 0.1 * clear.std() * 0.5).astype(np.float32)
    before, after = utterance_statistics(clear), utterance_statistics(hoarse)
    for name in ("hnr.mean", "cpp.mean"):
        assert after[name] < before[name], name
    assert after["jitter.mean"] > before["jitter.mean"]
    assert after["shimmer.mean"] > before["shimmer.mean"]


def test_formants_are_found_where_the_resonances_are():
    import torch

    from ecan_core.runtime.torchaudio_compat import functional

    sound = torch.from_numpy(pulse_train(110))
    for center in (600.0, 1500.0, 2600.0):
        radius, angle = np.exp(-np.pi * 80 / RATE), 2 * np.pi * center / RATE
        poles = torch.tensor([1.0, -2 * radius * np.cos(angle), radius**2], dtype=torch.float32)
        gain = torch.tensor([1.0, 0.0, 0.0])
        sound = functional.lfilter(sound, poles, gain, clamp=False)
    statistics = utterance_statistics(sound.numpy())
    for number, center in ((1, 600), (2, 1500), (3, 2600)):
        assert statistics[f"formant.{number}.q50"] == pytest.approx(center, rel=0.08)


def test_loudness_that_goes_up_and_down_five_times_a_second_is_modulated_at_five():
    t = times(2.0)
    sound = (noise(2.0) * (1.05 + np.cos(2 * np.pi * 5 * t))).astype(np.float32)
    statistics = utterance_statistics(sound)
    shares = [statistics[f"modulation.{band:02d}"] for band in range(6)]
    assert np.argmax(shares) == 2  # 4 to 6 Hz
    assert sum(shares) == pytest.approx(1, abs=1e-3)
    assert statistics["syllable.rate"] == pytest.approx(5, abs=0.6)


def test_a_trembling_voice_is_rougher_than_a_steady_one():
    steady = pulse_train(220)
    trembling = (steady * (1 + 0.6 * np.cos(2 * np.pi * 70 * times(1.0)))).astype(np.float32)
    before, after = utterance_statistics(steady), utterance_statistics(trembling)
    assert after["roughness.55.mean"] > before["roughness.55.mean"] + 1


def test_pauses_are_measured():
    silence = np.zeros(RATE // 2, np.float32)
    statistics = utterance_statistics(np.concatenate([noise(1.0), silence, noise(1.0)]))
    assert statistics["pause.longest"] == pytest.approx(0.5, abs=0.05)
    assert statistics["pause.rate"] == pytest.approx(1 / 2.5, rel=0.02)
    assert statistics["duration"] == pytest.approx(np.log(2.5), abs=0.01)
