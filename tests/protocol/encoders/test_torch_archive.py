import io
import pickle  # noqa: TID251
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from protocol.encoders.torch_archive import read_tensors
from protocol.errors import MalformedError
from tests.protocol.encoders.files import archive

STATE = {
    "weight": torch.arange(12.0).reshape(2, 2, 3),
    "bias": torch.tensor([1.0, -2.0]),
    "half": torch.ones(3, dtype=torch.float16),
    "count": torch.tensor(7),
}


def saved(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)  # noqa: TID251
    return buffer.getvalue()


def members(data):
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return {name: file.read(name) for name in file.namelist()}


def with_index(index):
    """The archive with another pickle in it."""
    inside = members(saved(STATE))
    return archive({name: index if name.endswith("data.pkl") else data for name, data in inside.items()})


def test_a_state_dictionary_is_read_as_it_was_saved():
    found = read_tensors(saved(STATE))
    assert found.keys() == STATE.keys()
    for name, tensor in STATE.items():
        np.testing.assert_array_equal(found[name], tensor.numpy())
        assert found[name].dtype == tensor.numpy().dtype


def test_tensors_may_share_numbers():
    base = torch.arange(6.0)
    found = read_tensors(saved({"all": base, "end": base[2:]}))
    np.testing.assert_array_equal(found["end"], base[2:].numpy())


RAN = []


def run():
    RAN.append("ran")


class Runs:
    """Would run a function if it were unpickled."""

    def __reduce__(self):
        return run, ()


@pytest.mark.parametrize(
    "value",
    [
        Runs(),
        {"weight": Runs()},
        {"weight": print},
        {"weight": [1, 2]},
        {1: 2},
        [1],
        {"weight": 1.5},
        {"weight": b"bytes"},
        "text",
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_pickle_of_anything_else_is_refused_and_never_run(value, protocol):
    with pytest.raises(MalformedError):
        read_tensors(with_index(pickle.dumps(value, protocol)))
    assert RAN == []


@pytest.mark.parametrize(
    "state",
    [
        {"weight": STATE["weight"].transpose(0, 2)},
        {"weight": STATE["bias"].to(torch.int32)},
        {"weight": torch.nn.Parameter(STATE["bias"])},
        {"weight": STATE["bias"], "deep": {"weight": STATE["bias"]}},
        {"weight": torch.zeros(1, 1, 1, 1, 1)},
    ],
)
def test_tensors_that_are_not_plain_are_refused(state):
    with pytest.raises(MalformedError):
        read_tensors(saved(state))


def test_archives_that_are_not_what_torch_writes_are_refused():
    inside = members(saved(STATE))
    (root,) = {name.split("/")[0] for name in inside}
    numbers = next(name for name in inside if name.startswith(f"{root}/data/") and len(inside[name]) == 48)
    for changed in (
        b"no archive",
        archive({name: data for name, data in inside.items() if not name.endswith("data.pkl")}),
        archive({name: data for name, data in inside.items() if name != numbers}),
        archive(inside | {numbers: inside[numbers][:-4]}),
        archive(inside | {"other/data.pkl": b"}."}),
        archive(inside, zipfile.ZIP_DEFLATED),
        archive(inside | {f"{root}/many/{number}": b"" for number in range(5000)}),
    ):
        with pytest.raises(MalformedError):
            read_tensors(changed)


def test_a_cut_index_is_refused_wherever_it_is_cut():
    index = next(data for name, data in members(saved(STATE)).items() if name.endswith("data.pkl"))
    for length in range(0, len(index), 7):
        with pytest.raises(MalformedError):
            read_tensors(with_index(index[:length]))


@given(st.data())
def test_any_index_gives_tensors_or_a_refusal(data):
    index = bytearray(next(data for name, data in members(saved(STATE)).items() if name.endswith("data.pkl")))
    for _ in range(data.draw(st.integers(1, 4))):
        index[data.draw(st.integers(0, len(index) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = read_tensors(with_index(bytes(index)))
    except MalformedError:
        return
    assert all(isinstance(array, np.ndarray) for array in found.values())
