"""The front end against its slow twin: the same statistics up to rounding."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from ecan_core.audio.decode import decode, resample
from ecan_core.audio.logmel import SAMPLE_RATE
from ecan_core.audio.prosody import _best_states, track_prosody
from ecan_core.audio.statistics import statistic_names, utterance_statistics
from ecan_core.data.folders import AUDIO_SUFFIXES
from tests.ecan_core.audio import twin_prosody, twin_statistics
from tests.ecan_core.audio.sounds import noise, pulse_train, syllables, tone
from tests.support.speech import synthesize

CORPORA = Path(__file__).parents[4] / "shared" / "corpora"


def deviations(files):
    """How far fast and slow statistics lie apart, in deviations of the statistic over the files, [files, S]."""
    sounds = [resample(decode(file), SAMPLE_RATE).samples for file in files]
    fast, slow = (
        np.array([list(measure(samples).values()) for samples in sounds])
        for measure in (utterance_statistics, twin_statistics.utterance_statistics)
    )
    return np.abs(fast - slow) / np.maximum(slow.std(axis=0), 1e-6)


def assert_agree(apart):
    """Rounding decides between two peaks that are as good as equal, so that now and then a frame flips."""
    worst = apart.max(axis=0)
    named = {statistic_names()[column]: float(worst[column]) for column in np.argsort(worst)[-5:]}
    assert np.mean(apart > 1e-4) < 2e-3, named
    assert worst.max() < 0.05, named


def test_statistics_agree_with_their_slow_twin_on_synthetic_speech(tmp_path):
    synthesize(tmp_path, "harbor", speakers=2, utterances=2)
    files = sorted(tmp_path.rglob("*.wav"))
    assert len(files) >= 12
    assert_agree(deviations(files[:24]))


@pytest.mark.corpus
@pytest.mark.parametrize("corpus", ["emodb", "ravdess", "nemo"])
def test_statistics_agree_with_their_slow_twin_on_real_speech(corpus):
    if not CORPORA.is_dir():
        pytest.skip("the real corpora are not beside the project (../shared/corpora)")
    files = sorted(file for file in (CORPORA / corpus).rglob("*") if file.suffix in AUDIO_SUFFIXES)
    assert_agree(deviations(islice(files, 0, None, len(files) // 12)))


@pytest.mark.parametrize("sound", [noise(0.1), noise(1.0), tone(200), pulse_train(110), syllables(), noise(1.0) * 0])
def test_prosody_agrees_with_its_slow_twin(sound):
    fast, slow = track_prosody(sound), twin_prosody.track_prosody(sound)
    np.testing.assert_allclose(fast.f0_hz, slow.f0_hz, rtol=1e-5)
    np.testing.assert_allclose(fast.harmonicity, slow.harmonicity, atol=1e-5)
    np.testing.assert_allclose(fast.energy_db, slow.energy_db, atol=1e-3)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 16, 101])
def test_the_best_states_are_those_of_a_search_frame_by_frame(count):
    steps = np.random.default_rng(count).normal(size=(5, 5, count))
    ways = np.zeros((5, 1)), np.arange(5)[:, None]
    for t in range(count):
        gains = ways[0] + steps[:, :, t]
        before = gains.argmax(axis=0)
        ways = gains.max(axis=0)[:, None], np.column_stack([ways[1][before], np.arange(5)])
    assert _best_states(steps).tolist() == ways[1][ways[0].argmax()].tolist()
