"""A town where everybody speaks: what an utterance measures is an emotion plus a voice plus chance."""

from typing import NamedTuple

import numpy as np
import torch

from ecan_core.data.inputs import inputs_of
from ecan_core.model.architectures import ARCHITECTURES, build_network
from ecan_core.model.network import Network
from ecan_core.normalization.normalize import fit_normalizer
from ecan_core.training.train import TrainSettings, train

NUM_CLASSES, NUM_VOICES = 4, 3
NAMES = (*(f"cepstrum.mean.{index:02d}" for index in range(10)), *(f"rhythm.{index:02d}" for index in range(10)))
"""Voices show in the first half of the features alone, emotions in all."""


class Town(NamedTuple):
    """Features per utterance, class indices, speaker names and what each voice adds ``[V, S]``."""

    features: list[np.ndarray]
    labels: np.ndarray
    speakers: list[str]
    offsets: np.ndarray


def town(seed: int, *, count: int = 600, loudness: float = 2.5, split: bool = False) -> Town:
    """``count`` utterances; with ``split`` everybody has one name per emotion."""
    draw = np.random.default_rng(seed)
    emotions = np.random.default_rng(5).normal(0, 0.7, (NUM_CLASSES, len(NAMES)))
    offsets = loudness * draw.normal(0, 1, (NUM_VOICES, len(NAMES))) * np.repeat([1.0, 0.0], 10)
    labels, voices = draw.integers(NUM_CLASSES, size=count), draw.integers(NUM_VOICES, size=count)
    features = emotions[labels] + offsets[voices] + draw.normal(0, 0.9, (count, len(NAMES)))
    speakers = [f"{voice}/{label}" if split else f"{voice}" for voice, label in zip(voices, labels, strict=True)]
    return Town(list(features.astype(np.float32)), labels, speakers, offsets)


def trained_in_town(mode: str) -> Network:
    """A network that learned the emotions of another town."""
    home = town(11)
    network = build_network(
        ARCHITECTURES["mlp"], input_dim=len(NAMES), num_classes=NUM_CLASSES, normalization=mode, seed=0
    )
    inputs = inputs_of(fit_normalizer(mode, home.features, home.speakers).apply(home.features, home.speakers))
    train(network, inputs, torch.from_numpy(home.labels), TrainSettings(epochs=15), seed=0)
    return network
