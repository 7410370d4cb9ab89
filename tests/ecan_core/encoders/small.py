"""Networks of the real shapes with random weights, and files of them."""

from hashlib import sha256
from math import prod

import torch
from safetensors.torch import save

from ecan_core.encoders import campplus, whisper
from ecan_core.encoders.campplus import CamPlusPlus
from ecan_core.encoders.whisper import Whisper


def random_weights(shapes, seed=0):
    """Weights that keep a signal's size, with deviations that are positive."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in shapes.items():
        size = prod(shape[1:]) ** -0.5 if len(shape) > 1 else 0.3
        values = size * torch.randn(shape, generator=generator)
        if len(shape) == 1 and name.endswith(".weight"):
            values += 1  # of a normalization, so that it hands its input on
        weights[name] = values.abs() + 0.5 if name.endswith("running_var") else values
    return weights


def random_whisper(seed=0):
    return Whisper(random_weights(whisper.tensor_shapes(), seed))


def random_campplus(seed=0):
    return CamPlusPlus(random_weights(campplus.tensor_shapes(), seed))


def write_weights(path, tensors):
    """Write a file of tensors and return its hash."""
    data = save(tensors)
    path.write_bytes(data)
    return sha256(data).hexdigest()
