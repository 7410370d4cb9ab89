import itertools
import math

import numpy as np
import pytest

from protocol.bundle import architecture, weights
from protocol.bundle.architecture import ARCHITECTURES, NORMALIZATIONS, Layer, tensor_specs
from protocol.bundle.form import ModelForm
from protocol.inspection import capacity
from protocol.inspection.capacity import largest_share


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_the_bound_is_what_is_written_less_what_the_rules_take_away(arch: str, normalization: str) -> None:
    bound = capacity.capacity(ModelForm(arch, 4, normalization))
    assert bound.written == 8 * sum(spec.num_bytes for spec in tensor_specs(ModelForm(arch, 4, normalization)))
    assert bound.bits == pytest.approx(bound.written - bound.by_values - sum(bound.by_order.values()))
    assert 0.98 * bound.written < bound.bits < bound.written
    assert bound.num_bytes == math.ceil(bound.bits / 8)


def test_the_order_of_256_units_takes_away_1684_bits() -> None:
    bound = capacity.capacity(ModelForm("mlp-stats-v1", 4, "speaker"))
    assert bound.by_order == pytest.approx({"encoder.0": 1683.996, "bottleneck": 716.162}, abs=0.001)


def count_accepted(normalization: str) -> int:
    """How many encodings of the registered form the verifier accepts, by trying all of them."""
    specs = tensor_specs(ModelForm("tiny", 2, normalization))
    ranges = [
        range(-weights.MAX_WEIGHT - 1, weights.MAX_WEIGHT + 1)
        if not spec.name.endswith(("bias", "exponent"))
        else range(-weights.MAX_BIAS, weights.MAX_BIAS + 1)
        if spec.name.endswith("bias")
        else range(weights.MIN_EXPONENT, weights.MAX_EXPONENT + 1)
        for spec in specs
        for _ in range(math.prod(spec.shape))
    ]
    accepted = 0
    for values in itertools.product(*ranges):
        places = iter(values)
        encoded = {
            spec.name: np.array([next(places) for _ in range(math.prod(spec.shape))], np.int8).reshape(spec.shape)
            for spec in specs
        }
        accepted += not any(weights.value_violations(encoded, ModelForm("tiny", 2, normalization)))
    return accepted


def test_the_bound_is_exact_where_no_layer_follows_and_all_encodings_can_be_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    head = (Layer(name="head", units=2, inputs=1, ordered=False),)
    monkeypatch.setattr(architecture, "layers", lambda arch, num_classes: head)
    for module in (weights, capacity):
        monkeypatch.setattr(module, "layers", lambda arch, num_classes: head)
        monkeypatch.setattr(module, "MAX_WEIGHT", 3)
        monkeypatch.setattr(module, "MAX_BIAS", 3)
        monkeypatch.setattr(module, "MIN_EXPONENT", 0)
        monkeypatch.setattr(module, "MAX_EXPONENT", 1)
    monkeypatch.setattr(capacity, "_HALF_WEIGHT", 1)
    monkeypatch.setattr(capacity, "_HALF_BIAS", 1)
    monkeypatch.setattr(capacity, "_LARGER_EXPONENTS", 1)
    assert count_accepted("speaker") == round(2 ** capacity.capacity(ModelForm("tiny", 2, "speaker")).bits)


def test_elements_of_input_vectors_are_counted_one_by_one() -> None:
    fits = [
        (value, exponent)
        for value in range(-127, 128)
        for exponent in range(-20, 9)
        if exponent == -20 or abs(value) >= 64
    ]
    assert capacity._num_elements(positive=False) == len(fits)
    assert capacity._num_elements(positive=True) == sum(value > 0 for value, _ in fits)


def test_the_share_is_that_of_the_shortest_corpus_in_the_bucket() -> None:
    assert largest_share(6000 * 3600, 0) == 1
    assert largest_share(6000 * 3600, -2) == 4
    assert largest_share(6000 * 3600, 3) == 1 / 8
