from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from protocol.bundle import architecture, weights
from protocol.bundle.architecture import (
    ARCHITECTURES,
    FRAME_DIM,
    NORMALIZATIONS,
    Layer,
    input_scalings,
    layers,
    tensor_specs,
)
from protocol.bundle.form import ModelForm
from protocol.bundle.weights import Array, Arrays
from protocol.errors import Code, MalformedError
from tests.protocol.samples import FORM, encoded_model, flipped, random_model, says_what_to_do

SPECS = tensor_specs(FORM)
SCALES = st.floats(-30, 4, allow_nan=False)


def forward(tensors: Arrays, arch: str, num_classes: int, inputs: Array) -> Array:
    """Logits ``[C]`` of one input ``[S]`` or ``[M, F]``: slow, obvious, and without any norm layer."""
    values = inputs.astype(np.float64)
    chain = layers(arch, num_classes)
    for layer in chain:
        values = apply(layer, tensors[layer.weight], tensors[layer.bias], values)
        if layer.tiles == 2:
            values = np.concatenate([values.mean(axis=1), values.std(axis=1)])
        if layer.name.startswith("encoder"):
            values = np.maximum(values, 0)
    return values


def random_input(arch: str) -> Array:
    shape = (FRAME_DIM, 30) if arch == "tdnn-frames-v1" else (layers(arch, 4)[0].inputs,)
    return np.random.default_rng(1).normal(size=shape)


def apply(layer: Layer, weight: Array, bias: Array, values: Array) -> Array:
    if layer.kernel is None:
        return np.asarray(weight @ values + bias)
    windows = np.lib.stride_tricks.sliding_window_view(values, layer.kernel, axis=1)
    return np.asarray(np.einsum("uik,ifk->uf", weight, windows) + bias[:, None])


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("num_classes", [2, 12])
def test_the_bytes_are_those_of_the_safetensors_library(arch: str, normalization: str, num_classes: int) -> None:
    form = ModelForm(arch, num_classes, normalization)
    packed = weights.pack(random_model(*form), form)
    assert packed == save(weights.decode(packed, tensor_specs(form)))
    assert len(packed) == weights.encoded_bytes(tensor_specs(form)) < 300_000


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_putting_units_in_order_changes_nothing_that_the_network_computes(arch: str) -> None:
    tensors = random_model(arch, 4, "corpus")
    ordered = weights.canonicalize(tensors, ModelForm(arch, 4, "corpus"))
    assert not np.array_equal(tensors["encoder.0.bias"], ordered["encoder.0.bias"])
    inputs = random_input(arch)
    np.testing.assert_allclose(forward(ordered, arch, 4, inputs), forward(tensors, arch, 4, inputs), rtol=1e-9)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_any_order_of_the_units_gives_the_same_bytes(arch: str) -> None:
    tensors = random_model(arch, 4, "corpus")
    shuffled = dict(tensors)
    chain = layers(arch, 4)
    rng = np.random.default_rng(2)
    for layer, following in pairwise(chain):
        order = rng.permutation(layer.units)
        shuffled[layer.weight] = shuffled[layer.weight][order]
        shuffled[layer.bias] = shuffled[layer.bias][order]
        columns = np.concatenate([order + tile * layer.units for tile in range(layer.tiles)])
        shuffled[following.weight] = shuffled[following.weight][:, columns]
    assert weights.pack(shuffled, ModelForm(arch, 4, "corpus")) == weights.pack(tensors, ModelForm(arch, 4, "corpus"))


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_units_that_occur_twice_are_merged_and_the_function_stays(arch: str) -> None:
    tensors = random_model(arch, 4, "corpus")
    for layer in layers(arch, 4)[:-1]:
        for copy in (3, 9):
            tensors[layer.weight][copy] = tensors[layer.weight][5]
            tensors[layer.bias][copy] = tensors[layer.bias][5]
    ordered = weights.canonicalize(tensors, ModelForm(arch, 4, "corpus"))
    encoded = weights.quantize(ordered, ModelForm(arch, 4, "corpus"))
    assert list(weights.value_violations(encoded, ModelForm(arch, 4, "corpus"))) == []
    inputs = random_input(arch)
    np.testing.assert_allclose(forward(ordered, arch, 4, inputs), forward(tensors, arch, 4, inputs), rtol=1e-4)


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(ARCHITECTURES),
    st.sampled_from(NORMALIZATIONS),
    st.integers(0, 2**32 - 1),
    st.lists(SCALES, min_size=8, max_size=8),
)
def test_packing_is_exact_to_half_a_step_and_a_second_time_exact(
    arch: str, normalization: str, seed: int, scales: list[float]
) -> None:
    form = ModelForm(arch, 4, normalization)
    tensors = random_model(*form, seed=seed)
    for index, name in enumerate(sorted(tensors)):
        tensors[name] = np.abs(tensors[name]) / np.abs(tensors[name]).max() * np.float32(2 ** scales[index % 8])
    tensors["head.weight"] += np.float32(0.1)  # a class must not vanish
    if normalization == "none":
        tensors["input.scale"] += np.float32(0.1)
    packed = weights.pack(tensors, form)
    unpacked = weights.dequantize(weights.unpack(packed, form), form)
    assert weights.pack(unpacked, form) == packed

    expected = weights.canonicalize(tensors, form)
    for layer in layers(arch, 4):
        weight = expected[layer.weight].reshape(layer.units, -1).astype(np.float64)
        bias = expected[layer.bias].astype(np.float64)
        half_step = np.maximum.reduce(
            [np.abs(weight).max(axis=1) / 127, np.abs(bias) / 32767, np.full(layer.units, 2.0**-21)]
        )
        weight_error = np.abs(unpacked[layer.weight].reshape(layer.units, -1) - weight).max(axis=1)
        assert (weight_error <= half_step).all()
        assert (np.abs(unpacked[layer.bias] - bias) <= half_step).all()


