from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load, save

from protocol.encoders.canonical import canonical_bytes
from protocol.encoders.convert import converted, of_hugging_face
from protocol.encoders.registry import WHISPER
from protocol.errors import MalformedError
from tests.protocol.encoders.files import model_bin, whisper_tensors


def kept(tensors):
    return converted(WHISPER, model_bin(tensors))


def as_hugging_face(canonical, prefix="model.encoder."):
    """What Hugging Face's library saves of the same network: wider, with a prefix and a decoder."""
    wide = {f"{prefix}{name}": array.astype("<f4") for name, array in canonical.items()}
    return save(wide | {"model.decoder.embed_tokens.weight": np.zeros((3, 4), "<f4")})


def test_queries_keys_and_values_are_taken_apart():
    tensors = whisper_tensors()
    found = kept(tensors)
    fused = tensors["encoder/layer_1/self_attention/linear_0/weight"]
    np.testing.assert_array_equal(found["layers.1.self_attn.q_proj.weight"], fused[:4])
    np.testing.assert_array_equal(found["layers.1.self_attn.k_proj.weight"], fused[4:8])
    np.testing.assert_array_equal(found["layers.1.self_attn.v_proj.weight"], fused[8:])
    assert "layers.1.self_attn.k_proj.bias" not in found


def test_both_containers_give_the_same_bytes():
    found = kept(whisper_tensors())
    expected = canonical_bytes(found)
    for prefix in ("model.encoder.", "encoder."):
        assert canonical_bytes(of_hugging_face(as_hugging_face(found, prefix))) == expected


def test_a_canonical_file_is_sorted_narrow_and_holds_nothing_beside():
    found = kept(whisper_tensors())
    data = canonical_bytes(dict(reversed(found.items())))
    assert data == canonical_bytes(found)
    assert save(dict(sorted(load(data).items())), metadata=None) == data
    assert {array.dtype.str for array in load(data).values()} == {"<f2"}


def test_numbers_that_need_more_than_float16_keep_what_they_have():
    data = canonical_bytes({"a": np.array([1 / 3, 1e6], "<f4")})
    np.testing.assert_array_equal(load(data)["a"], np.array([1 / 3, 1e6], "<f4"))


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(number):
    with pytest.raises(MalformedError, match="not finite"):
        canonical_bytes({"a": np.array([1.0, number], "<f4")})


@pytest.mark.parametrize(
    "change",
    [
        {"encoder/conv1/bias": None},
        {"encoder/layer_1/self_attention/linear_0/bias": None},
        {"encoder/layer_0/self_attention/linear_0/bias": np.ones(12, "<f2")},
        {"encoder/layer_0/self_attention/linear_0/weight": np.ones((11, 4), "<f2")},
        {"encoder/layer_0/self_attention/linear_0/weight": np.ones(12, "<f2")},
    ],
)
def test_what_is_no_whisper_is_refused(change):
    tensors = {name: array for name, array in (whisper_tensors() | change).items() if array is not None}
    with pytest.raises(MalformedError):
        kept(tensors)


def test_hugging_face_files_that_are_damaged_or_another_model_are_refused():
    whole = as_hugging_face(kept(whisper_tensors()))
    for data in (b"", whole[:100], whole[:-1], save({"model.encoder.conv1.weight": np.zeros(3, "<f4")})):
        with pytest.raises(MalformedError):
            of_hugging_face(data)


def test_a_torch_container_is_read_as_one():
    encoder = replace(WHISPER, package=replace(WHISPER.package, container="torch"))
    with pytest.raises(MalformedError, match="archive"):
        converted(encoder, model_bin(whisper_tensors()))
