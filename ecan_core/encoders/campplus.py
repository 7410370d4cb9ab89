"""Tell speakers apart by CAM++: 192 numbers of unit length.

Source: Wang et al., "CAM++: A Fast and Efficient Network for Speaker Verification Using Context-Aware Masking",
Interspeech 2023, and 3D-Speaker's public code. Differs: inference alone, so that a normalization that follows a
convolution is folded into it.

What it makes of a voice identifies the person. It is biometric data for as long as it exists: nothing here stores it,
and nobody who calls this may.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ecan_core.audio.logmel import SAMPLE_RATE
from ecan_core.encoders.weights import Shape
from ecan_core.encoders.windows import kaldi_filters

if TYPE_CHECKING:
    from torch import Tensor

Samples = npt.NDArray[np.float32]
Weights = Mapping[str, "Tensor"]

DIM = 192
"""Numbers per utterance."""
NUM_BANDS, WINDOW, HOP, NUM_FFT = 80, 400, 160, 512
MAX_S = 8.0
"""Longest stretch that is heard, in seconds: the end of a longer utterance."""

_EPSILON = 1e-5  # of every batch normalization
_CHANNELS, _GROWTH, _INSIDE = 128, 32, 128  # of the dense blocks: at first, per layer, in between
_BLOCKS = ((12, 1), (24, 2), (16, 2))  # layers and dilation
_IMAGE = 32  # channels of the convolutions over time and frequency
_SEGMENT = 100  # frames of the local context
_STRIDES = {"layer1.0": 2, "layer1.1": 1, "layer2.0": 2, "layer2.1": 1}


def tensor_shapes() -> dict[str, Shape]:
    """Return every tensor of the network, by 3D-Speaker's name, as a shape."""
    shapes = _image_shapes()
    shapes["xvector.tdnn.linear.weight"] = (_CHANNELS, _IMAGE * NUM_BANDS // 8, 5)
    shapes |= _norm_shapes("xvector.tdnn.nonlinear.batchnorm", _CHANNELS)
    channels = _CHANNELS
    for block, (layers, _) in enumerate(_BLOCKS, start=1):
        for layer in range(layers):
            shapes |= _dense_shapes(f"xvector.block{block}.tdnnd{layer + 1}.", channels + layer * _GROWTH)
        channels += layers * _GROWTH
        shapes |= _norm_shapes(f"xvector.transit{block}.nonlinear.batchnorm", channels)
        shapes[f"xvector.transit{block}.linear.weight"] = (channels // 2, channels, 1)
        channels //= 2
    shapes |= _norm_shapes("xvector.out_nonlinear.batchnorm", channels)
    shapes["xvector.dense.linear.weight"] = (DIM, 2 * channels, 1)
    return shapes | _norm_shapes("xvector.dense.nonlinear.batchnorm", DIM, affine=False)


def _image_shapes() -> dict[str, Shape]:
    shapes: dict[str, Shape] = {"head.conv1.weight": (_IMAGE, 1, 3, 3), "head.conv2.weight": (_IMAGE, _IMAGE, 3, 3)}
    for name in ("bn1", "bn2"):
        shapes |= _norm_shapes(f"head.{name}", _IMAGE)
    for name, stride in _STRIDES.items():
        for half in "12":
            shapes[f"head.{name}.conv{half}.weight"] = (_IMAGE, _IMAGE, 3, 3)
            shapes |= _norm_shapes(f"head.{name}.bn{half}", _IMAGE)
        if stride != 1:
            shapes[f"head.{name}.shortcut.0.weight"] = (_IMAGE, _IMAGE, 1, 1)
            shapes |= _norm_shapes(f"head.{name}.shortcut.1", _IMAGE)
    return shapes


def _dense_shapes(name: str, channels: int) -> dict[str, Shape]:
    return {
        **_norm_shapes(f"{name}nonlinear1.batchnorm", channels),
        f"{name}linear1.weight": (_INSIDE, channels, 1),
        **_norm_shapes(f"{name}nonlinear2.batchnorm", _INSIDE),
        f"{name}cam_layer.linear_local.weight": (_GROWTH, _INSIDE, 3),
        f"{name}cam_layer.linear1.weight": (_INSIDE // 2, _INSIDE, 1),
        f"{name}cam_layer.linear1.bias": (_INSIDE // 2,),
        f"{name}cam_layer.linear2.weight": (_GROWTH, _INSIDE // 2, 1),
        f"{name}cam_layer.linear2.bias": (_GROWTH,),
    }


def _norm_shapes(name: str, channels: int, *, affine: bool = True) -> dict[str, Shape]:
    parts = ("running_mean", "running_var", *(("weight", "bias") if affine else ()))
    return {f"{name}.{part}": (channels,) for part in parts}


@dataclass(frozen=True, eq=False)
class CamPlusPlus:
    """Hold the weights of the network.

    Attributes:
        weights: As `tensor_shapes` says, float32.
    """

    weights: Weights

    def embed(self, samples: Samples) -> Samples:
        """Compute who speaks.

        Args:
            samples: One utterance at 16 kHz, [T]; the last 8 s of a longer one are heard.

        Returns:
            A point on the unit sphere, [192].
        """
        import torch

        with torch.inference_mode():
            embedded = self.embed_frames(filter_banks(samples[-int(MAX_S * SAMPLE_RATE) :])[None])[0]
            point: Samples = torch.nn.functional.normalize(embedded, dim=0).numpy()
        return point

    def embed_frames(self, frames: "Tensor") -> "Tensor":
        """Run the network on filter banks of equal length.

        Args:
            frames: Logarithms, [B, F, M].

        Returns:
            Embeddings of any length, [B, 192].
        """
        import torch
        from torch.nn import functional

        hidden = self._image(frames.transpose(1, 2)[:, None]).flatten(1, 2)  # [B, 320, F]
        weight, bias = self._folded["xvector.tdnn.linear"]
        hidden = functional.conv1d(hidden, weight, bias, stride=2, padding=2).relu_()
        for block, (layers, dilation) in enumerate(_BLOCKS, start=1):
            for layer in range(1, layers + 1):
                grown = self._dense(f"xvector.block{block}.tdnnd{layer}.", hidden, dilation)
                hidden = torch.cat([hidden, grown], dim=1)
            hidden = self._active(f"xvector.transit{block}.nonlinear.batchnorm", hidden)
            hidden = functional.conv1d(hidden, *self._transit(f"xvector.transit{block}.linear"))
        hidden = hidden.relu_()
        pooled = torch.cat([hidden.mean(dim=-1), hidden.std(dim=-1)], dim=1)
        return functional.linear(pooled, *self._folded["xvector.dense.linear"])

    def _image(self, image: "Tensor") -> "Tensor":
        """Convolve over frequency and time: [B, 1, M, F] -> [B, 32, M / 8, F]."""
        from torch.nn import functional

        hidden = functional.conv2d(image, *self._folded["head.conv1"], padding=1).relu_()
        for name, stride in _STRIDES.items():
            inside = functional.conv2d(
                hidden, *self._folded[f"head.{name}.conv1"], stride=(stride, 1), padding=1
            ).relu_()
            inside = functional.conv2d(inside, *self._folded[f"head.{name}.conv2"], padding=1)
            if stride != 1:
                hidden = functional.conv2d(hidden, *self._folded[f"head.{name}.shortcut.0"], stride=(stride, 1))
            hidden = (inside + hidden).relu_()
        return functional.conv2d(hidden, *self._folded["head.conv2"], stride=(2, 1), padding=1).relu_()

    def _dense(self, name: str, hidden: "Tensor", dilation: int) -> "Tensor":
        """Compute what a dense layer adds: [B, channels, F] -> [B, 32, F]."""
        from torch.nn import functional

        inside = self._active(f"{name}nonlinear1.batchnorm", hidden)
        inside = functional.conv1d(inside, *self._folded[f"{name}linear1"]).relu_()
        local = functional.conv1d(
            inside, self.weights[f"{name}cam_layer.linear_local.weight"], padding=dilation, dilation=dilation
        )
        context = inside.mean(dim=-1, keepdim=True) + _segment_means(inside)
        context = functional.conv1d(context, *self._plain(f"{name}cam_layer.linear1")).relu_()
        mask = functional.conv1d(context, *self._plain(f"{name}cam_layer.linear2")).sigmoid_()
        return local * mask.repeat_interleave(_SEGMENT, dim=-1)[..., : local.shape[-1]]

    def _transit(self, name: str) -> tuple["Tensor", "Tensor | None"]:
        """Return weight and bias; a normalization follows the last transit alone."""
        return self._folded.get(name, (self.weights[f"{name}.weight"], None))

    def _plain(self, name: str) -> tuple["Tensor", "Tensor"]:
        return self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]

    def _active(self, norm: str, hidden: "Tensor") -> "Tensor":
        """Normalize channels by themselves and cut what is negative."""
        import torch

        scale, shift = self._scalings[norm]
        return torch.addcmul(shift, hidden, scale).relu_()

    @cached_property
    def _scalings(self) -> dict[str, tuple["Tensor", "Tensor"]]:
        """Return scale and shift of every normalization, [channels, 1]."""
        scalings = {}
        for name in self.weights:
            norm, _, part = name.rpartition(".")
            if part == "running_mean":
                scale = (self.weights[f"{norm}.running_var"] + _EPSILON).rsqrt()
                scale = scale * self.weights.get(f"{norm}.weight", 1.0)
                shift = self.weights.get(f"{norm}.bias", 0.0) - self.weights[name] * scale
                scalings[norm] = (scale[:, None], shift[:, None])
        return scalings

    @cached_property
    def _folded(self) -> dict[str, tuple["Tensor", "Tensor"]]:
        """Return weight and bias of convolutions with their normalizations."""
        folded = {}
        for convolution, norm in _FOLDED.items():
            weight = self.weights[f"{convolution}.weight"]
            scale, shift = (part.flatten() for part in self._scalings[norm])
            folded[convolution] = (weight * scale.reshape(-1, *[1] * (weight.ndim - 1)), shift)
        weight, bias = folded["xvector.dense.linear"]
        folded["xvector.dense.linear"] = (weight[..., 0], bias)
        return folded


def _folded_norms() -> dict[str, str]:
    """Name the normalization behind each convolution."""
    names = {"head.conv1": "head.bn1", "head.conv2": "head.bn2"}
    for name, stride in _STRIDES.items():
        names |= {f"head.{name}.conv{half}": f"head.{name}.bn{half}" for half in "12"}
        if stride != 1:
            names[f"head.{name}.shortcut.0"] = f"head.{name}.shortcut.1"
    names["xvector.tdnn.linear"] = "xvector.tdnn.nonlinear.batchnorm"
    for block, (layers, _) in enumerate(_BLOCKS, start=1):
        for layer in range(1, layers + 1):
            dense = f"xvector.block{block}.tdnnd{layer}."
            names[f"{dense}linear1"] = f"{dense}nonlinear2.batchnorm"
    names["xvector.transit3.linear"] = "xvector.out_nonlinear.batchnorm"
    names["xvector.dense.linear"] = "xvector.dense.nonlinear.batchnorm"
    return names


_FOLDED = _folded_norms()


def _segment_means(hidden: "Tensor") -> "Tensor":
    """Average over stretches of a second, [B, channels, F / 100]."""
    from torch.nn import functional

    return functional.avg_pool1d(hidden, _SEGMENT, _SEGMENT, ceil_mode=True)


def filter_banks(samples: Samples) -> "Tensor":
    """Compute Kaldi's log filter banks, less their mean, without dither.

    Args:
        samples: Sound at 16 kHz within -1 and 1, [T]; short sound is continued by silence.

    Returns:
        Natural logarithms, [F, M].
    """
    import torch

    sound = np.pad(samples, (0, max(0, WINDOW + 9 * HOP - len(samples)))).astype(np.float32)
    windows = torch.from_numpy(sound).unfold(0, WINDOW, HOP)
    windows = windows - windows.mean(dim=1, keepdim=True)
    before = torch.cat([windows[:, :1], windows[:, :-1]], dim=1)
    windows = (windows - 0.97 * before) * torch.hann_window(WINDOW, periodic=False).pow(0.85)
    power = torch.fft.rfft(windows, NUM_FFT).abs().square()
    mel = power @ torch.from_numpy(kaldi_filters(NUM_BANDS, NUM_FFT, SAMPLE_RATE))
    logarithms = mel.clamp_min(torch.finfo(torch.float32).eps).log()
    centered: Tensor = logarithms - logarithms.mean(dim=0)
    return centered
