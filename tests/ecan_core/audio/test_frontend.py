import numpy as np
import pytest

from ecan_core.audio.frontend import FRONT_ENDS
from ecan_core.audio.waveform import Waveform
from tests.ecan_core.audio.sounds import noise, pulse_train, syllables


def sound(samples):
    return Waveform(samples=np.asarray(samples, np.float32), sample_rate=16_000)


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_every_front_end_names_each_of_its_numbers(name):
    front_end = FRONT_ENDS[name]
    assert front_end.name == name
    assert len(front_end.feature_names) == len(set(front_end.feature_names)) == front_end.dim
    assert front_end.compute(sound(syllables())).shape[-1] == front_end.dim


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_the_same_sound_gives_the_same_numbers(name):
    first, second = (FRONT_ENDS[name].compute(sound(syllables())) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_the_fingerprint_is_stable_and_its_own(name):
    front_end = FRONT_ENDS[name]
    assert front_end.fingerprint == type(front_end)().fingerprint
    assert [other for other in FRONT_ENDS.values() if other.fingerprint == front_end.fingerprint] == [front_end]


def test_statistics_are_one_float32_vector():
    features = FRONT_ENDS["stats-v1"].compute(sound(syllables()))
    assert (features.dtype, features.ndim) == (np.float32, 1)


@pytest.mark.parametrize("seconds", [0.1, 1.0, 2.345])
def test_frames_come_every_ten_milliseconds(seconds):
    features = FRONT_ENDS["frames-v1"].compute(sound(noise(seconds)))
    assert features.dtype == np.float16
    assert features.shape == (round(seconds * 100), 68)
    assert np.isfinite(features).all()


def test_frames_do_not_depend_on_level():
    front_end = FRONT_ENDS["frames-v1"]
    plain, soft = (front_end.compute(sound(gain * syllables())) for gain in (1.0, 0.01))
    np.testing.assert_allclose(plain.astype(np.float32), soft.astype(np.float32), atol=0.02)


def test_pitch_is_drawn_through_voiceless_stretches_in_octaves():
    front_end = FRONT_ENDS["frames-v1"]
    low, gap, high = 0.5 * pulse_train(150, 0.5), 1e-3 * noise(0.5), 0.5 * pulse_train(300, 0.5)
    features = front_end.compute(sound(np.concatenate([low, gap, high]))).astype(np.float32)
    log_f0 = features[:, front_end.feature_names.index("log_f0")]
    voicing = features[:, front_end.feature_names.index("voicing")]
    assert log_f0[120] - log_f0[30] == pytest.approx(1, abs=0.02)
    assert log_f0[75] == pytest.approx((log_f0[30] + log_f0[120]) / 2, abs=0.05)
    assert (voicing[30], voicing[75], voicing[120]) == (1, 0, 1)


def test_a_sound_without_voice_has_a_flat_pitch_column():
    front_end = FRONT_ENDS["frames-v1"]
    features = front_end.compute(sound(np.random.default_rng(3).normal(size=4000) * 0.1))
    assert np.isfinite(features[:, front_end.feature_names.index("log_f0")]).all()
