import numpy as np

from ecan_core.audio.contours import Contours, runs, slopes
from tests.ecan_core.audio.sounds import RATE, noise, syllables


def test_digital_silence_around_speech_is_not_active():
    silence = np.zeros(RATE // 2, np.float32)
    contours = Contours(np.concatenate([silence, noise(1.0), silence]))
    assert (contours.span.start, contours.span.stop) == (49, 151)
    assert contours.active[contours.span].all()
    assert np.isfinite(contours.log_mel).all()


def test_energy_is_relative_to_the_loudest_frame():
    energy = Contours(np.concatenate([noise(0.5), 0.1 * noise(0.5)]).astype(np.float32)).energy_db
    assert energy.max() == 0
    assert abs(np.median(energy[:45]) - np.median(energy[55:]) - 20) < 0.5


def test_slopes_agree_with_a_slow_line_fit():
    curves = np.random.default_rng(0).normal(size=(30, 3))
    fast = slopes(curves)
    for t in range(2, 28):
        slow = np.polyfit(np.arange(-2, 3), curves[t - 2 : t + 3], 1)[0]
        np.testing.assert_allclose(fast[t], slow, atol=1e-12)


def test_runs_are_rows_of_start_and_stop():
    mask = np.array([True, False, True, True, False, False, True])
    assert runs(mask).tolist() == [[0, 1], [2, 4], [6, 7]]
    assert runs(np.zeros(4, np.bool_)).shape == (0, 2)


def test_masks_that_choose_frames_are_never_empty():
    for sound in (noise(0.5), syllables()):
        contours = Contours(sound)
        assert contours.voiced_or_active.any()
        assert contours.voiceless_or_active.any()
