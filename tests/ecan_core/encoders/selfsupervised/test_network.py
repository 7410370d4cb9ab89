from dataclasses import replace

import numpy as np
import pytest
import torch

from ecan_core.encoders.activity import active_frames
from ecan_core.encoders.selfsupervised.folder import tensors_kept
from ecan_core.encoders.selfsupervised.form import form_of
from ecan_core.encoders.selfsupervised.network import MAX_S, network_of
from tests.ecan_core.audio.sounds import noise, syllables
from tests.ecan_core.encoders.selfsupervised.layers import layers_of
from tests.support.selfsupervised import WIDTH, config_of, exported, random_network


def encoder_of(network, config):
    form = form_of(config)
    return network_of(form.kept, tensors_kept(form, exported(network)))


@pytest.fixture(scope="module")
def encoder():
    return encoder_of(random_network(config_of()), config_of())


@pytest.mark.parametrize("is_stable", [False, True])
@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("model_type", ["wav2vec2", "hubert", "wavlm"])
def test_what_is_kept_hears_what_the_whole_network_hears_in_two_of_its_layers(model_type, norm, is_stable):
    config = config_of(model_type, norm, is_stable)
    network = random_network(config)
    sound = np.concatenate([syllables(), 1e-4 * noise(0.5)])
    layers = layers_of(network, (sound - sound.mean()) / sound.std())
    active = active_frames(sound, 160, len(layers[0]))
    expected = (layers[1] + layers[3])[active].mean(axis=0) / 2
    heard = encoder_of(network, config).embed(sound)
    np.testing.assert_allclose(heard, expected, rtol=1e-3, atol=1e-4)
    assert heard.shape == (WIDTH,)
    assert heard.dtype == np.float32
    assert not active.all()


@pytest.mark.parametrize("does_normalize", [True, False])
def test_level_and_offset_do_not_matter(does_normalize):
    config = config_of(norm="layer", stable=True, do_normalize=does_normalize)
    encoder = encoder_of(random_network(config), config)
    loud, soft = encoder.embed(syllables()), encoder.embed(0.3 * syllables() + 0.1)
    np.testing.assert_allclose(loud, soft, rtol=0.02, atol=0.02)


def test_the_sound_is_brought_to_the_level_that_the_encoder_was_trained_on():
    configs = [config_of(norm="layer", stable=True, do_normalize=answer) for answer in (True, False)]
    first, second = (encoder_of(random_network(config), config).embed(syllables()) for config in configs)
    assert np.abs(first - second).max() > 1e-3


def test_only_the_end_of_a_long_utterance_is_heard(encoder):
    end = syllables(200, MAX_S, seed=5)
    np.testing.assert_array_equal(encoder.embed(np.concatenate([noise(3.0), end])), encoder.embed(end))


@pytest.mark.parametrize("count", [0, 1, 100, 253, 254])
def test_the_shortest_sound_and_silence_have_finite_numbers(encoder, count):
    assert np.isfinite(encoder.embed(noise(0.1)[:count])).all()
    assert np.isfinite(encoder.embed(np.zeros(count, np.float32))).all()


def test_the_same_sound_gives_the_same_numbers_whatever_was_asked_before(encoder):
    first = encoder.embed(syllables())
    encoder.embed(noise(3.0))
    np.testing.assert_array_equal(encoder.embed(syllables()), first)


def test_rounded_products_move_the_numbers_a_little_and_nothing_else(encoder):
    sounds = [syllables(120 + 40 * seed, 1.5, seed=seed) for seed in range(3)]
    exact, rounded = (
        np.stack([one.embed(sound) for sound in sounds]) for one in (encoder, replace(encoder, is_rounded=True))
    )
    moved, between = np.abs(rounded - exact).mean(), np.abs(exact - exact.mean(axis=0)).mean()
    assert 0 < moved < 0.3 * between
    assert rounded.dtype == exact.dtype == np.float32


def test_building_a_network_draws_no_random_number():
    network = random_network(config_of())
    before = torch.random.get_rng_state()
    encoder_of(network, config_of()).embed(syllables())
    assert torch.equal(before, torch.random.get_rng_state())
