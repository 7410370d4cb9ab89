from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from ecan_core.encoders import whisper
from tests.ecan_core.audio.sounds import noise, syllables
from tests.ecan_core.encoders.small import random_whisper

SOUNDS = [syllables(180, seconds, seed) for seed, seconds in enumerate((1.3, 2.0, 0.7, 3.01))]


@pytest.fixture(scope="module")
def network():
    return random_whisper()


def plain_streams(network, mel):
    """The same by torch's own modules, one utterance at a time."""
    weights, streams = network.weights, []
    hidden = functional.gelu(functional.conv1d(mel[None], weights["conv1.weight"], weights["conv1.bias"], padding=1))
    hidden = functional.conv1d(hidden, weights["conv2.weight"], weights["conv2.bias"], stride=2, padding=1)
    hidden = functional.gelu(hidden).transpose(1, 2)
    hidden = hidden + weights["embed_positions.weight"][: hidden.shape[1]]
    for block in range(whisper.BLOCKS):
        layer = torch.nn.TransformerEncoderLayer(
            whisper.WIDTH, whisper.HEADS, whisper.INSIDE, 0.0, functional.gelu, batch_first=True, norm_first=True
        )
        layer.load_state_dict(of_torch(weights, f"layers.{block}."))
        with torch.no_grad():
            hidden = layer.train()(hidden)  # its fast path in evaluation has another order of sums
        streams.append(hidden[0])
    return streams


def of_torch(weights, layer):
    """A block's weights by the names of torch's module."""
    own = {name.removeprefix(layer): tensor for name, tensor in weights.items() if name.startswith(layer)}
    no_bias = torch.zeros(whisper.WIDTH)
    biases = [own["self_attn.q_proj.bias"], no_bias, own["self_attn.v_proj.bias"]]
    return {
        "self_attn.in_proj_weight": torch.cat([own[f"self_attn.{part}_proj.weight"] for part in "qkv"]),
        "self_attn.in_proj_bias": torch.cat(biases),
        "norm1.weight": own["self_attn_layer_norm.weight"],
        "norm1.bias": own["self_attn_layer_norm.bias"],
        "norm2.weight": own["final_layer_norm.weight"],
        "norm2.bias": own["final_layer_norm.bias"],
        **{f"linear{which}.{part}": own[f"fc{which}.{part}"] for which in "12" for part in ("weight", "bias")},
        **{f"self_attn.out_proj.{part}": own[f"self_attn.out_proj.{part}"] for part in ("weight", "bias")},
    }


def test_the_blocks_are_those_of_a_pre_norm_transformer(network):
    mel = whisper.log_mel(SOUNDS[1])
    with torch.inference_mode():
        ours = network.streams([mel])
    for stream, plain in zip(ours, plain_streams(network, mel), strict=True):
        torch.testing.assert_close(stream[0], plain, atol=2e-4, rtol=1e-4)


def test_a_batch_gives_what_each_utterance_gives_alone(network):
    together = network.embed(SOUNDS)
    alone = np.concatenate([network.embed([sound]) for sound in SOUNDS])
    assert together.shape == (len(SOUNDS), whisper.DIM)
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_level_and_offset_do_not_matter(network):
    expected = network.embed([SOUNDS[0]])
    np.testing.assert_allclose(network.embed([0.01 * SOUNDS[0] + 0.2]), expected, atol=1e-2)


def test_only_the_end_of_a_long_utterance_is_heard(network):
    end = syllables(200, whisper.MAX_S, seed=5)
    np.testing.assert_array_equal(network.embed([np.concatenate([noise(3.0), end])]), network.embed([end]))


@pytest.mark.parametrize("length", [0, 1, 159, 400, 801])
def test_the_shortest_sound_has_finite_numbers(network, length):
    assert np.isfinite(network.embed([noise(1.0)[:length] if length else np.zeros(1, np.float32)])).all()


def test_frames_in_which_nobody_speaks_do_not_count():
    sound = np.concatenate([syllables(180, 1.0), 1e-4 * noise(1.0)])
    active = whisper.frames_with_speech(sound)
    assert len(active) == 100
    assert active[:50].mean() > 0.5
    assert not active[51:].any()


def test_log_mel_is_the_one_of_the_public_recipe():
    """Torchaudio's filters and a plain loop over frames."""
    from ecan_core.runtime.torchaudio_compat import functional as audio

    sound = SOUNDS[2]
    filters = audio.melscale_fbanks(201, 0.0, 8000.0, 80, 16000, norm="slaney", mel_scale="slaney")
    padded = np.pad(sound.astype(np.float64), 200, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    count = len(sound) // 160
    power = [np.abs(np.fft.rfft(window * padded[160 * frame : 160 * frame + 400])) ** 2 for frame in range(count)]
    mel = np.log10(np.maximum(np.array(power) @ filters.numpy(), 1e-10))
    expected = (np.maximum(mel, mel.max() - 8) + 4) / 4
    np.testing.assert_allclose(whisper.log_mel(sound).numpy(), expected.T, atol=2e-4)


def test_rounded_products_move_the_numbers_a_little_and_nothing_else(network):
    exact, rounded = network.embed(SOUNDS), replace(network, is_rounded=True).embed(SOUNDS)
    moved, between = np.abs(rounded - exact).mean(), np.abs(exact - exact.mean(axis=0)).mean()
    assert 0 < moved < 0.1 * between
    assert rounded.dtype == exact.dtype
