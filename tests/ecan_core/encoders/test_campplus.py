import numpy as np
import pytest
import torch
from torch.nn import functional

from ecan_core.encoders import campplus
from ecan_core.runtime.torchaudio_compat import torchaudio
from tests.ecan_core.audio.sounds import noise, syllables
from tests.ecan_core.encoders.small import random_campplus


@pytest.fixture(scope="module")
def network():
    return random_campplus()


def plain_embedding(weights, frames):
    """The network as it was published: every normalization by itself, every context at every frame."""

    def norm(name, hidden):
        parts = (weights.get(f"{name}.{part}") for part in ("running_mean", "running_var", "weight", "bias"))
        return functional.batch_norm(hidden, *parts)

    def block(name, hidden, stride):
        inside = functional.conv2d(hidden, weights[f"{name}.conv1.weight"], stride=(stride, 1), padding=1)
        inside = functional.conv2d(norm(f"{name}.bn1", inside).relu(), weights[f"{name}.conv2.weight"], padding=1)
        if stride == 2:
            hidden = functional.conv2d(hidden, weights[f"{name}.shortcut.0.weight"], stride=(2, 1))
            hidden = norm(f"{name}.shortcut.1", hidden)
        return (norm(f"{name}.bn2", inside) + hidden).relu()

    def dense(name, hidden, dilation):
        inside = norm(f"{name}.nonlinear1.batchnorm", hidden).relu()
        inside = functional.conv1d(inside, weights[f"{name}.linear1.weight"])
        inside = norm(f"{name}.nonlinear2.batchnorm", inside).relu()
        cam = f"{name}.cam_layer"
        local = functional.conv1d(inside, weights[f"{cam}.linear_local.weight"], padding=dilation, dilation=dilation)
        segments = [inside[..., at : at + 100] for at in range(0, inside.shape[-1], 100)]
        means = torch.cat([part.mean(dim=-1, keepdim=True).expand_as(part) for part in segments], dim=-1)
        context = inside.mean(dim=-1, keepdim=True) + means
        context = functional.conv1d(context, weights[f"{cam}.linear1.weight"], weights[f"{cam}.linear1.bias"]).relu()
        context = functional.conv1d(context, weights[f"{cam}.linear2.weight"], weights[f"{cam}.linear2.bias"])
        return torch.cat([hidden, local * context.sigmoid()], dim=1)

    hidden = functional.conv2d(frames.T[None, None], weights["head.conv1.weight"], padding=1)
    hidden = norm("head.bn1", hidden).relu()
    for name, stride in (("layer1.0", 2), ("layer1.1", 1), ("layer2.0", 2), ("layer2.1", 1)):
        hidden = block(f"head.{name}", hidden, stride)
    hidden = functional.conv2d(hidden, weights["head.conv2.weight"], stride=(2, 1), padding=1)
    hidden = norm("head.bn2", hidden).relu().flatten(1, 2)
    hidden = functional.conv1d(hidden, weights["xvector.tdnn.linear.weight"], stride=2, padding=2)
    hidden = norm("xvector.tdnn.nonlinear.batchnorm", hidden).relu()
    for number, (layers, dilation) in enumerate(((12, 1), (24, 2), (16, 2)), start=1):
        for layer in range(1, layers + 1):
            hidden = dense(f"xvector.block{number}.tdnnd{layer}", hidden, dilation)
        hidden = norm(f"xvector.transit{number}.nonlinear.batchnorm", hidden).relu()
        hidden = functional.conv1d(hidden, weights[f"xvector.transit{number}.linear.weight"])
    hidden = norm("xvector.out_nonlinear.batchnorm", hidden).relu()
    pooled = torch.cat([hidden.mean(dim=-1), hidden.std(dim=-1)], dim=1)
    return norm("xvector.dense.nonlinear.batchnorm", pooled @ weights["xvector.dense.linear.weight"][..., 0].T)[0]


@pytest.mark.parametrize("seconds", [0.3, 1.0, 2.7])
def test_what_is_folded_gives_what_the_published_network_gives(network, seconds):
    frames = campplus.filter_banks(syllables(180, seconds))
    with torch.inference_mode():
        ours, plain = network.embed_frames(frames[None])[0], plain_embedding(network.weights, frames)
    torch.testing.assert_close(ours, plain, atol=1e-3 * float(plain.abs().max()), rtol=1e-3)


def test_filter_banks_are_kaldis():
    sound = syllables(150, 1.5)
    plain = torchaudio.compliance.kaldi.fbank(
        torch.from_numpy(sound)[None], num_mel_bins=80, sample_frequency=16000, dither=0.0
    )
    torch.testing.assert_close(campplus.filter_banks(sound), plain - plain.mean(dim=0), atol=2e-3, rtol=1e-4)


def test_an_embedding_has_unit_length_and_two_sounds_have_two(network):
    one, other = network.embed(syllables(120, 2.0)), network.embed(noise(2.0))
    assert one.shape == (campplus.DIM,)
    np.testing.assert_allclose([np.linalg.norm(one), np.linalg.norm(other)], 1, atol=1e-5)
    assert one @ other < 0.9999


@pytest.mark.parametrize("length", [0, 1, 400, 2000])
def test_the_shortest_sound_has_an_embedding(network, length):
    assert np.isfinite(network.embed(noise(1.0)[:length])).all()
