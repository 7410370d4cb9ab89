"""Read the form of a self-supervised encoder from its config.

wav2vec 2.0, HuBERT and WavLM are known. Nothing is believed: each setting is within its bounds before it is used.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil, prod
from typing import Any

from ecan_core.audio.logmel import SAMPLE_RATE
from ecan_core.errors import ModelError

WIDTHS = (768, 1024)
"""Widths of an encoder, E, that a network can read."""
MODEL_TYPES = ("wav2vec2", "hubert", "wavlm")
MIN_HOP, MAX_HOP = 80, 3200  # samples per frame; published encoders have 320

_LARGEST = {
    "hidden_size": 4096,
    "num_hidden_layers": 64,
    "num_attention_heads": 64,
    "intermediate_size": 16_384,
    "num_conv_pos_embeddings": 512,
    "num_conv_pos_embedding_groups": 64,
    "conv_dim": 1024,
    "conv_kernel": 64,
    "conv_stride": 32,
    "num_buckets": 2048,
    "max_bucket_distance": 16_384,
}
_MAX_CONV_LAYERS = 16
_FIXED = {  # what torchaudio's networks can only be; an absent key means the same
    "hidden_act": "gelu",
    "feat_extract_activation": "gelu",
    "layer_norm_eps": 1e-5,
    "feat_proj_layer_norm": True,
    "conv_pos_batch_norm": False,
    "add_adapter": False,
    "adapter_attn_dim": None,
}


@dataclass(frozen=True, kw_only=True)
class EncoderForm:
    """Describe the form of an encoder, as its folder states it.

    Attributes:
        model_type: One of `MODEL_TYPES`.
        hidden_size: Width of the transformer, E.
        num_layers: Transformer layers.
        num_heads: Attention heads; they divide the width.
        intermediate_size: Width inside a feed-forward block.
        conv_layers: Channels, kernel and stride of each convolution, kernel and stride in its own input's steps.
        conv_bias: Whether the convolutions have a bias.
        conv_norm: "group" normalizes the first convolution over time, "layer" every convolution over channels.
        stable: Whether a layer normalizes before attention and not after it.
        position_kernel: Frames that the positional convolution sees.
        position_groups: Its groups; they divide the width.
        num_buckets: Buckets of relative positions (WavLM alone, else 0).
        max_distance: Frames beyond which positions are equally far (WavLM alone, else 0).
        unit_variance: Whether the waveform is brought to mean 0 and variance 1 first.
    """

    model_type: str
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    conv_layers: tuple[tuple[int, int, int], ...]
    conv_bias: bool
    conv_norm: str
    stable: bool
    position_kernel: int
    position_groups: int
    num_buckets: int
    max_distance: int
    unit_variance: bool

    @property
    def kept(self) -> "EncoderForm":
        """Return the form of what is kept: the lower two thirds of the layers."""
        return replace(self, num_layers=ceil(2 * self.num_layers / 3))

    @property
    def heard_layers(self) -> tuple[int, int]:
        """Return the two layers of a kept encoder that are heard, from 1 on."""
        return ceil(self.num_layers / 2), self.num_layers

    @property
    def hop(self) -> int:
        """Return the number of samples from one frame to the next."""
        return prod(stride for _, _, stride in self.conv_layers)

    @property
    def min_samples(self) -> int:
        """Return the number of samples that give two frames."""
        samples = 2
        for _, kernel, stride in reversed(self.conv_layers):
            samples = (samples - 1) * stride + kernel
        return samples


def config_of(form: EncoderForm) -> dict[str, Any]:
    """Write a form as the config that `form_of` reads it from."""
    dims, kernels, strides = (list(column) for column in zip(*form.conv_layers, strict=True))
    buckets = {"num_buckets": form.num_buckets, "max_bucket_distance": form.max_distance}
    return {
        "model_type": form.model_type,
        "hidden_size": form.hidden_size,
        "num_hidden_layers": form.num_layers,
        "num_attention_heads": form.num_heads,
        "intermediate_size": form.intermediate_size,
        "conv_dim": dims,
        "conv_kernel": kernels,
        "conv_stride": strides,
        "conv_bias": form.conv_bias,
        "feat_extract_norm": form.conv_norm,
        "do_stable_layer_norm": form.stable,
        "num_conv_pos_embeddings": form.position_kernel,
        "num_conv_pos_embedding_groups": form.position_groups,
        "do_normalize": form.unit_variance,
        **(buckets if form.model_type == "wavlm" else {}),
    }


def form_of(config: Mapping[str, Any]) -> EncoderForm:
    """Read the settings that are used of a config, each within its bounds.

    Args:
        config: Hugging Face's, with `do_normalize` of the preprocessor; every other key is ignored.

    Raises:
        ModelError: A setting is missing, out of bounds or not supported.
    """
    model_type = config.get("model_type")
    if model_type not in MODEL_TYPES:
        raise ModelError(f"The encoder is of the type {shown(model_type)}; take one of {', '.join(MODEL_TYPES)}.")
    for key, value in _FIXED.items():
        if config.get(key, value) != value:
            raise ModelError(f"The encoder has {key} {shown(config[key])}, which is not supported; take another one.")
    if config.get("feat_extract_norm") not in ("group", "layer"):
        raise _wrong("feat_extract_norm", config.get("feat_extract_norm"), '"group" or "layer"')
    wavlm = model_type == "wavlm"
    form = EncoderForm(
        model_type=model_type,
        hidden_size=_size(config, "hidden_size"),
        num_layers=_size(config, "num_hidden_layers"),
        num_heads=_size(config, "num_attention_heads"),
        intermediate_size=_size(config, "intermediate_size"),
        conv_layers=_conv_layers(config),
        conv_bias=flag(config, "conv_bias", default=False),
        conv_norm=config["feat_extract_norm"],
        stable=flag(config, "do_stable_layer_norm", default=False),
        position_kernel=_size(config, "num_conv_pos_embeddings"),
        position_groups=_size(config, "num_conv_pos_embedding_groups"),
        num_buckets=_size(config, "num_buckets") if wavlm else 0,
        max_distance=_size(config, "max_bucket_distance") if wavlm else 0,
        unit_variance=flag(config, "do_normalize", default=True),
    )
    _check_proportions(form)
    return form


def _check_proportions(form: EncoderForm) -> None:
    if form.hidden_size % form.num_heads:
        raise _wrong("num_attention_heads", form.num_heads, f"a divisor of hidden_size {form.hidden_size}")
    if form.hidden_size % form.position_groups:
        raise _wrong("num_conv_pos_embedding_groups", form.position_groups, f"a divisor of {form.hidden_size}")
    if not MIN_HOP <= form.hop <= MAX_HOP:
        raise _wrong("conv_stride", form.hop, f"strides whose product is from {MIN_HOP} to {MAX_HOP}")
    if form.min_samples > SAMPLE_RATE:
        raise _wrong("conv_kernel", form.min_samples, f"kernels that reach over at most {SAMPLE_RATE} samples")
    if form.model_type == "wavlm":
        if form.num_buckets % 4:
            raise _wrong("num_buckets", form.num_buckets, "a multiple of 4")
        if form.max_distance <= form.num_buckets // 4:
            raise _wrong("max_bucket_distance", form.max_distance, "more than a quarter of num_buckets")


def _conv_layers(config: Mapping[str, Any]) -> tuple[tuple[int, int, int], ...]:
    keys = ("conv_dim", "conv_kernel", "conv_stride")
    for key in keys:
        values = config.get(key)
        if not isinstance(values, list) or not 1 <= len(values) <= _MAX_CONV_LAYERS:
            raise _wrong(key, values, f"a list of 1 to {_MAX_CONV_LAYERS} whole numbers")
        if len(values) != len(config["conv_dim"]):
            raise _wrong(key, values, "as long as conv_dim")
    dims, kernels, strides = ([_in_bounds(key, value) for value in config[key]] for key in keys)
    return tuple(zip(dims, kernels, strides, strict=True))


def _size(config: Mapping[str, Any], key: str) -> int:
    return _in_bounds(key, config.get(key))


def _in_bounds(key: str, value: Any) -> int:
    if type(value) is not int or not 1 <= value <= _LARGEST[key]:
        raise _wrong(key, value, f"a whole number from 1 to {_LARGEST[key]}")
    return value


def flag(config: Mapping[str, Any], key: str, *, default: bool) -> bool:
    """Read a setting that is true or false."""
    value = config.get(key, default)
    if not isinstance(value, bool):
        raise _wrong(key, value, "true or false")
    return value


def _wrong(key: str, value: Any, expected: str) -> ModelError:
    return ModelError(f"The encoder's {key} is {shown(value)}, but must be {expected}; take another encoder.")


def shown(value: Any) -> str:
    """Return a foreign value for messages: short, no control characters."""
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."
