"""A small labelled problem with a domain shift, for tests that need learning to work but not to be hard."""

import numpy as np
import torch

from ecan_core.data.inputs import Inputs, StatisticsInputs, inputs_of
from ecan_core.model.architectures import ARCHITECTURES, build_network
from ecan_core.model.network import Network
from ecan_core.training.train import TrainSettings, train

NUM_CLASSES, DIM = 4, 12


def blobs(count: int, *, seed: int, shift: float = 0.0) -> tuple[StatisticsInputs, torch.Tensor]:
    """``count`` points around one center per class; ``shift`` mixes the axes as another corpus would."""
    draw = np.random.default_rng(seed)
    centers = np.random.default_rng(99).normal(0, 1.2, (NUM_CLASSES, DIM))
    labels = np.arange(count) % NUM_CLASSES
    points = centers[labels] + draw.normal(0, 0.7, (count, DIM))
    turn = np.random.default_rng(7).normal(0, 1, (DIM, DIM))
    points = points + shift * points @ (turn - turn.T) / DIM
    return StatisticsInputs(points.astype(np.float32)), torch.from_numpy(labels)


def trained_network(seed: int = 0, normalization: str = "corpus") -> Network:
    """A network that has learned the unshifted blobs."""
    network = build_network(
        ARCHITECTURES["mlp"], input_dim=DIM, num_classes=NUM_CLASSES, normalization=normalization, seed=seed
    )
    inputs, labels = blobs(160, seed=1)
    train(network, inputs, labels, TrainSettings(epochs=15), seed=seed)
    return network


def random_inputs(front_end: str, dim: int, *, count: int) -> Inputs:
    """Normally distributed inputs of the shape that a front end gives."""
    draw = np.random.default_rng(4)
    if front_end.startswith("stats-"):
        return inputs_of(list(draw.normal(0, 1, (count, dim))))
    return inputs_of([draw.normal(0, 1, (draw.integers(30, 90), dim)) for _ in range(count)])
