import pickle  # noqa: TID251
import subprocess
import sys
from hashlib import sha256

import numpy as np
import pytest
import torch

from ecan_core.audio.frontend import FRONT_ENDS
from ecan_core.audio.waveform import Waveform
from ecan_core.data.cache import Extracted, FeatureCache
from ecan_core.data.features import feature_key
from ecan_core.encoders import whisper
from ecan_core.encoders.checks import check_folder
from ecan_core.encoders.front_end import WhisperFrontEnd, front_end_named, load_selfsupervised, load_whisper
from ecan_core.errors import ModelError
from ecan_core.model.architectures import ARCHITECTURES
from ecan_core.utterance import Utterance
from protocol.bundle.architecture import layers
from protocol.encoders.canonical import canonical_bytes
from tests.ecan_core.audio.sounds import syllables
from tests.ecan_core.encoders.small import random_whisper, write_weights
from tests.support.selfsupervised import usable_encoder

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


@pytest.fixture(scope="module")
def added(tmp_path_factory):
    """The file of an added encoder: where it lies, and its hash."""
    work = tmp_path_factory.mktemp("added")
    folder = usable_encoder(work / "hub")
    parts = ((folder / "config.json").read_bytes(), None, (folder / "model.safetensors").read_bytes())
    data = canonical_bytes(*check_folder(*parts))
    (work / "file").write_bytes(data)
    return {"path": work / "file", "encoder_sha256": sha256(data).hexdigest()}


def test_the_statistics_come_first_and_the_added_encoder_after_them(added):
    front_end = front_end_named("stats-ssl-768-v1", **added)
    features = front_end.compute(SOUND)
    assert features.shape == (front_end.dim,) == (423 + 768,)
    np.testing.assert_array_equal(features[:423], FRONT_ENDS["stats-v1"].compute(SOUND))
    np.testing.assert_array_equal(features[423:], load_selfsupervised(*added.values()).embed(SOUND.samples))
    assert len(set(front_end.feature_names)) == front_end.dim


@pytest.mark.parametrize("width", [768, 1024])
def test_both_packages_give_the_network_on_an_added_encoder_the_same_inputs(width):
    arch = ARCHITECTURES[f"mlp-ssl-{width}"]
    assert layers(arch.name, 5)[0].inputs == front_end_named(arch.front_end).dim == 423 + width


def test_an_encoder_of_another_width_is_refused(added):
    with pytest.raises(ModelError, match="is 768 wide and the model reads one of width 1024; name the encoder"):
        front_end_named("stats-ssl-1024-v1", **added).compute(SOUND)


def test_the_weights_do_not_travel_with_a_front_end_and_another_process_hears_the_same(added):
    front_end = front_end_named("stats-ssl-768-v1", **added)
    data = pickle.dumps((front_end, SOUND.samples))
    assert len(data) < SOUND.samples.nbytes + 10_000
    program = (
        "import pickle, sys\n"
        "from ecan_core.audio.waveform import Waveform\n"
        "front_end, samples = pickle.load(sys.stdin.buffer)\n"
        "features = front_end.compute(Waveform(samples=samples, sample_rate=16_000))\n"
        "sys.stdout.buffer.write(features.tobytes())\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], input=data, capture_output=True, check=True)
    np.testing.assert_array_equal(np.frombuffer(done.stdout, np.float32), front_end.compute(SOUND))


def test_two_added_encoders_and_two_front_ends_have_two_identities(added):
    first = front_end_named("stats-ssl-768-v1", **added)
    others = [
        front_end_named("stats-ssl-768-v1", added["path"], "ab" * 32),
        front_end_named("stats-ssl-1024-v1", **added),
        front_end_named("stats-whisper-v1", **added),
    ]
    assert len({first.identity, *(other.identity for other in others)}) == 4
    assert (
        first.identity
        == front_end_named("stats-ssl-768-v1", added["path"].with_name("moved"), first.encoder_sha256).identity
    )
    assert len(first.fingerprint) == 64


def test_threads_are_given_back_by_an_added_encoder(added):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        front_end_named("stats-ssl-768-v1", **added).compute(SOUND)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
