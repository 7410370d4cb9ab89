"""The network that hears voices, against a slow twin of its definition."""

import numpy as np
import pytest
import torch

from ecan_core.audio import voice_network
from ecan_core.audio.voice_network import HOP, RATE, load_network, voice_scores
from ecan_core.errors import ModelError
from tests.ecan_core.audio.sounds import noise, syllables, tone


def slow_scores(samples: np.ndarray) -> list[float]:
    """One window after the other, as its authors run it."""
    weights, _ = load_network()
    cell = torch.nn.LSTMCell(128, 128)
    cell.load_state_dict({name: weights[f"lstm_cell.{name}"] for name in cell.state_dict()})
    context, state, scores = torch.zeros(64), None, []
    padded = torch.from_numpy(np.pad(samples, (0, -len(samples) % HOP)))
    with torch.no_grad():
        for chunk in padded.split(HOP):
            window = torch.cat([context, chunk])
            window = torch.cat([window, window[-65:-1].flip(0)])
            basis = weights["stft_conv.weight"][:, 0]
            parts = torch.stack([basis @ window[k * 128 : k * 128 + 256] for k in range(4)], dim=1)
            values = (parts[:129] ** 2 + parts[129:] ** 2).sqrt()
            for name, stride in (("conv1", 1), ("conv2", 2), ("conv3", 2), ("conv4", 1)):
                wide = torch.nn.functional.pad(values, (1, 1))
                places = range(0, values.shape[1], stride)
                weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
                values = torch.stack(
                    [(weight * wide[:, at : at + 3]).sum((1, 2)) + bias for at in places], dim=1
                ).relu()
            state = cell(values[:, 0][None], state)
            out = weights["final_conv.weight"][0, :, 0] @ state[0][0].relu() + weights["final_conv.bias"]
            scores.append(float(torch.sigmoid(out)))
            context = chunk[-64:]
    return scores


@pytest.mark.parametrize("length", [1, HOP, 20_000])
def test_scores_are_those_of_the_definition(length):
    sound = syllables(seconds=2.0)[:length]
    np.testing.assert_allclose(voice_scores(sound), slow_scores(sound), atol=1e-5)


def test_scores_do_not_depend_on_how_many_are_computed_at_once(monkeypatch):
    sound = syllables(seconds=3.0)
    whole = voice_scores(sound)
    monkeypatch.setattr(voice_network, "_AT_ONCE", 7)
    np.testing.assert_allclose(voice_scores(sound), whole, atol=1e-5)


def test_a_voice_is_told_from_a_tone_and_from_noise():
    assert np.median(voice_scores(syllables(seconds=2.0))) > 0.9
    for other in (tone(425, 2.0), noise(2.0), np.zeros(2 * RATE, np.float32)):
        assert voice_scores(other).max() < 0.5


def test_nothing_is_no_voice():
    assert voice_scores(np.zeros(0, np.float32)).tolist() == pytest.approx([0.0], abs=0.1)


def test_other_weights_than_the_known_ones_are_refused_with_the_remedy(monkeypatch):
    monkeypatch.setattr(voice_network, "_SHA256", "0" * 64)
    load_network.cache_clear()
    with pytest.raises(ModelError, match="pip install 'silero-vad=="):
        voice_scores(np.zeros(HOP, np.float32))
