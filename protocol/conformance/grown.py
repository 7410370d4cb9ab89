"""Grow the weights of models from a hash, so that nobody has to keep them.

Nothing here was ever trained. The published vectors hold the SHA-256 of such weights instead of their bytes.
"""

import functools
import hashlib

from protocol.bundle.architecture import Layer, TensorSpec, layers, tensor_specs
from protocol.bundle.form import ModelForm
from protocol.bundle.weights import header

LOWEST_EXPONENT = b"\xec"
"""-20 as one byte: at it every value may stand."""


@functools.cache
def grow_weights(name: str, form: ModelForm) -> bytes:
    """Return weights that keep every rule: SHAKE-256, bent to the rules.

    Args:
        name: what they grow from.
        form: their form.
    """
    chain = {layer.name: layer for layer in layers(form.arch, form.num_classes)}
    specs = tensor_specs(form)
    return header(specs) + b"".join(_grow_tensor(name, spec, chain) for spec in specs)


def tensor_places(form: ModelForm) -> dict[str, tuple[int, TensorSpec]]:
    """Return where each tensor begins in the weights, in bytes, by name."""
    specs = tensor_specs(form)
    places, start = {}, len(header(specs))
    for spec in specs:
        places[spec.name] = (start, spec)
        start += spec.num_bytes
    return places


def _grow_tensor(name: str, spec: TensorSpec, chain: dict[str, Layer]) -> bytes:
    grown = hashlib.shake_256(f"{name} {spec.name}".encode()).digest(spec.num_bytes)
    layer, _, part = spec.name.rpartition(".")
    if part == "exponent":
        return _exponents(grown, is_scaling=layer.startswith("input"))
    if part == "bias":
        return _biases(spec.shape[0], is_ordered=chain[layer].ordered)
    if spec.name == "input.scale":
        return bytes(1 + byte % 127 for byte in grown)
    grown = grown.replace(b"\x80", b"\x7f")
    return _with_peaks(grown, spec.num_bytes // spec.shape[0]) if part == "weight" else grown


def _exponents(grown: bytes, *, is_scaling: bool) -> bytes:
    """Return exponents from -12 to -5, and -20 for what has no peaks."""
    return LOWEST_EXPONENT * len(grown) if is_scaling else bytes(0xF4 + byte % 8 for byte in grown)


def _biases(units: int, *, is_ordered: bool) -> bytes:
    """Return biases in ascending order, or zeros where there is no order."""
    step = 131 if is_ordered else 0
    return b"".join((step * (unit - 100)).to_bytes(2, "little", signed=True) for unit in range(units))


def _with_peaks(grown: bytes, width: int) -> bytes:
    """Return rows with a large value each, so that no exponent is free."""
    return b"".join(b"\x7f" + grown[start + 1 : start + width] for start in range(0, len(grown), width))
