"""Copy a network's weights in and out as plain arrays; the only way.

What is not listed here (optimizer state, memory banks) has no way out.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from ecan_core.errors import ModelError
from ecan_core.model.network import Network

Arrays = dict[str, np.ndarray]


def to_arrays(network: Network) -> Arrays:
    """Copy a network's weights to float32 arrays.

    The head leaves as its effective rows ``[C, D]``.
    """
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in _tensors(network)} | {
        "head.weight": network.head.rows().detach().cpu().numpy().copy()
    }


@torch.no_grad()
def load_arrays(network: Network, arrays: Mapping[str, np.ndarray]) -> None:
    """Overwrite a network's weights with ``arrays``.

    Names and shapes must be exactly its own.

    Raises:
        ModelError: a tensor is missing, unknown or of another shape.
    """
    targets = dict(_tensors(network)) | {"head.weight": network.head.direction}
    if targets.keys() != arrays.keys():
        different = sorted(targets.keys() ^ arrays.keys())
        raise ModelError(f"the weights do not fit this network ({', '.join(different)}); export the model again")
    for name, target in targets.items():
        source = torch.from_numpy(np.array(arrays[name], dtype=np.float32))
        if source.shape != target.shape:
            raise ModelError(f"tensor {name} has the wrong shape for this network; export the model again")
        target.copy_(source)


def snapshot(network: Network) -> Arrays:
    """Copy a network bit for bit, for a run that may be killed.

    What leaves the site is `to_arrays`.
    """
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in network.state_dict().items()}


def restore(network: Network, arrays: Mapping[str, np.ndarray]) -> None:
    """Make a network what it was when `snapshot` copied it."""
    network.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()})


def _tensors(network: Network) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor that is stored as it is, by its bundle name."""
    if network.standardize is not None:
        yield "input.center", network.standardize.center
        yield "input.scale", network.standardize.scale
    for index, layer in enumerate(network.encoder.layers):
        yield f"encoder.{index}.weight", layer.get_parameter("weight")
        yield f"encoder.{index}.bias", layer.get_parameter("bias")
    yield "bottleneck.weight", network.bottleneck.weight
    yield "bottleneck.bias", network.bottleneck.bias
    yield "head.bias", network.head.bias
