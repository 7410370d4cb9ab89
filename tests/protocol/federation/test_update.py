"""The gate that an update passes before it leaves a site."""

import numpy as np
import pytest

from protocol.bundle import weights
from protocol.bundle.architecture import ARCHITECTURES, tensor_specs
from protocol.bundle.form import ModelForm
from protocol.errors import RefusedError
from protocol.federation import update

ARCH, CLASSES = "mlp-stats-v1", 4
SPECS = tensor_specs(ModelForm(ARCH, CLASSES, "corpus"))
LONGEST = 2.0


def random_update(length: float = 1.0, arch: str = ARCH) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    drawn = {
        name: random.standard_normal(shape).astype(np.float32) for name, shape in update.shapes(arch, CLASSES).items()
    }
    factor = np.float32(length / update.length_of(drawn))
    return {name: factor * array for name, array in drawn.items()}


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_an_update_comes_back_nearly_as_it_was(arch):
    drawn = random_update(arch=arch)
    back = update.check_update(update.encode_update(drawn, arch, CLASSES), arch, CLASSES, LONGEST)
    error = {name: back[name] - drawn[name] for name in drawn}
    assert back.keys() == drawn.keys()
    assert update.length_of(error) < 0.02


def test_an_update_as_long_as_is_allowed_passes_in_spite_of_rounding():
    update.check_update(update.encode_update(random_update(LONGEST), ARCH, CLASSES), ARCH, CLASSES, LONGEST)


def test_no_change_at_all_is_an_update():
    nothing = {name: 0 * array for name, array in random_update().items()}
    assert (
        update.length_of(update.check_update(update.encode_update(nothing, ARCH, CLASSES), ARCH, CLASSES, LONGEST)) == 0
    )


def one_more_tensor(encoded):
    specs = [*SPECS, type(SPECS[0])(name="zbank", dtype="I8", shape=(8,))]
    return weights.encode(encoded | {"zbank": np.zeros(8, np.int8)}, specs)


def one_byte_more(encoded):
    return weights.encode(encoded, SPECS) + b"x"


def other_classes(encoded):
    return update.encode_update(
        {name: np.zeros(shape, np.float32) for name, shape in update.shapes(ARCH, CLASSES + 1).items()},
        ARCH,
        CLASSES + 1,
    )


def free_exponent(encoded):
    return weights.encode(
        encoded | {"head.weight": encoded["head.weight"] * 0, "head.bias": encoded["head.bias"] * 0}, SPECS
    )


def too_long(encoded):
    return update.encode_update(random_update(1.1 * LONGEST), ARCH, CLASSES)


@pytest.mark.parametrize("spoil", [one_more_tensor, one_byte_more, other_classes, free_exponent, too_long])
def test_what_is_no_update_does_not_leave(spoil):
    encoded = weights.quantize(random_update(), ModelForm(ARCH, CLASSES, "corpus"))
    with pytest.raises(RefusedError):
        update.check_update(spoil(encoded), ARCH, CLASSES, LONGEST)


def test_a_sum_of_updates_may_be_as_long_as_so_many_rounds_come_to():
    drawn = random_update(2 * LONGEST)
    update.refuse_foreign(drawn, ARCH, CLASSES, 2 * LONGEST)
    for longest, change in (
        (LONGEST, drawn),
        (0.0, drawn),
        (9.0, drawn | {"head.bias": np.full(CLASSES, np.nan, np.float32)}),
        (9.0, drawn | {"head.bias": np.zeros(CLASSES)}),
        (9.0, {name: array for name, array in drawn.items() if name != "head.bias"}),
    ):
        with pytest.raises(RefusedError, match="no sum of updates"):
            update.refuse_foreign(change, ARCH, CLASSES, longest)


def test_copies_count_against_the_budget_and_are_listed(tmp_path):
    data = update.encode_update(random_update(), ARCH, CLASSES)
    for _ in range(2):
        update.keep_copy(tmp_path, b"w" * 32, data, budget=2)
    with pytest.raises(RefusedError, match="2 updates of this model have left"):
        update.keep_copy(tmp_path, b"w" * 32, data, budget=2)
    update.keep_copy(tmp_path, b"v" * 32, data, budget=2)
    listing = update.list_left(tmp_path)
    assert [one["update"] for one in listing] == [1, 1, 2]
    for one in listing:
        assert (
            sum(tensor["bytes"] for tensor in one["tensors"]) + len(weights.header(SPECS)) == one["bytes"] == len(data)
        )
        assert one["length"] == pytest.approx(1.0, rel=0.02)
        assert np.sqrt(sum(tensor["length"] ** 2 for tensor in one["tensors"])) == pytest.approx(one["length"])
    assert "3 updates have left this site" in update.format_left(listing)
