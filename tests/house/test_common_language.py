"""The core and the protocol do not know each other: here is what they must nevertheless say alike."""

import numpy as np
import pytest

import source_site.commands.training
import target_site.commands.model
from ecan_core import labels
from ecan_core.adaptation.registry import METHODS
from ecan_core.adaptation.settings import COMMITTEES, DEFAULT_METHOD, OFFERED
from ecan_core.encoders.front_end import SelfSupervisedFrontEnd, WhisperFrontEnd, front_end_named
from ecan_core.encoders.selfsupervised import form
from ecan_core.model.architectures import ARCHITECTURES, build_network
from ecan_core.model.predict import predict_scores
from ecan_core.model.weights import to_arrays
from protocol.bundle import architecture, manifest, weights
from protocol.bundle.form import ModelForm
from protocol.encoders import canonical
from protocol.encoders.registry import PUBLIC_ENCODERS
from source_site.training.front_end import NETWORKS, NETWORKS_BY_WIDTH
from target_site.model.load import ModelCard
from tests.ecan_core.blobs import random_inputs


def test_both_name_the_same_emotions_in_the_same_order():
    assert labels.EMOTIONS == manifest.EMOTIONS


def test_both_know_the_same_architectures_and_front_ends():
    assert {arch.name: arch.front_end for arch in ARCHITECTURES.values()} == architecture.FRONT_ENDS
    for arch, name in architecture.FRONT_ENDS.items():
        assert front_end_named(name).name == name
        assert (arch in PUBLIC_ENCODERS) == isinstance(front_end_named(name), WhisperFrontEnd)
        assert (arch in architecture.READ_BY_ADDED) == isinstance(front_end_named(name), SelfSupervisedFrontEnd)
    assert form.WIDTHS == architecture.SSL_WIDTHS == tuple(NETWORKS_BY_WIDTH)
    assert form.MODEL_TYPES == canonical.MODEL_TYPES


def test_the_command_lines_offer_exactly_what_there_is():
    """They repeat the names because looking them up would import torch."""
    train, adapt = (
        {option.name: option for option in command.params}
        for command in (source_site.commands.training.train, target_site.commands.model.adapt)
    )
    chosen = {*NETWORKS.values(), *NETWORKS_BY_WIDTH.values()}
    assert chosen | set(train["encoder"].type.choices) == ARCHITECTURES.keys()
    assert all(ARCHITECTURES[network].front_end == name for name, network in NETWORKS.items())
    assert all(name in train["front_end"].help for name in ("auto", *NETWORKS))
    assert tuple(train["normalize"].type.choices) == architecture.NORMALIZATIONS
    assert tuple(adapt["normalize"].type.choices) == (*architecture.NORMALIZATIONS, "voice")
    assert tuple(adapt["method"].type.choices) == (*COMMITTEES, *METHODS)
    assert adapt["method"].default == DEFAULT_METHOD
    assert {*COMMITTEES[DEFAULT_METHOD], DEFAULT_METHOD} <= set(OFFERED) <= {*COMMITTEES, *METHODS}


@pytest.mark.parametrize("arch", ARCHITECTURES.values(), ids=lambda arch: arch.name)
@pytest.mark.parametrize("normalization", architecture.NORMALIZATIONS)
@pytest.mark.parametrize("num_classes", [2, 6, 12])
def test_a_network_crosses_and_answers_as_before(arch, normalization, num_classes):
    front_end = front_end_named(arch.front_end)
    network = build_network(arch, input_dim=front_end.dim, num_classes=num_classes, normalization=normalization, seed=1)
    sent = to_arrays(network)
    shapes = architecture.model_shapes(ModelForm(arch.name, num_classes, normalization))
    assert {name: array.shape for name, array in sent.items()} == dict(shapes)

    model_form = ModelForm(arch.name, num_classes, normalization)
    packed = weights.pack(sent, model_form)
    received = weights.dequantize(weights.unpack(packed, model_form), model_form)
    card = ModelCard(arch=arch.name, normalization=normalization, classes=labels.EMOTIONS[:num_classes])
    inputs = random_inputs(arch.front_end, front_end.dim, count=20)
    before, after = predict_scores(network, inputs), predict_scores(card.build(received), inputs)
    # Eight bits per weight cost a little; a mix-up of units, rows or classes would cost everything.
    np.testing.assert_allclose(before, after, atol=0.03)
    assert not np.array_equal(before, before[:, ::-1])