@pytest.mark.parametrize(
    ("weight", "bias", "expected"),
    [
        (0.0, 0.0, (0, 0, -20)),
        (2.0**-20, 0.0, (1, 0, -20)),
        (127 * 2.0**-20, 0.0, (127, 0, -20)),
        (128 * 2.0**-20, 0.0, (64, 0, -19)),
        (1.0, 0.5, (64, 32, -6)),
        (-1.0, -0.5, (-64, -32, -6)),
        (0.0, 1.0, (0, 16384, -14)),
        (2.0**-14, 1.0, (1, 16384, -14)),
        (0.0, 32767 * 2.0**-20, (0, 32767, -20)),
        (127 * 16.0, 0.0, (127, 0, 4)),
        (0.0, 32767 * 16.0, (0, 32767, 4)),
    ],
)
def test_a_row_takes_the_smallest_exponent_that_holds_its_weights_and_its_bias(
    weight: float, bias: float, expected: tuple[int, int, int]
) -> None:
    tensors = random_model()
    tensors["head.weight"][0] = 0
    tensors["head.weight"][0, 0] = weight
    tensors["head.bias"][0] = bias
    encoded = weights.quantize(tensors, FORM)
    row = (encoded["head.weight"][0, 0], encoded["head.bias"][0], encoded["head.exponent"][0])
    assert tuple(map(int, row)) == expected


@pytest.mark.parametrize(("name", "value"), [("head.weight", 127 * 256.5), ("head.bias", 32768 * 256.0)])
def test_a_value_beyond_the_grid_is_refused(name: str, value: float) -> None:
    tensors = random_model()
    tensors[name].flat[0] = value
    with pytest.raises(MalformedError) as caught:
        weights.pack(tensors, FORM)
    assert caught.value.code == "VALUE"


def test_the_largest_values_of_the_grid_are_packed_and_come_back() -> None:
    tensors = random_model()
    for name in ("head.weight", "head.bias"):
        tensors[name].flat[0] = weights.largest_magnitude(name)
    unpacked = weights.dequantize(weights.unpack(weights.pack(tensors, FORM), FORM), FORM)
    assert unpacked["head.weight"].max() == 127 * 256  # its column has moved
    assert unpacked["head.bias"][0] == 32767 * 256


