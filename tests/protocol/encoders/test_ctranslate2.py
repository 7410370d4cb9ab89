import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.encoders.ctranslate2 import read_tensors
from protocol.errors import Code, MalformedError
from tests.protocol.encoders.files import model_bin, tensor, text, whisper_tensors

NUMBERS = np.arange(6, dtype="<f2").reshape(2, 3)
HUGE = struct.pack("<I", 2**32 - 1)


def test_wanted_tensors_are_read_and_others_walked_over():
    tensors = whisper_tensors()
    wanted = {"encoder/conv1/bias", "encoder/num_heads", "encoder/layer_1/ffn/linear_0/weight"}
    found = read_tensors(model_bin(tensors), wanted)
    assert found.keys() == wanted
    for name, array in found.items():
        np.testing.assert_array_equal(array, tensors[name])


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", Code.TRUNCATED),
        (model_bin({}, version=5), Code.VERSION),
        (model_bin({"a": NUMBERS}, count=2), Code.VALUE),
        (model_bin({"a": NUMBERS}, count=2**32 - 1), Code.RANGE),
        (model_bin({"a": NUMBERS, "again": tensor("a", NUMBERS)}), Code.DUP_KEY),
        (model_bin({"a": tensor("a", NUMBERS, length=2**32 - 1)}), Code.SHAPE),
        (model_bin({"a": tensor("a", NUMBERS, rank=255)}), Code.SHAPE),
        (model_bin({"a": tensor("a", NUMBERS, kind=9)}), Code.TYPE),
        (model_bin({"a": tensor("a\0b", NUMBERS)}), Code.VALUE),
        (model_bin({"a": tensor("é", NUMBERS)}), Code.VALUE),
        (model_bin({"a": text("a") + b"\x04" + 4 * HUGE + b"\x00" + HUGE}), Code.SHAPE),
    ],
)
def test_what_no_such_file_says_is_refused(data, code):
    with pytest.raises(MalformedError) as caught:
        read_tensors(data, {"a"})
    assert caught.value.code is code


def test_every_cut_is_refused():
    whole = model_bin({"a": NUMBERS, "b": NUMBERS})
    for length in range(len(whole) - 4):  # the count of aliases at the end is not read
        with pytest.raises(MalformedError):
            read_tensors(whole[:length], {"a"})


@given(st.data())
def test_any_bytes_give_tensors_or_a_refusal(data):
    whole = bytearray(model_bin({"a": NUMBERS, "b": NUMBERS}))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = read_tensors(bytes(whole), {"a", "b"})
    except MalformedError:
        return
    assert found.keys() <= {"a", "b"}
