import numpy as np
import pytest

from ecan_core.audio.prosody import track_prosody
from tests.ecan_core.audio.sounds import RATE, noise, pulse_train, times, tone

INNER = slice(5, -5)


def share_within(f0_hz, expected, tolerance=0.02):
    return np.mean(np.abs(f0_hz / expected - 1) < tolerance)


@pytest.mark.parametrize("f0_hz", [62, 80, 110, 175, 233.3, 330, 440, 560])
def test_the_pitch_of_a_tone_is_found_everywhere(f0_hz):
    assert share_within(track_prosody(tone(f0_hz)).f0_hz[INNER], f0_hz, 0.01) == 1


@pytest.mark.parametrize("f0_hz", [62, 80, 110, 175, 233.3, 330, 440, 560])
def test_the_pitch_of_a_pulse_train_in_noise_is_found(f0_hz):
    pulses = pulse_train(f0_hz)
    hiss = noise(1.0) / 0.1
    noisy = pulses + hiss * pulses.std() * 10 ** (-10 / 20)
    prosody = track_prosody(noisy.astype(np.float32))
    assert share_within(prosody.f0_hz[INNER], f0_hz) > 0.97


def test_the_fundamental_need_not_be_there():
    t = times(1.0)
    telephone = sum(np.cos(2 * np.pi * 120 * k * t) for k in range(4, 20)).astype(np.float32) / 20
    assert share_within(track_prosody(telephone).f0_hz[INNER], 120) > 0.97


def test_a_gliding_pitch_is_followed():
    f0 = 120 * 2 ** times(1.0)
    glide = np.cos(2 * np.pi * np.cumsum(f0) / RATE).astype(np.float32)
    expected = f0[80::160][: len(track_prosody(glide).f0_hz)]
    assert share_within(track_prosody(glide).f0_hz[INNER], expected[INNER]) == 1


def test_white_noise_and_silence_have_no_pitch():
    assert track_prosody(noise(1.0)).voiced.mean() < 0.1
    assert not track_prosody(np.zeros(RATE, np.float32)).voiced.any()


def test_voicing_starts_and_stops_with_the_voice():
    sound = np.concatenate([0.01 * noise(0.5), 0.5 * pulse_train(150, 0.5), 0.01 * noise(0.5)])
    voiced = track_prosody(sound.astype(np.float32)).voiced
    assert not voiced[:45].any()
    assert voiced[53:97].all()
    assert not voiced[105:].any()


@pytest.mark.parametrize("snr_db", [0, 10, 20])
def test_harmonicity_is_the_share_of_harmonic_energy(snr_db):
    signal = tone(200)
    hiss = noise(1.0) / 0.1 * signal.std() * 10 ** (-snr_db / 20)
    expected = 1 / (1 + 10 ** (-snr_db / 10))
    measured = track_prosody((signal + hiss).astype(np.float32)).harmonicity[INNER].mean()
    assert measured == pytest.approx(expected, abs=0.05)


def test_energy_is_in_decibels():
    loud, soft = (track_prosody(gain * noise(1.0)).energy_db for gain in (1.0, 0.1))
    np.testing.assert_allclose(loud - soft, 20, atol=0.01)