def test_integers_of_another_width_are_written_in_that_of_the_format() -> None:
    encoded = encoded_model()
    wide = {name: array.astype(">i4") for name, array in encoded.items()}
    assert weights.encode(wide, SPECS) == weights.encode(encoded, SPECS)


def test_unpacked_tensors_cannot_be_written_to() -> None:
    unpacked = weights.unpack(weights.pack(random_model(), FORM), FORM)
    for tensors in (unpacked, weights.dequantize(unpacked, FORM)):
        with pytest.raises(ValueError, match="read-only"):
            tensors["head.bias"][0] = 1


def header_variants() -> dict[str, bytes]:
    """Files that the safetensors library would load, or nearly, and that are not the predicted one."""
    packed = weights.pack(random_model(), FORM)
    header = weights.header(SPECS)
    text, data = header[8:].rstrip(), packed[len(header) :]

    def with_text(changed: bytes, tail: bytes = data) -> bytes:
        assert changed != text or tail != data
        padded = changed.ljust(-(-len(changed) // 8) * 8)
        return len(padded).to_bytes(8, "little") + padded + tail

    return {
        "empty": b"",
        "no-data": header,
        "one-byte-short": packed[:-1],
        "one-byte-long": packed + b"\0",
        "free-text-metadata": with_text(b'{"__metadata__":{"note":"secret"},' + text[1:]),
        "duplicate-tensor": with_text(b'{"head.bias":{"dtype":"I16","shape":[4],"data_offsets":[0,8]},' + text[1:]),
        "unknown-inner-key": with_text(text.replace(b'"dtype":"I16"', b'"note":1,"dtype":"I16"', 1)),
        "zero-size-tensor": with_text(b'{"secret":{"dtype":"I8","shape":[0],"data_offsets":[0,0]},' + text[1:]),
        "escaped-name": with_text(text.replace(b"head.bias", rb"\u0068ead.bias")),
        "path-as-name": with_text(text.replace(b"head.bias", b"../ad.bias")),
        "renamed": with_text(text.replace(b"head.bias", b"tail.bias")),
        "memory-bank": with_text(text.replace(b"head.bias", b"bank.bias")),
        "running-statistics": with_text(
            b'{"norm.running_mean":{"dtype":"I8","shape":[0],"data_offsets":[0,0]},' + text[1:]
        ),
        "transposed": with_text(text.replace(b"[128,256]", b"[256,128]")),
        "float-type": with_text(text.replace(b'"I16"', b'"F16"', 1)),
        "unsigned-type": with_text(text.replace(b'"I8"', b'"U8"', 1)),
        "negative-offset": with_text(text.replace(b'"data_offsets":[0,', b'"data_offsets":[-0,', 1)),
        "overflowing-shape": with_text(text.replace(b"[128,256]", b"[18446744073709551615,2]")),
        "spaces-inside": with_text(text.replace(b",", b", ", 1)),
        "space-before": with_text(b" " + text),
        "more-padding": len(header).to_bytes(8, "little") + header[8:] + b" " * 8 + data,
        "newline-padding": with_text(text + b"\n"),
        "header-length-2-to-63": (1 << 63).to_bytes(8, "little") + packed[8:],
        "tensor-missing": with_text(text.replace(b'"head.exponent":', b'"head.exponen":')),
        "hole": with_text(text, data + bytes(8)),
    }


@pytest.mark.parametrize("name", header_variants())
def test_any_header_but_the_predicted_one_is_refused(name: str) -> None:
    with pytest.raises(MalformedError) as caught:
        weights.unpack(header_variants()[name], FORM)
    assert caught.value.code == "HEADER_MISMATCH"


def test_every_flipped_bit_of_the_header_is_refused() -> None:
    packed = weights.pack(random_model(), FORM)
    for bit in range(8 * len(weights.header(SPECS))):
        with pytest.raises(MalformedError):
            weights.decode(flipped(packed, bit), SPECS)


def swap_units(encoded: Arrays) -> None:
    for name in ("encoder.0.weight", "encoder.0.bias", "encoder.0.exponent"):
        encoded[name][[0, 1]] = encoded[name][[1, 0]]
    encoded["bottleneck.weight"][:, [0, 1]] = encoded["bottleneck.weight"][:, [1, 0]]


def swap_features(encoded: Arrays) -> None:
    for name in ("bottleneck.weight", "bottleneck.bias", "bottleneck.exponent"):
        encoded[name][[5, 9]] = encoded[name][[9, 5]]
    encoded["head.weight"][:, [5, 9]] = encoded["head.weight"][:, [9, 5]]


def repeat_a_unit_in_use(encoded: Arrays) -> None:
    for name in ("encoder.0.weight", "encoder.0.bias", "encoder.0.exponent"):
        encoded[name][1] = encoded[name][0]


def halve_a_row(encoded: Arrays) -> None:
    encoded["head.weight"][0] //= 2
    encoded["head.bias"][0] //= 2
    encoded["head.exponent"][0] += 1


def set_item(name: str, value: int) -> Callable[[Arrays], None]:
    def change(encoded: Arrays) -> None:
        encoded[name].flat[0] = value

    return change


def zero_class(encoded: Arrays) -> None:
    encoded["head.weight"][2] = 0
    encoded["head.bias"][2] = 20_000


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (set_item("head.weight", -128), "VALUE"),
        (set_item("encoder.0.weight", -128), "VALUE"),
        (set_item("head.bias", -32768), "VALUE"),
        (set_item("head.exponent", 9), "VALUE"),
        (set_item("head.exponent", -21), "VALUE"),
        (set_item("head.exponent", 127), "VALUE"),
        (halve_a_row, "VALUE"),
        (zero_class, "VALUE"),
        (swap_units, "UNIT_ORDER"),
        (swap_features, "UNIT_ORDER"),
        (repeat_a_unit_in_use, "UNIT_ORDER"),
    ],
    ids=lambda case: getattr(case, "__name__", ""),
)
def test_weights_in_any_but_their_one_encoding_are_refused(change: Callable[[Arrays], None], code: str) -> None:
    encoded = encoded_model()
    assert weights.unpack(weights.encode(encoded, SPECS), FORM)
    change(encoded)
    with pytest.raises(MalformedError) as caught:
        weights.unpack(weights.encode(encoded, SPECS), FORM)
    assert caught.value.code == code
    assert says_what_to_do(caught)


