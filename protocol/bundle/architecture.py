"""Derive every name, type and shape of a bundle's network.

The facts are the architecture's id, the number of classes and the normalization. Nothing about shapes is ever
read from a file; a reader predicts them and compares.
"""

import math
from dataclasses import dataclass

from protocol.bundle.form import ModelForm
from protocol.errors import Code, MalformedError

STATISTICS_DIM = 423
"""S, the width of the front end stats-v1."""
WHISPER_DIM = 768
"""2 E, what the front end stats-whisper-v1 has beside the statistics."""
SSL_WIDTHS = (768, 1024)
"""E, what the front ends stats-ssl-768-v1 and stats-ssl-1024-v1 have beside the statistics."""
FRAME_DIM = 68
"""M, the width of one frame of the front end frames-v1."""
EMBEDDING_DIM = 128
"""D, the width of the bottleneck."""

FRONT_ENDS = {
    "mlp-stats-v1": "stats-v1",
    "tdnn-frames-v1": "frames-v1",
    "mlp-stats-whisper-v1": "stats-whisper-v1",
    "mlp-stats-ssl-768-v1": "stats-ssl-768-v1",
    "mlp-stats-ssl-1024-v1": "stats-ssl-1024-v1",
}
ARCHITECTURES = tuple(FRONT_ENDS)
READ_BY_ADDED = ("mlp-stats-ssl-768-v1", "mlp-stats-ssl-1024-v1")
"""What is read by an encoder that each site adds itself: a manifest names its hash."""
NORMALIZATIONS = ("none", "corpus", "speaker")
MIN_CLASSES, MAX_CLASSES = 2, 12

ITEM_BYTES = {"I8": 1, "I16": 2}
"""Bytes per element of the encoded types."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Describe one affine layer of the chain from input to logits.

    Attributes:
        name: prefix of its tensors.
        units: rows of its weight.
        inputs: columns of its weight.
        kernel: frames that a convolution spans; None for a plain linear layer.
        tiles: how often its outputs stand side by side in the next layer's input (2: mean and deviation).
        ordered: whether its units can be permuted and are therefore put in order; a class cannot.
    """

    name: str
    units: int
    inputs: int
    kernel: int | None = None
    tiles: int = 1
    ordered: bool = True

    @property
    def weight(self) -> str:
        """Return the name of the weight, of shape `shape`."""
        return f"{self.name}.weight"

    @property
    def bias(self) -> str:
        """Return the name of the bias ``[units]``."""
        return f"{self.name}.bias"

    @property
    def exponent(self) -> str:
        """Return the name of the encoded row exponents ``[units]``."""
        return f"{self.name}.exponent"

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the weight.

        ``[units, inputs]`` or ``[units, inputs, kernel]``.
        """
        return (self.units, self.inputs) if self.kernel is None else (self.units, self.inputs, self.kernel)


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """Describe one encoded tensor: name, safetensors type and shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """Return the length of its data in bytes."""
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]


def layers(arch: str, num_classes: int) -> tuple[Layer, ...]:
    """Return the chain of layers from input to logits.

    Raises:
        MalformedError: this version does not know the architecture, or the number of classes is out of range.
    """
    if not MIN_CLASSES <= num_classes <= MAX_CLASSES:
        raise MalformedError(
            Code.RANGE,
            f"A bundle has {MIN_CLASSES} to {MAX_CLASSES} classes, not {num_classes}; choose that many.",
        )
    if arch not in _ENCODERS:
        raise MalformedError(
            Code.ENUM, f"The architecture {arch!r} is unknown to this version; install a newer ecan-ser."
        )
    encoder = _ENCODERS[arch]
    encoded_dim = encoder[-1].units * encoder[-1].tiles
    return (
        *encoder,
        Layer(name="bottleneck", units=EMBEDDING_DIM, inputs=encoded_dim),
        Layer(name="head", units=num_classes, inputs=EMBEDDING_DIM, ordered=False),
    )


def input_scalings(form: ModelForm) -> dict[str, int]:
    """Return the vectors that standardize the input, with their lengths.

    Only a model trained without normalization carries them; otherwise each site uses statistics of its own.
    """
    if form.normalization not in NORMALIZATIONS:
        raise MalformedError(
            Code.ENUM,
            f"The normalization {form.normalization!r} is unknown to this version; install a newer ecan-ser.",
        )
    if form.normalization != "none":
        return {}
    width = layers(form.arch, MIN_CLASSES)[0].inputs
    return {"input.center": width, "input.scale": width}


def model_shapes(form: ModelForm) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of the model's float32 tensors.

    Those before encoding.
    """
    shapes: dict[str, tuple[int, ...]] = {name: (length,) for name, length in input_scalings(form).items()}
    for layer in layers(form.arch, form.num_classes):
        shapes[layer.weight] = layer.shape
        shapes[layer.bias] = (layer.units,)
    return shapes


def tensor_specs(form: ModelForm) -> tuple[TensorSpec, ...]:
    """Return the encoded tensors in their order in the file.

    Wider types come first, then names in order.
    """
    specs = []
    for name, length in input_scalings(form).items():
        specs.append(TensorSpec(name=name, dtype="I8", shape=(length,)))
        specs.append(TensorSpec(name=f"{name}.exponent", dtype="I8", shape=(length,)))
    for layer in layers(form.arch, form.num_classes):
        specs.append(TensorSpec(name=layer.weight, dtype="I8", shape=layer.shape))
        specs.append(TensorSpec(name=layer.exponent, dtype="I8", shape=(layer.units,)))
        specs.append(TensorSpec(name=layer.bias, dtype="I16", shape=(layer.units,)))
    return tuple(sorted(specs, key=lambda spec: (-ITEM_BYTES[spec.dtype], spec.name)))


_ENCODERS = {
    "mlp-stats-v1": (Layer(name="encoder.0", units=256, inputs=STATISTICS_DIM),),
    # Fewer units than beside the statistics alone, so that the wider input does not make a larger file.
    "mlp-stats-whisper-v1": (Layer(name="encoder.0", units=96, inputs=STATISTICS_DIM + WHISPER_DIM),),
    "mlp-stats-ssl-768-v1": (Layer(name="encoder.0", units=96, inputs=STATISTICS_DIM + SSL_WIDTHS[0]),),
    "mlp-stats-ssl-1024-v1": (Layer(name="encoder.0", units=80, inputs=STATISTICS_DIM + SSL_WIDTHS[1]),),
    "tdnn-frames-v1": (
        Layer(name="encoder.0", units=128, inputs=FRAME_DIM, kernel=5),
        Layer(name="encoder.1", units=128, inputs=128, kernel=3),
        Layer(name="encoder.2", units=256, inputs=128, kernel=1, tiles=2),
    ),
}
