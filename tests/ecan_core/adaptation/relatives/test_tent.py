"""TENT: one step against the slope of the entropy, and what may not move."""

import copy

import numpy as np
import pytest

from ecan_core.adaptation.relatives.tent import RATE, adapt_tent, shifts, training_only
from ecan_core.adaptation.settings import AdaptSettings
from ecan_core.model.architectures import ARCHITECTURES, build_network
from ecan_core.model.network import CosineHead
from ecan_core.model.weights import to_arrays
from tests.ecan_core.adaptation.relatives import twins_gradient_free as twins
from tests.ecan_core.blobs import blobs, random_inputs, trained_network

BIASES = {"encoder.0.bias", "bottleneck.bias"}


@pytest.fixture(scope="module")
def source():
    return trained_network()


def test_a_step_takes_every_bias_down_the_slope_of_the_mean_entropy(source):
    network, inputs = copy.deepcopy(source), blobs(6, seed=21, shift=3.0)[0]
    network.encoder.dropout.p = 0.0
    settings = AdaptSettings(epochs=1)
    adapt_tent(network, inputs, settings, seed=0)
    before, after = to_arrays(source), to_arrays(network)
    rows = np.stack([inputs.batch(i).numpy().astype(np.float64) for i in range(6)])
    exact = {name: array.astype(np.float64) for name, array in before.items()}
    width = 1e-5
    compared = 0
    for name in BIASES:
        for index in range(0, len(exact[name]), 8):
            values = []
            for sign in (1, -1):
                moved = exact[name].copy()
                moved[index] += sign * width
                values.append(twins.mean_entropy(exact | {name: moved}, rows, CosineHead.LENGTH))
            slope = (values[0] - values[1]) / (2 * width)
            if abs(slope) > 1e-5:  # the first step of AdamW has the slope's sign and the learning rate's size
                step = after[name][index] - before[name][index]
                assert step == pytest.approx(-np.sign(slope) * RATE * settings.learning_rate, rel=1e-2)
                compared += 1
    assert compared > 20


@pytest.mark.parametrize("arch", ["mlp", "tdnn"])
def test_nothing_but_the_biases_of_encoder_and_bottleneck_moves(arch):
    network = build_network(ARCHITECTURES[arch], input_dim=7, num_classes=3, normalization="corpus", seed=1)
    before = to_arrays(network)
    inputs = random_inputs(ARCHITECTURES[arch].front_end, 7, count=10)
    records, _ = adapt_tent(network, inputs, AdaptSettings(epochs=2, batch_size=4), seed=0)
    after = to_arrays(network)
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert moved == {name for name in before if name.endswith("bias") and not name.startswith("head")}
    assert [set(record.losses) for record in records] == [{"certainty"}] * 2


def test_predictions_become_more_certain(source):
    network, inputs = copy.deepcopy(source), blobs(200, seed=21, shift=3.0)[0]
    records, _ = adapt_tent(network, inputs, AdaptSettings(learning_rate=3e-3), seed=0)
    assert records[-1].health.confidence > records[0].health.confidence


def test_only_the_chosen_parameters_learn_and_afterwards_all_that_did_before(source):
    network = copy.deepcopy(source)
    network.head.bias.requires_grad_(False)

    def learning():
        return {name for name, parameter in network.named_parameters() if parameter.requires_grad}

    before = learning()
    with training_only(network, shifts(network)):
        assert learning() == {"encoder.layers.0.bias", "bottleneck.bias"}
    assert learning() == before


def test_everything_can_learn_again_after_a_fault(source):
    network = copy.deepcopy(source)

    def faulty():
        with training_only(network, []):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        faulty()
    assert all(parameter.requires_grad for parameter in network.parameters())