def test_an_all_zero_model_is_refused() -> None:
    encoded = {name: np.zeros_like(array) for name, array in encoded_model().items()}
    with pytest.raises(MalformedError) as caught:
        weights.unpack(weights.encode(encoded, SPECS), FORM)
    assert caught.value.code == "VALUE"


def obvious_violations(encoded: Arrays, arch: str, num_classes: int, normalization: str) -> list[tuple[Code, str]]:
    """`weights.value_violations` once more: slow, element by element, and plain to see."""
    found: list[tuple[Code, str]] = []
    chain = layers(arch, num_classes)
    for name, length in input_scalings(ModelForm(arch, num_classes, normalization)).items():
        found += obvious_row_violations(name, encoded[name], [0] * length, encoded[f"{name}.exponent"])
        if name == "input.scale" and any(int(value) <= 0 for value in encoded[name]):
            found.append((Code.VALUE, name))
    for layer in chain:
        found += obvious_row_violations(
            layer.weight, encoded[layer.weight], encoded[layer.bias].tolist(), encoded[layer.exponent]
        )
    for layer, following in pairwise(chain):
        units = [
            (int(bias), row.tobytes(), int(exponent))
            for bias, row, exponent in zip(
                encoded[layer.bias], encoded[layer.weight], encoded[layer.exponent], strict=True
            )
        ]
        if units != sorted(units):
            found.append((Code.UNIT_ORDER, layer.weight))
        columns = [
            tile * layer.units + place
            for place in range(1, layer.units)
            for tile in range(layer.tiles)
            if units[place] == units[place - 1]
        ]
        if any(encoded[following.weight][:, column].any() for column in columns):
            found.append((Code.UNIT_ORDER, layer.weight))
    if any(not row.any() for row in encoded["head.weight"]):
        found.append((Code.VALUE, "head.weight"))
    return found


