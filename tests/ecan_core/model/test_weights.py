import numpy as np
import pytest

from ecan_core.errors import ModelError
from ecan_core.model.architectures import ARCHITECTURES, architecture, build_network
from ecan_core.model.predict import predict_scores
from ecan_core.model.weights import load_arrays, to_arrays
from tests.ecan_core.blobs import random_inputs

DIM, NUM_CLASSES = 7, 3


def network(seed=0, arch="mlp", normalization="corpus"):
    return build_network(
        ARCHITECTURES[arch], input_dim=DIM, num_classes=NUM_CLASSES, normalization=normalization, seed=seed
    )


@pytest.mark.parametrize("arch", ["mlp", "tdnn"])
@pytest.mark.parametrize("normalization", ["none", "speaker"])
def test_weights_survive_the_way_out_and_in(arch, normalization):
    sent, received = network(1, arch, normalization), network(2, arch, normalization)
    load_arrays(received, to_arrays(sent))
    inputs = random_inputs(ARCHITECTURES[arch].front_end, DIM, count=9)
    np.testing.assert_allclose(predict_scores(sent, inputs), predict_scores(received, inputs), atol=1e-5)


def test_arrays_are_copies_that_training_cannot_change():
    source = network()
    arrays = to_arrays(source)
    arrays["bottleneck.weight"][:] = 0
    assert to_arrays(source)["bottleneck.weight"].any()


@pytest.mark.parametrize(
    "change",
    [
        lambda arrays: arrays.pop("head.bias"),
        lambda arrays: arrays.update({"bank.features": np.zeros((5, 128), np.float32)}),
        lambda arrays: arrays.update({"head.bias": np.zeros(NUM_CLASSES + 1, np.float32)}),
    ],
    ids=["missing", "unknown", "wrong shape"],
)
def test_weights_of_another_network_are_refused_and_name_the_tensor(change):
    arrays = to_arrays(network())
    change(arrays)
    with pytest.raises(ModelError, match=r"head\.bias|bank\.features"):
        load_arrays(network(), arrays)


def test_an_architecture_of_a_later_version_is_refused():
    assert architecture("mlp-stats-v1") is ARCHITECTURES["mlp"]
    with pytest.raises(ModelError, match="newer"):
        architecture("conformer-v9")
