import numpy as np
import pytest
import torch

from ecan_core.audio.frontend import FRONT_ENDS
from ecan_core.audio.waveform import Waveform
from ecan_core.data.cache import Extracted, FeatureCache
from ecan_core.data.features import feature_key
from ecan_core.encoders import whisper
from ecan_core.encoders.front_end import WhisperFrontEnd, load_whisper
from ecan_core.errors import ModelError
from ecan_core.model.architectures import ARCHITECTURES
from ecan_core.utterance import Utterance
from protocol.bundle.architecture import layers
from tests.ecan_core.audio.sounds import syllables
from tests.ecan_core.encoders.small import random_whisper, write_weights

SOUND = Waveform(samples=syllables(), sample_rate=16_000)


@pytest.fixture
def front_end(tmp_path):
    return front_end_at(tmp_path / "file", seed=0)


def front_end_at(path, seed):
    load_whisper.cache_clear()
    return WhisperFrontEnd(path=path, encoder_sha256=write_weights(path, dict(random_whisper(seed).weights)))


def test_the_statistics_come_first_and_the_blocks_after_them(front_end):
    features = front_end.compute(SOUND)
    statistics = FRONT_ENDS["stats-v1"].compute(SOUND)
    assert features.shape == (front_end.dim,) == (1191,)
    np.testing.assert_array_equal(features[:423], statistics)
    encoder = load_whisper(front_end.path, front_end.encoder_sha256)
    np.testing.assert_array_equal(features[423:], encoder.embed([SOUND.samples])[0])
    assert len(set(front_end.feature_names)) == front_end.dim


def test_both_packages_give_its_network_the_same_inputs(front_end):
    assert layers(ARCHITECTURES["mlp-whisper"].name, 5)[0].inputs == front_end.dim
    assert ARCHITECTURES["mlp-whisper"].front_end == front_end.name


def test_another_encoder_is_another_front_end_and_another_place_is_not(front_end, tmp_path):
    other = front_end_at(tmp_path / "other", seed=1)
    moved = WhisperFrontEnd(path=tmp_path / "elsewhere", encoder_sha256=front_end.encoder_sha256)
    assert other.identity != front_end.identity == moved.identity


def test_the_cache_never_serves_another_encoders_numbers(front_end, tmp_path):
    utterance = Utterance(id="one", path=tmp_path / "one.wav")
    key = feature_key("0" * 64, utterance, front_end)
    other = front_end_at(tmp_path / "other", seed=1)
    with FeatureCache(tmp_path / "cache") as cache:
        cache.store(key, Extracted(front_end.compute(SOUND), 1.0))
        assert cache.load(feature_key("0" * 64, utterance, front_end)) is not None
        assert cache.load(feature_key("0" * 64, utterance, other)) is None


def test_a_file_that_was_exchanged_is_refused(front_end, tmp_path):
    write_weights(tmp_path / "file", dict(random_whisper(3).weights))
    with pytest.raises(ModelError, match="not the one that its name says"):
        front_end.compute(SOUND)


def test_threads_are_given_back(front_end):
    before = torch.get_num_threads()
    front_end.compute(SOUND)
    assert torch.get_num_threads() == before
    assert whisper.DIM == 768
