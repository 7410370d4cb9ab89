"""Encode weights: int8 rows with power-of-two scales.

The order of the units is canonical, and so are the safetensors bytes.

A row is ``q * 2^e`` with q int8 and one exponent e; its bias is an int16 times the same ``2^e``. What could
be chosen freely without changing what the network computes is fixed by a rule, and each rule is checked on
arrival (`value_violations`): the exponent, the order of the units, the outgoing weights of units that occur
twice, and every byte of the file's header. See docs/bundle-format.md.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from mmap import mmap
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from protocol.bundle.architecture import Layer, TensorSpec, input_scalings, layers, model_shapes, tensor_specs
from protocol.bundle.form import ModelForm
from protocol.errors import Code, MalformedError, Violation

Array = npt.NDArray[Any]
Arrays = dict[str, Array]
Buffer = bytes | bytearray | memoryview | mmap
"""Where encoded bytes may lie; they are never copied."""

MIN_EXPONENT, MAX_EXPONENT = -20, 8
"""The widest range that is needed: a center of the inputs may be some thousand Hz (normalization ``none``)."""
MAX_WEIGHT, MAX_BIAS = 127, 32767
"""Largest magnitudes of the integers: symmetric, so -128 and -32768 are refused."""

_DTYPES: dict[str, np.dtype[Any]] = {"I8": np.dtype("<i1"), "I16": np.dtype("<i2")}


class Rows(NamedTuple):
    """Hold encoded rows.

    Weight int8 ``[R, ...]``, bias int16 ``[R]``, exponent int8 ``[R]``.
    """

    weight: Array
    bias: Array
    exponent: Array


def pack(tensors: Mapping[str, Array], form: ModelForm) -> bytes:
    """Encode a model's float32 tensors as the weights of a bundle.

    Args:
        tensors: float32 arrays with exactly the names and shapes of `architecture.model_shapes`: weights
            ``[units, inputs]`` or ``[units, inputs, kernel]``, biases ``[units]``.
        form: its form.

    Returns:
        Canonical safetensors bytes; their length follows from the architecture (`encoded_bytes`).

    Raises:
        MalformedError: a value is too large for the grid.
    """
    ordered = canonicalize(tensors, form)
    encoded = quantize(ordered, form)
    return encode(encoded, tensor_specs(form))


def unpack(data: Buffer, form: ModelForm) -> Arrays:
    """Decode the weights of a bundle, after checking every rule.

    Returns:
        Integer arrays with the names, types and shapes of `architecture.tensor_specs`: weights int8
        ``[units, inputs]`` or ``[units, inputs, kernel]``, biases int16 ``[units]``, exponents int8 ``[units]``.
        They are read-only views of the data, for `dequantize`.

    Raises:
        MalformedError: the header is not the predicted one, or a value breaks a rule.
    """
    encoded = decode(data, tensor_specs(form))
    for violation in value_violations(encoded, form):
        raise MalformedError(violation.rule, f"Tensor {violation}; ask for a new bundle.")
    return encoded


def canonicalize(tensors: Mapping[str, Array], form: ModelForm) -> Arrays:
    """Put the hidden units in their one order.

    What the network computes stays the same.

    Units are sorted by their encoded (bias, row, exponent), front to back, because the next layer's rows
    depend on the order of this one's units. Units whose encoded rows are equal compute the same value, so the
    first takes over the outgoing weights of the others; otherwise their order would be free.

    Args:
        tensors: float arrays as for `pack`.
        form: its form.
    """
    ordered = {name: tensors[name] for name in model_shapes(form)}
    for layer, following in pairwise(layers(form.arch, form.num_classes)):
        rows = _quantize_rows(ordered[layer.weight], ordered[layer.bias])
        keys = [(int(bias), *_row_key(rows, place)) for place, bias in enumerate(rows.bias)]
        order = sorted(range(layer.units), key=keys.__getitem__)
        repeats = _order(Rows(*(part[order] for part in rows))).repeats
        ordered[layer.weight] = ordered[layer.weight][order]
        ordered[layer.bias] = ordered[layer.bias][order]
        columns = _columns(ordered[following.weight], layer)[:, :, order]
        for place in reversed(repeats):  # back to front: a run of equals ends in its first
            columns[:, :, place - 1] += columns[:, :, place]
            columns[:, :, place] = 0
        ordered[following.weight] = columns.reshape(following.shape)
    return ordered


def quantize(tensors: Mapping[str, Array], form: ModelForm) -> Arrays:
    """Round every row to the grid.

    Args:
        tensors: float arrays as for `pack`.
        form: its form.

    Returns:
        Integer arrays with the names, types and shapes of `architecture.tensor_specs`, as in `unpack`.

    Raises:
        MalformedError: a value is too large for the grid.
    """
    encoded: Arrays = {}
    for name, length in input_scalings(form).items():
        rows = _quantize_rows(tensors[name], np.zeros(length))
        encoded |= {name: rows.weight, f"{name}.exponent": rows.exponent}
    for layer in layers(form.arch, form.num_classes):
        rows = _quantize_rows(tensors[layer.weight], tensors[layer.bias])
        encoded |= {layer.weight: rows.weight, layer.bias: rows.bias, layer.exponent: rows.exponent}
    return encoded


def dequantize(encoded: Mapping[str, Array], form: ModelForm) -> Arrays:
    """Return the float32 values of encoded tensors.

    Names and shapes are those of `architecture.model_shapes`. The values are exact, because float32 holds every
    ``q * 2^e`` of the grid.
    """
    tensors: Arrays = {}
    for name in input_scalings(form):
        tensors[name] = _scaled(encoded[name], encoded[f"{name}.exponent"])
    for layer in layers(form.arch, form.num_classes):
        tensors[layer.weight] = _scaled(encoded[layer.weight], encoded[layer.exponent])
        tensors[layer.bias] = _scaled(encoded[layer.bias], encoded[layer.exponent])
    return tensors


def value_violations(encoded: Mapping[str, Array], form: ModelForm) -> Iterator[Violation]:
    """Yield every rule that encoded tensors break.

    None if they are the one encoding of a usable model.
    """
    yield from row_violations(encoded, form)
    if "input.scale" in encoded and (encoded["input.scale"] <= 0).any():
        yield Violation(rule=Code.VALUE, where="input.scale", why="has a scale that is not positive")
    chain = layers(form.arch, form.num_classes)
    for layer, following in pairwise(chain):
        yield from _order_violations(layer, _rows(encoded, layer), encoded[following.weight])
    head = chain[-1].weight
    if not encoded[head].any(axis=1).all():
        yield Violation(rule=Code.VALUE, where=head, why="has a class whose row is all zero")


def row_violations(encoded: Mapping[str, Array], form: ModelForm) -> Iterator[Violation]:
    """Yield the broken rules of the grid alone.

    It also serves for what is no model, such as the change of one.
    """
    for name, length in input_scalings(form).items():
        no_bias = np.zeros(length, np.int16)
        yield from _row_violations(name, Rows(encoded[name], no_bias, encoded[f"{name}.exponent"]))
    for layer in layers(form.arch, form.num_classes):
        yield from _row_violations(layer.weight, _rows(encoded, layer))


def encode(encoded: Mapping[str, Array], specs: Sequence[TensorSpec]) -> bytes:
    """Write encoded tensors, int8 and int16, as canonical safetensors bytes."""
    data = (np.ascontiguousarray(encoded[spec.name], _DTYPES[spec.dtype]).tobytes() for spec in specs)
    return header(specs) + b"".join(data)


def decode(data: Buffer, specs: Sequence[TensorSpec]) -> Arrays:
    """View encoded tensors in safetensors bytes.

    The header is compared and never parsed.

    Returns:
        Read-only arrays that share the data's memory.

    Raises:
        MalformedError: the header is not the predicted one, or the length is wrong.
    """
    predicted = header(specs)
    view = memoryview(data).toreadonly()
    if view[: len(predicted)] != predicted or len(view) != encoded_bytes(specs):
        raise MalformedError(
            Code.HEADER_MISMATCH,
            "The weights are not laid out as their architecture demands; ask for a new bundle.",
        )
    encoded: Arrays = {}
    offset = len(predicted)
    for spec in specs:
        part = view[offset : offset + spec.num_bytes]
        encoded[spec.name] = np.frombuffer(part, _DTYPES[spec.dtype]).reshape(spec.shape)
        offset += spec.num_bytes
    return encoded


def header(specs: Sequence[TensorSpec]) -> bytes:
    """Return the header that the safetensors library writes for tensors.

    It is equal byte for byte.
    """
    entries: dict[str, object] = {}
    offset = 0
    for spec in specs:
        end = offset + spec.num_bytes
        entries[spec.name] = {"dtype": spec.dtype, "shape": spec.shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode("ascii")
    padded = text.ljust(-(-len(text) // 8) * 8)
    return len(padded).to_bytes(8, "little") + padded


def encoded_bytes(specs: Sequence[TensorSpec]) -> int:
    """Return the length of encoded tensors in bytes, header included."""
    return len(header(specs)) + sum(spec.num_bytes for spec in specs)


def largest_magnitude(name: str) -> float:
    """Return the largest value that the grid holds in a tensor.

    Biases have wider integers.
    """
    return (MAX_BIAS if name.endswith(".bias") else MAX_WEIGHT) * 2.0**MAX_EXPONENT


def _quantize_rows(weight: Array, bias: Array) -> Rows:
    """Round rows ``[R, ...]`` and biases ``[R]`` to one exponent each.

    The smallest exponent that holds both; float32 in, int8 and int16 out.
    """
    weight, bias = np.asarray(weight, np.float64), np.asarray(bias, np.float64)
    scales = 2.0 ** np.arange(MIN_EXPONENT, MAX_EXPONENT + 1)
    fits = (_peaks(weight)[:, None] <= MAX_WEIGHT * scales) & (np.abs(bias)[:, None] <= MAX_BIAS * scales)
    if not fits[:, -1].all():
        raise MalformedError(Code.VALUE, "A weight is too large for the grid; train with weight decay.")
    exponent = (MIN_EXPONENT + fits.argmax(axis=1)).astype(np.int8)
    return Rows(
        np.rint(np.ldexp(weight, -_along_rows(exponent, weight))).astype(np.int8),
        np.rint(np.ldexp(bias, -exponent.astype(np.int32))).astype(np.int16),
        exponent,
    )


def _scaled(integers: Array, exponent: Array) -> Array:
    values = np.ldexp(integers.astype(np.float32), _along_rows(exponent, integers))
    values.setflags(write=False)
    return values


def _along_rows(exponent: Array, like: Array) -> Array:
    """Reshape ``[R]`` to ``[R, 1, ...]``, wide enough to be negated."""
    return exponent.astype(np.int32).reshape(-1, *[1] * (like.ndim - 1))


def _peaks(weight: Array) -> Array:
    """Return the largest magnitude of each row ``[R, ...]`` as ``[R]``.

    Rows of int8 are not copied to a wider type.
    """
    flat = weight.reshape(len(weight), -1)
    peaks: Array = np.maximum(_magnitudes(flat.max(axis=1)), _magnitudes(flat.min(axis=1)))
    return peaks


def _magnitudes(values: Array) -> Array:
    """Return absolute values; integers are widened to hold 128.

    int8 ends at 127.
    """
    magnitudes: Array = np.abs(values.astype(np.int32) if values.dtype.kind == "i" else values)
    return magnitudes


def _rows(encoded: Mapping[str, Array], layer: Layer) -> Rows:
    return Rows(encoded[layer.weight], encoded[layer.bias], encoded[layer.exponent])


def _row_violations(where: str, rows: Rows) -> Iterator[Violation]:
    weight, bias = _peaks(rows.weight), _magnitudes(rows.bias)
    if (weight > MAX_WEIGHT).any() or (bias > MAX_BIAS).any():
        yield Violation(rule=Code.VALUE, where=where, why="has an integer outside the symmetric range")
    if ((rows.exponent < MIN_EXPONENT) | (rows.exponent > MAX_EXPONENT)).any():
        yield Violation(rule=Code.VALUE, where=where, why="has an exponent out of range")
    halves_fit = (2 * weight <= MAX_WEIGHT) & (2 * bias <= MAX_BIAS)
    if (halves_fit & (rows.exponent > MIN_EXPONENT)).any():
        yield Violation(rule=Code.VALUE, where=where, why="has a row whose exponent could be smaller")


def _order_violations(layer: Layer, rows: Rows, following: Array) -> Iterator[Violation]:
    order = _order(rows)
    if not order.ascends:
        yield Violation(rule=Code.UNIT_ORDER, where=layer.weight, why="has units out of their canonical order")
    if _any_in_use(_columns(following, layer), order.repeats):
        yield Violation(rule=Code.UNIT_ORDER, where=layer.weight, why="has a repeated unit that is still in use")


class _Order(NamedTuple):
    """Describe how units stand: in order or not, and which repeat.

    Repeats are the places whose unit is the same as the one before.
    """

    ascends: bool
    repeats: list[int]


def _order(rows: Rows) -> _Order:
    """Compare each unit with the one before by (bias, row, exponent).

    Rows are compared, as bytes, only where the biases tie.
    """
    ascends = bool((rows.bias[:-1] <= rows.bias[1:]).all())
    repeats = []
    for place in (1 + np.flatnonzero(rows.bias[:-1] == rows.bias[1:])).tolist():
        before, unit = _row_key(rows, place - 1), _row_key(rows, place)
        ascends &= before <= unit
        if before == unit:
            repeats.append(place)
    return _Order(ascends, repeats)


def _row_key(rows: Rows, place: int) -> tuple[bytes, int]:
    """Return what units of equal bias are ordered by."""
    return rows.weight[place].tobytes(), int(rows.exponent[place])


def _any_in_use(columns: Array, repeats: Sequence[int]) -> bool:
    """Return whether the next layer reads one of the repeated units.

    Columns are ``[rows, tiles, units, ...]``; one row is copied at a time.
    """
    places = np.array(repeats, np.intp)
    return bool(repeats) and any(row.take(places, axis=1).any() for row in columns)


def _columns(following: Array, layer: Layer) -> Array:
    """Return the next layer's weight by the unit that it reads.

    ``[rows, tiles, units, ...]``.
    """
    return following.reshape(len(following), layer.tiles, layer.units, *following.shape[2:])
