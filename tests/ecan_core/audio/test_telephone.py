import io

import numpy as np
import pytest
import soundfile

from ecan_core.audio.frontend import FRONT_ENDS
from ecan_core.audio.telephone import TelephoneFrontEnd, companded, telephone
from ecan_core.audio.waveform import Waveform
from tests.ecan_core.audio.sounds import syllables

STATISTICS = FRONT_ENDS["stats-v1"]


def rms(sound: Waveform) -> float:
    return float(np.sqrt(np.square(sound.samples[1600:-1600]).mean()))


@pytest.mark.parametrize(("hertz", "passes"), [(80, False), (1000, True), (3000, True), (6000, False)])
def test_the_band_of_a_telephone_passes_and_the_rest_does_not(hertz, passes):
    tone = Waveform(
        samples=(0.5 * np.sin(2 * np.pi * hertz * np.arange(16_000) / 16_000)).astype(np.float32), sample_rate=16_000
    )
    heard = telephone(tone)
    assert (heard.sample_rate, len(heard.samples)) == (16_000, 16_000)
    assert (rms(heard) > 0.9 * rms(tone)) == passes
    assert passes or rms(heard) < 0.1 * rms(tone)


def test_the_steps_are_as_fine_as_those_of_the_codec():
    samples = (0.3 * np.random.default_rng(0).normal(size=8000)).clip(-1, 1).astype(np.float32)
    file = io.BytesIO()
    soundfile.write(file, samples, 8000, format="WAV", subtype="ULAW")
    coded, _ = soundfile.read(io.BytesIO(file.getvalue()), dtype="float32")
    ours, codec = (float(np.square(heard - samples).mean()) for heard in (companded(samples), coded))
    assert ours == pytest.approx(codec, rel=0.3)


def test_features_over_the_telephone_are_others_and_are_kept_apart():
    sound = Waveform(samples=syllables().astype(np.float32), sample_rate=16_000)
    over = TelephoneFrontEnd(STATISTICS)
    assert over.dim == STATISTICS.dim
    assert over.feature_names == STATISTICS.feature_names
    assert over.fingerprint != STATISTICS.fingerprint
    assert not np.allclose(over.compute(sound), STATISTICS.compute(sound))
    assert np.array_equal(over.compute(sound), STATISTICS.compute(telephone(sound)))