def obvious_row_violations(where: str, weight: Array, bias: list[int], exponent: Array) -> list[tuple[Code, str]]:
    rows = [[int(value) for value in row.flat] for row in weight.reshape(len(weight), -1)]
    exponents = [int(value) for value in exponent]
    outside = any(not -127 <= value <= 127 for row in rows for value in row)
    outside |= any(not -32767 <= value <= 32767 for value in bias)
    too_large = any(
        e > -20 and max(map(abs, row)) < 64 and abs(b) < 16384 for row, b, e in zip(rows, bias, exponents, strict=True)
    )
    return [(Code.VALUE, where)] * (outside + any(not -20 <= e <= 8 for e in exponents) + too_large)


SMALL = (
    Layer(name="encoder.0", units=7, inputs=3, kernel=2, tiles=2),
    Layer(name="bottleneck", units=4, inputs=14),
    Layer(name="head", units=2, inputs=4, ordered=False),
)
EDGES = st.sampled_from([-128, -127, -64, -63, -1, 0, 0, 0, 1, 63, 64, 127])
BIASES = st.sampled_from([-32768, -32767, -16384, -16383, -1, 0, 0, 0, 16383, 16384, 32767])
EXPONENTS = st.sampled_from([-21, -20, -20, -20, -20, -19, 8, 9])


@settings(max_examples=300, deadline=None)
@given(st.data(), st.booleans())
def test_the_rules_for_values_are_those_of_a_slow_and_obvious_twin(data: st.DataObject, in_order: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(architecture._ENCODERS, "small", SMALL[:1])
        patch.setattr(architecture, "EMBEDDING_DIM", SMALL[1].units)
        assert layers("small", 2) == SMALL
        encoded: Arrays = {}
        for spec in tensor_specs(ModelForm("small", 2, "none")):
            of = BIASES if spec.dtype == "I16" else EXPONENTS if spec.name.endswith("exponent") else EDGES
            length = int(np.prod(spec.shape))
            values = data.draw(st.lists(of, min_size=length, max_size=length))
            encoded[spec.name] = np.array(values, np.int16 if spec.dtype == "I16" else np.int8).reshape(spec.shape)
        if in_order:  # or nearly no example would come as far as the rule for repeated units
            for layer in SMALL[:2]:
                parts = [encoded[name] for name in (layer.weight, layer.bias, layer.exponent)]
                for part in parts:
                    part[1:3] = part[0]
                keys = [(int(b), w.tobytes(), int(e)) for w, b, e in zip(*parts, strict=True)]
                order = sorted(range(layer.units), key=keys.__getitem__)
                for part in parts:
                    part[:] = part[order]
        found = [
            (violation.rule, violation.where)
            for violation in weights.value_violations(encoded, ModelForm("small", 2, "none"))
        ]
        assert sorted(found) == sorted(obvious_violations(encoded, "small", 2, "none"))


@pytest.mark.parametrize("seed", range(5))
def test_the_twin_agrees_about_whole_models_with_a_few_changed_values(seed: int) -> None:
    rng = np.random.default_rng(seed)
    encoded = encoded_model(seed)
    assert obvious_violations(encoded, *FORM) == []
    for name in rng.choice(sorted(encoded), 3):
        array = encoded[name]
        array.flat[rng.integers(array.size)] = rng.choice([np.iinfo(array.dtype).min, 0, 1, 100])
    found = [(violation.rule, violation.where) for violation in weights.value_violations(encoded, FORM)]
    assert found == obvious_violations(encoded, *FORM)


@pytest.mark.parametrize("scale", [0, -64])
def test_an_input_scale_that_is_not_positive_is_refused(scale: int) -> None:
    form = ModelForm("mlp-stats-v1", 4, "none")
    encoded = weights.decode(weights.pack(random_model(*form), form), tensor_specs(form))
    encoded["input.scale"] = encoded["input.scale"].copy()
    encoded["input.scale"][7] = scale
    encoded["input.scale.exponent"] = np.full_like(encoded["input.scale.exponent"], -20)
    with pytest.raises(MalformedError, match=r"input\.scale") as caught:
        weights.unpack(weights.encode(encoded, tensor_specs(form)), form)
    assert caught.value.code == "VALUE"
