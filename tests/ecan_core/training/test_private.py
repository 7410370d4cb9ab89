"""Private training against its slow twin, one gradient after the other."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from ecan_core.data.inputs import inputs_of
from ecan_core.errors import SettingsError
from ecan_core.model.architectures import ARCHITECTURES, build_network
from ecan_core.model.predict import run
from ecan_core.model.weights import to_arrays
from ecan_core.training.private import (
    PrivateSettings,
    clipped_sums,
    gradient_lengths,
    hide_first_weights,
    train_private,
)

N, S = 24, 7
LABELS = torch.arange(N) % 3
SPEAKERS = torch.arange(N) % 5


def network(normalization: str = "speaker"):
    return build_network(ARCHITECTURES["mlp"], input_dim=S, num_classes=3, normalization=normalization, seed=0).eval()


def inputs(seed: int = 0):
    values = np.random.default_rng(seed).normal(size=(N, S)).astype(np.float32)
    values[:, :3] += 3 * np.eye(3, dtype=np.float32)[LABELS.numpy()]
    return inputs_of(list(values))


def codes_of(net, given):
    with torch.no_grad():
        return net.encoder(given.batch(torch.arange(N)))


def own_gradient(net, codes, rows):
    """The gradient of some utterances' summed loss, written down whole."""
    learned = [*net.bottleneck.parameters(), *net.head.parameters()]
    embeddings = functional.normalize(net.bottleneck(codes[rows]), dim=1)
    loss = functional.cross_entropy(net.head(embeddings), LABELS[rows], reduction="sum")
    return torch.autograd.grad(loss, learned)


def length_of(gradient):
    return torch.cat([one.flatten() for one in gradient]).norm()


def test_lengths_are_those_of_gradients_that_are_written_down():
    net = network()
    codes = codes_of(net, inputs())
    slow = torch.stack([length_of(own_gradient(net, codes, torch.tensor([row]))) for row in range(N)])
    assert torch.allclose(gradient_lengths(net, codes, LABELS), slow, rtol=1e-4)


@pytest.mark.parametrize("clip", [0.5, 4.0, 1e6])
@pytest.mark.parametrize("unit", ["utterance", "speaker"])
def test_sums_are_those_of_gradients_that_are_cut_one_by_one(clip, unit):
    net = network()
    codes = codes_of(net, inputs())
    speakers = SPEAKERS if unit == "speaker" else None
    groups = [torch.nonzero(one == SPEAKERS).flatten() for one in range(5)] if unit == "speaker" else None
    expected = None
    for rows in groups or [torch.tensor([row]) for row in range(N)]:
        gradient = own_gradient(net, codes, rows)
        cut = [one * min(1.0, clip / float(length_of(gradient))) for one in gradient]
        expected = cut if expected is None else [a + b for a, b in zip(expected, cut, strict=True)]
    for fast, slow in zip(clipped_sums(net, codes, LABELS, clip, speakers=speakers), expected, strict=True):
        assert torch.allclose(fast, slow, atol=1e-4)


@pytest.mark.parametrize("unit", ["utterance", "speaker"])
def test_no_unit_moves_a_sum_by_more_than_the_clip(unit):
    net = network()
    codes = 50 * codes_of(net, inputs())
    keep = SPEAKERS != 0 if unit == "speaker" else torch.arange(N) != 0
    speakers = SPEAKERS if unit == "speaker" else None
    both = clipped_sums(net, codes, LABELS, 0.3, speakers=speakers)
    without = clipped_sums(net, codes[keep], LABELS[keep], 0.3, speakers=None if speakers is None else speakers[keep])
    moved = length_of([a - b for a, b in zip(both, without, strict=True)])
    assert float(moved) <= 0.3 + 1e-4


def test_little_noise_learns_and_much_noise_does_not():
    right = []
    for noise in (0.01, 500.0):
        net = network()
        train_private(net, inputs(), LABELS, PrivateSettings(noise_multiplier=noise), noise_key=5)
        right.append(float((run(net, inputs(1)).logits.argmax(dim=1) == LABELS).float().mean()))
    assert right[0] > 0.85
    assert right[1] < 0.7


def test_the_encoder_stays_as_it_was_drawn_and_the_rest_follows_the_key():
    trained = []
    for key in (1, 1, 2):
        net = network()
        train_private(net, inputs(), LABELS, PrivateSettings(noise_multiplier=1.0), noise_key=key)
        trained.append(to_arrays(net))
    assert np.array_equal(trained[0]["encoder.0.weight"], to_arrays(network())["encoder.0.weight"])
    assert all(np.array_equal(trained[0][name], trained[1][name]) for name in trained[0])
    assert not np.array_equal(trained[0]["head.bias"], trained[2]["head.bias"])


def test_a_network_with_statistics_of_the_corpus_is_refused():
    with pytest.raises(SettingsError, match="normalize by corpus or speaker"):
        train_private(network("none"), inputs(), LABELS, PrivateSettings(noise_multiplier=1.0), noise_key=0)


def test_speakers_who_are_not_known_cannot_be_protected():
    settings = PrivateSettings(noise_multiplier=1.0, unit="speaker")
    for speakers in (None, SPEAKERS - 1):
        with pytest.raises(SettingsError, match="name every utterance's speaker"):
            train_private(network(), inputs(), LABELS, settings, noise_key=0, speakers=speakers)


def test_the_first_weights_follow_the_key_and_are_not_those_of_the_seed():
    drawn, nets = to_arrays(network()), []
    for key in (1, 1, 2):
        net = network()
        hide_first_weights(net, key)
        nets.append(to_arrays(net))
    for name in ("encoder.0.weight", "bottleneck.weight"):
        assert np.array_equal(nets[0][name], nets[1][name])
        for other in (drawn[name], nets[2][name]):
            assert (nets[0][name] == other).mean() < 0.05
        assert np.array_equal(np.sort(np.abs(nets[0][name]), axis=None), np.sort(np.abs(drawn[name]), axis=None))
