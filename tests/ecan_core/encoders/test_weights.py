import os

import pytest
import torch

from ecan_core.encoders.weights import MAX_BYTES, read_weights
from ecan_core.errors import ModelError
from tests.ecan_core.encoders.small import write_weights

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.float16)}
SHAPES = {"a": (2, 3), "b": (2,)}


def test_the_file_that_is_meant_is_read_as_float32(tmp_path):
    digest = write_weights(tmp_path / "file", TENSORS)
    read = read_weights(tmp_path / "file", digest, SHAPES)
    assert {tensor.dtype for tensor in read.values()} == {torch.float32}
    torch.testing.assert_close(read["a"], TENSORS["a"])


def test_one_changed_bit_is_refused(tmp_path):
    digest = write_weights(tmp_path / "file", TENSORS)
    data = bytearray((tmp_path / "file").read_bytes())
    data[-1] ^= 1
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(ModelError, match="not the one that its name says"):
        read_weights(tmp_path / "file", digest, SHAPES)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"a": TENSORS["a"]}, "other tensors"),
        (TENSORS | {"c": torch.ones(1)}, "other tensors"),
        (TENSORS | {"a": torch.ones(3, 2)}, "other tensors"),
        (TENSORS | {"a": torch.full((2, 3), torch.inf)}, "numbers that no encoder has"),
        (TENSORS | {"a": torch.ones(2, 3, dtype=torch.int64)}, "numbers that no encoder has"),
    ],
)
def test_what_its_network_does_not_ask_for_is_refused(tmp_path, tensors, message):
    digest = write_weights(tmp_path / "file", tensors)
    with pytest.raises(ModelError, match=message):
        read_weights(tmp_path / "file", digest, SHAPES)


def test_links_pipes_and_huge_files_are_refused(tmp_path):
    digest = write_weights(tmp_path / "file", TENSORS)
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    for name in ("link", "pipe", "huge", "missing"):
        with pytest.raises(ModelError):
            read_weights(tmp_path / name, digest, SHAPES)
