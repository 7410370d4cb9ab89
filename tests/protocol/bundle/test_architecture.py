from itertools import pairwise

import pytest

from protocol.bundle.architecture import (
    ARCHITECTURES,
    FRAME_DIM,
    FRONT_ENDS,
    NORMALIZATIONS,
    READ_BY_ADDED,
    SSL_WIDTHS,
    STATISTICS_DIM,
    WHISPER_DIM,
    layers,
    model_shapes,
    tensor_specs,
)
from protocol.bundle.form import ModelForm
from protocol.encoders.registry import ENCODERS, PUBLIC_ENCODERS, WHISPER, AddedEncoder, encoder_of
from protocol.errors import MalformedError
from tests.protocol.samples import says_what_to_do


def test_the_statistics_network_has_these_tensors() -> None:
    assert model_shapes(ModelForm("mlp-stats-v1", 5, "corpus")) == {
        "encoder.0.weight": (256, STATISTICS_DIM),
        "encoder.0.bias": (256,),
        "bottleneck.weight": (128, 256),
        "bottleneck.bias": (128,),
        "head.weight": (5, 128),
        "head.bias": (5,),
    }


def test_the_network_on_a_public_encoder_is_no_larger_than_the_one_on_statistics() -> None:
    shapes = model_shapes(ModelForm("mlp-stats-whisper-v1", 5, "corpus"))
    assert shapes["encoder.0.weight"] == (96, STATISTICS_DIM + WHISPER_DIM)
    assert shapes["bottleneck.weight"] == (128, 96)

    def size(arch: str) -> int:
        return sum(spec.num_bytes for spec in tensor_specs(ModelForm(arch, 5, "corpus")))

    assert size("mlp-stats-whisper-v1") < size("mlp-stats-v1") < WHISPER.num_bytes / 60


@pytest.mark.parametrize(("arch", "units"), [("mlp-stats-ssl-768-v1", 96), ("mlp-stats-ssl-1024-v1", 80)])
def test_the_networks_on_an_added_encoder_are_no_larger_than_the_one_on_statistics(arch: str, units: int) -> None:
    width = int(arch.split("-")[3])
    assert width in SSL_WIDTHS
    assert arch in READ_BY_ADDED
    assert model_shapes(ModelForm(arch, 5, "corpus"))["encoder.0.weight"] == (units, STATISTICS_DIM + width)
    sizes = [
        sum(spec.num_bytes for spec in tensor_specs(ModelForm(name, 5, "none"))) for name in (arch, "mlp-stats-v1")
    ]
    assert sizes[0] < sizes[1]


def test_the_encoder_of_a_model_is_known_one_added_one_or_none() -> None:
    assert encoder_of("mlp-stats-v1") is None
    assert encoder_of("mlp-stats-whisper-v1") is WHISPER
    assert encoder_of("mlp-stats-ssl-768-v1", "ab" * 32) == AddedEncoder(sha256="ab" * 32)


def test_an_architecture_fixes_the_one_public_encoder_that_it_is_read_by() -> None:
    assert PUBLIC_ENCODERS == {"mlp-stats-whisper-v1": WHISPER}
    assert WHISPER is ENCODERS["whisper-tiny.en"]
    assert WHISPER.sha256 == "2b8c09a0cb9b5a163f8c3dcb7d5b90bcaaca22fbc0e5c49f8f38926c2196ca60"


@pytest.mark.parametrize("arch", [*PUBLIC_ENCODERS, *READ_BY_ADDED])
def test_nothing_of_the_encoder_has_a_name_in_a_bundle(arch: str) -> None:
    names = {spec.name for spec in tensor_specs(ModelForm(arch, 12, "none"))}
    assert {name.split(".")[0] for name in names} == {"input", "encoder", "bottleneck", "head"}
    assert {name for name in names if name.startswith("encoder.")} == {
        f"encoder.0.{part}" for part in ("weight", "bias", "exponent")
    }


def test_the_frame_network_has_these_weights() -> None:
    shapes = model_shapes(ModelForm("tdnn-frames-v1", 3, "none"))
    assert {name: shape for name, shape in shapes.items() if not name.endswith("bias")} == {
        "input.center": (FRAME_DIM,),
        "input.scale": (FRAME_DIM,),
        "encoder.0.weight": (128, FRAME_DIM, 5),
        "encoder.1.weight": (128, 128, 3),
        "encoder.2.weight": (256, 128, 1),
        "bottleneck.weight": (128, 512),
        "head.weight": (3, 128),
    }


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_each_layer_reads_what_the_one_before_gives(arch: str) -> None:
    chain = layers(arch, 4)
    for layer, following in pairwise(chain):
        assert following.inputs == layer.units * layer.tiles
    assert [layer.name for layer in chain if not layer.ordered] == ["head"]
    assert arch in FRONT_ENDS


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_every_float_tensor_has_an_encoded_twin_and_an_exponent_per_row(arch: str, normalization: str) -> None:
    encoded = {spec.name: spec for spec in tensor_specs(ModelForm(arch, 6, normalization))}
    shapes = model_shapes(ModelForm(arch, 6, normalization))
    assert {name: spec.shape for name, spec in encoded.items() if not name.endswith("exponent")} == shapes
    for name, spec in encoded.items():
        assert spec.dtype == ("I16" if name.endswith(".bias") else "I8")
        if name.endswith(".exponent"):
            owner = name.removesuffix(".exponent")
            assert spec.shape == (shapes[owner] if owner in shapes else shapes[f"{owner}.weight"])[:1]


@pytest.mark.parametrize(
    ("arch", "num_classes", "normalization", "code"),
    [
        ("vgg-11", 4, "corpus", "ENUM"),
        ("mlp-stats-v1", 1, "corpus", "RANGE"),
        ("mlp-stats-v1", 13, "corpus", "RANGE"),
        ("mlp-stats-v1", 4, "batch", "ENUM"),
    ],
)
def test_an_unknown_form_is_refused(arch: str, num_classes: int, normalization: str, code: str) -> None:
    with pytest.raises(MalformedError) as caught:
        tensor_specs(ModelForm(arch, num_classes, normalization))
    assert caught.value.code == code
    assert says_what_to_do(caught)
