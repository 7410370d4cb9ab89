"""Convert published encoders to the tensors that are kept of them."""

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from protocol.encoders import ctranslate2, torch_archive
from protocol.encoders.registry import PublicEncoder
from protocol.errors import Code, MalformedError

Array = npt.NDArray[np.generic]
Tensors = Mapping[str, Array]

BLOCKS = 2
"""Blocks that are kept of a Whisper encoder."""

_OUTSIDE = {
    "conv1.weight": "conv1/weight",
    "conv1.bias": "conv1/bias",
    "conv2.weight": "conv2/weight",
    "conv2.bias": "conv2/bias",
    "embed_positions.weight": "position_encodings/encodings",
}
_IN_BLOCK = {
    "self_attn_layer_norm.weight": "self_attention/layer_norm/gamma",
    "self_attn_layer_norm.bias": "self_attention/layer_norm/beta",
    "self_attn.out_proj.weight": "self_attention/linear_1/weight",
    "self_attn.out_proj.bias": "self_attention/linear_1/bias",
    "final_layer_norm.weight": "ffn/layer_norm/gamma",
    "final_layer_norm.bias": "ffn/layer_norm/beta",
    "fc1.weight": "ffn/linear_0/weight",
    "fc1.bias": "ffn/linear_0/bias",
    "fc2.weight": "ffn/linear_1/weight",
    "fc2.bias": "ffn/linear_1/bias",
}
"""Hugging Face's names of an encoder's tensors, which are ours, and CTranslate2's."""
_PROJECTIONS = "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"
_FUSED = "self_attention/linear_0"
_COUNTER = ".num_batches_tracked"


def converted(encoder: PublicEncoder, data: bytes) -> dict[str, Array]:
    """Return the tensors that are kept of a published file.

    Args:
        encoder: Which it is.
        data: The file, whose hash has been checked.

    Raises:
        MalformedError: The file is not what its container's format says.
    """
    return _READERS[encoder.package.container](data)


def _of_ctranslate2(data: bytes) -> dict[str, Array]:
    names = {ours: f"encoder/{theirs}" for ours, theirs in _OUTSIDE.items()}
    for block in range(BLOCKS):
        names |= {f"layers.{block}.{ours}": f"encoder/layer_{block}/{theirs}" for ours, theirs in _IN_BLOCK.items()}
    fused = [f"encoder/layer_{block}/{_FUSED}/{part}" for block in range(BLOCKS) for part in ("weight", "bias")]
    found = ctranslate2.read_tensors(data, {*names.values(), *fused})
    if missing := {*names.values(), *fused} - found.keys():
        raise MalformedError(Code.MISSING, f"The encoder's model.bin lacks {min(missing)}; fetch the encoder again.")
    tensors = {ours: found[theirs] for ours, theirs in names.items()}
    for block in range(BLOCKS):
        theirs = f"encoder/layer_{block}/{_FUSED}"
        tensors |= _projections(f"layers.{block}.", found[f"{theirs}/weight"], found[f"{theirs}/bias"])
    return tensors


def _projections(layer: str, weight: Array, bias: Array) -> dict[str, Array]:
    """Take queries, keys and values apart.

    A bias of the keys changes no attention, and Whisper has none.
    """
    if weight.ndim != 2 or len(weight) % 3 or weight.shape[:1] != bias.shape:
        raise MalformedError(Code.SHAPE, "The encoder's model.bin has no attention weights; fetch the encoder again.")
    weights, biases = np.split(weight, 3), np.split(bias, 3)
    if np.any(biases[1]):
        raise MalformedError(Code.VALUE, "The encoder's keys have a bias, and no Whisper has; fetch the encoder again.")
    parts = {f"{layer}{name}.weight": part for name, part in zip(_PROJECTIONS, weights, strict=True)}
    return parts | {f"{layer}{_PROJECTIONS[place]}.bias": biases[place] for place in (0, 2)}


def of_hugging_face(data: bytes) -> dict[str, Array]:
    """Return what is kept of a Whisper that Hugging Face's library has saved.

    Args:
        data: Its `model.safetensors`.

    Raises:
        MalformedError: The file is damaged, or a tensor that is kept is not there.
    """
    inside = {_plain(name): array for name, array in _safetensors(data).items()}
    wanted = _hugging_face_names()
    if missing := wanted - inside.keys():
        raise MalformedError(
            Code.MISSING,
            f"The encoder's model.safetensors lacks {min(missing)}; take a Whisper in Hugging Face's form.",
        )
    return {name: inside[name] for name in wanted}


def _safetensors(data: bytes) -> dict[str, Array]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return load(data)
    except (SafetensorError, KeyError, ValueError, RuntimeError, TypeError, AttributeError) as error:
        raise MalformedError(Code.VALUE, "The encoder's model.safetensors is damaged; copy it again.") from error


def _plain(name: str) -> str:
    """Strip what stands before the name of an encoder's tensor."""
    return name.removeprefix("model.").removeprefix("encoder.")


def _hugging_face_names() -> set[str]:
    projections = {f"{name}.weight" for name in _PROJECTIONS} | {f"{_PROJECTIONS[place]}.bias" for place in (0, 2)}
    in_block = {*_IN_BLOCK, *projections}
    return {*_OUTSIDE, *(f"layers.{block}.{name}" for block in range(BLOCKS) for name in in_block)}


def _of_torch(data: bytes) -> dict[str, Array]:
    """Return the state dictionary without the counters of its training."""
    return {name: array for name, array in torch_archive.read_tensors(data).items() if not name.endswith(_COUNTER)}


_READERS: dict[str, Callable[[bytes], dict[str, Array]]] = {"ctranslate2": _of_ctranslate2, "torch": _of_torch}
