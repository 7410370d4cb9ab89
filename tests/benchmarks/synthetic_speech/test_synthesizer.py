from dataclasses import replace

import numpy as np
import pytest

from benchmarks.synthetic_speech.synthesizer import FRAME_S, SAMPLE_RATE, Articulation, Floats, synthesize

NUM_FRAMES = 100


def still(**changes: object) -> Articulation:
    """A steady vowel of one second."""
    vowel = Articulation(
        pitch_hz=np.full(NUM_FRAMES, 120.0),
        voicing=np.ones(NUM_FRAMES),
        breath=np.zeros(NUM_FRAMES),
        friction=np.zeros(NUM_FRAMES),
        friction_hz=np.full(NUM_FRAMES, 4500.0),
        formants_hz=np.tile([700.0, 1200.0, 2500.0, 3400.0, 4400.0], (NUM_FRAMES, 1)),
        bandwidths_hz=np.tile([80.0, 100.0, 140.0, 220.0, 320.0], (NUM_FRAMES, 1)),
        brightness_hz=np.full(NUM_FRAMES, 2000.0),
        jitter=0.0,
        shimmer=0.0,
    )
    return replace(vowel, **changes)  # type: ignore[arg-type]


def speak(articulation: Articulation) -> Floats:
    return synthesize(articulation, np.random.default_rng(0))


def spectrum_db(samples: Floats) -> Floats:
    """Power per Hz in the middle half second."""
    middle = samples[len(samples) // 4 : len(samples) // 4 + SAMPLE_RATE // 2]
    power = np.abs(np.fft.rfft(middle * np.hanning(len(middle)))) ** 2
    return np.asarray(10 * np.log10(power + 1e-12))


def band_db(samples: Floats, low_hz: float, high_hz: float) -> float:
    levels = spectrum_db(samples)
    return float(np.mean(levels[int(low_hz / 2) : int(high_hz / 2)]))


def test_a_vowel_has_the_length_of_its_frames_and_a_usual_level() -> None:
    samples = speak(still())
    assert len(samples) == NUM_FRAMES * FRAME_S * SAMPLE_RATE
    assert 0.05 < samples.std() < 0.2
    assert np.isfinite(samples).all()


def test_the_energy_lies_on_the_harmonics_of_the_pitch() -> None:
    levels = spectrum_db(speak(still()))
    on, between = levels[[60, 120, 180, 240, 300]], levels[[90, 150, 210, 270]]
    assert on.min() > between.max() + 20


def test_the_formants_stand_out_of_the_spectrum() -> None:
    samples = speak(still(voicing=np.zeros(NUM_FRAMES), breath=np.ones(NUM_FRAMES)))
    assert band_db(samples, 650, 750) > band_db(samples, 300, 400) + 5
    assert band_db(samples, 1150, 1250) > band_db(samples, 1700, 1900) + 5


def test_a_brighter_voice_has_more_treble() -> None:
    dark, bright = speak(still(brightness_hz=np.full(NUM_FRAMES, 500.0))), speak(still())
    assert band_db(bright, 2400, 3600) > band_db(dark, 2400, 3600) + 5
    assert abs(band_db(bright, 100, 300) - band_db(dark, 100, 300)) < 3


def test_friction_hisses_where_it_is_told_to() -> None:
    hiss = speak(still(voicing=np.zeros(NUM_FRAMES), friction=np.ones(NUM_FRAMES)))
    assert 0.05 < hiss.std() < 0.2
    assert band_db(hiss, 4000, 5000) > band_db(hiss, 200, 1000) + 5


def test_jitter_and_breath_blur_the_harmonics() -> None:
    def clearness(articulation: Articulation) -> float:
        levels = spectrum_db(speak(articulation))
        return float(levels[[600, 660, 720]].mean() - levels[[630, 690, 750]].mean())

    clear = clearness(still())
    assert clearness(still(jitter=0.03)) < clear - 10
    assert clearness(still(breath=np.full(NUM_FRAMES, 0.1))) < clear - 10


def test_silence_stays_silent() -> None:
    assert np.abs(speak(still(voicing=np.zeros(NUM_FRAMES)))).max() == 0


def test_a_sound_ends_with_its_frames_and_rings_no_longer_than_50_ms() -> None:
    voicing = np.where(np.arange(NUM_FRAMES) < 50, 1.0, 0.0)
    samples = speak(still(voicing=voicing))
    assert np.abs(samples[: SAMPLE_RATE // 2]).max() > 0.1
    assert np.abs(samples[int(0.56 * SAMPLE_RATE) :]).max() < 1e-3


def test_the_same_articulation_sounds_the_same_for_the_same_seed() -> None:
    articulation = still(breath=np.full(NUM_FRAMES, 0.1), jitter=0.01)
    assert np.array_equal(speak(articulation), speak(articulation))
    other = synthesize(articulation, np.random.default_rng(1))
    assert not np.array_equal(speak(articulation), other)


@pytest.mark.parametrize("pitch_hz", [70.0, 400.0])
def test_the_level_hardly_depends_on_the_pitch(pitch_hz: float) -> None:
    ratio = speak(still(pitch_hz=np.full(NUM_FRAMES, pitch_hz))).std() / speak(still()).std()
    assert 0.4 < ratio < 2.5
