"""Check the tensors of a self-supervised encoder against its form.

Every name and shape must be the one that the form asks for before a number is used. Names are Hugging Face's, and
networks are torchaudio's.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ecan_core.encoders.selfsupervised.form import EncoderForm, shown
from ecan_core.encoders.weights import Shape
from ecan_core.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

Tensors = dict[str, "Tensor"]

_MASK = "masked_spec_embed"  # used in training alone
_LINEAR_HEADS = ("lm_head", "quantizer.weight_proj", "project_hid", "project_q", "projector", "classifier")
_HEADS = {  # what stands beside an encoder for pretraining, recognition or classification
    "quantizer.codevectors",
    "layer_weights",
    *(f"{head}.{part}" for head in _LINEAR_HEADS for part in ("weight", "bias")),
}
_POSITION = "encoder.pos_conv_embed.conv."
_SPELLINGS = {  # weight norm as torch < 2.1 wrote it, and as it is written since
    f"{_POSITION}weight_g": f"{_POSITION}parametrizations.weight.original0",
    f"{_POSITION}weight_v": f"{_POSITION}parametrizations.weight.original1",
}


def plain_names(tensors: Tensors, form: EncoderForm) -> Tensors:
    """Rename an encoder's tensors to the bare encoder's current names.

    Tensors that do not belong to the encoder are left out.
    """
    prefix = f"{form.model_type}."
    if any(name.startswith(prefix) for name in tensors):
        inside = {name: tensor for name, tensor in tensors.items() if name not in _HEADS}
        if beside := [name for name in inside if not name.startswith(prefix)]:
            raise _unknown(min(beside))
        tensors = {name.removeprefix(prefix): tensor for name, tensor in inside.items()}
    if not tensors.keys() & set(_SPELLINGS.values()):
        tensors = {_SPELLINGS.get(name, name): tensor for name, tensor in tensors.items()}
    return tensors


def expected(state: Mapping[str, "Tensor"]) -> dict[str, Shape]:
    """Return name and shape of every tensor that a file must hold.

    The names are Hugging Face's for a network of torchaudio's.
    """
    return {
        name: (tensor.shape[0] // len(names), *tensor.shape[1:])
        for own_name, tensor in state.items()
        for names in [_names_of(own_name)]
        for name in names
    }


def _names_of(own_name: str) -> tuple[str, ...]:
    """Return Hugging Face's names for a tensor of torchaudio's.

    WavLM's input projection is three tensors there.
    """
    name = own_name.removeprefix("encoder.") if own_name.startswith("encoder.feature_projection.") else own_name
    name = name.replace("encoder.transformer.", "encoder.", 1).replace(".attention.attention.", ".attention.", 1)
    layer, projection, part = name.partition(".in_proj_")
    return tuple(f"{layer}.{which}_proj.{part}" for which in "qkv") if projection else (name,)


def collected(own_name: str, tensors: Mapping[str, "Tensor"]) -> "Tensor":
    """Return a tensor of torchaudio's network from Hugging Face's."""
    import torch

    parts = [tensors[name] for name in _names_of(own_name)]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def checked(tensors: Tensors, expected: Mapping[str, Shape], form: EncoderForm) -> Tensors:
    """Return the tensors as float32, once all are as expected.

    Refuses what is missing, unknown, of another shape or not finite.
    """
    import torch

    shapes = {**expected, _MASK: (form.hidden_size,)}
    if missing := sorted(expected.keys() - tensors.keys()):
        raise _unfit(f"lacks {missing[0]} and {len(missing) - 1} more" if missing[1:] else f"lacks {missing[0]}")
    for name, tensor in sorted(tensors.items()):
        if name not in shapes:
            raise _unknown(name)
        if tuple(tensor.shape) != shapes[name]:
            raise _unfit(f"has {name} of shape {list(tensor.shape)} and not {list(shapes[name])}")
        if tensor.dtype not in (torch.float32, torch.float16, torch.bfloat16):
            raise _unfit(f"has {name} as {tensor.dtype} and not as float32, float16 or bfloat16")
        if not tensor.isfinite().all():
            raise _unfit(f"has numbers in {name} that are not finite")
    return {name: tensors[name].to(torch.float32) for name in expected}


def _unknown(name: str) -> ModelError:
    return _unfit(f"has a tensor {shown(name)} that its form does not ask for")


def _unfit(fault: str) -> ModelError:
    return ModelError(
        f"The encoder's model.safetensors {fault}; take model.safetensors and config.json from the same model."
    )
