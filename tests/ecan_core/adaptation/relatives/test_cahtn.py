"""The rebuild of CaHTN against its slow twins."""

import copy

import numpy as np
import pytest
import torch

from ecan_core.adaptation.relatives.cahtn import LIKELY, UNLIKELY, adapt_cahtn, negative_loss, positive_loss
from ecan_core.adaptation.settings import AdaptSettings
from ecan_core.model.weights import to_arrays
from tests.ecan_core.adaptation.relatives import twins
from tests.ecan_core.adaptation.relatives.draws import C, N, features_and_scores
from tests.ecan_core.blobs import blobs, trained_network


@pytest.fixture(params=range(5))
def scores(request):
    return features_and_scores(N, request.param, sharpness=4.0)[1].requires_grad_()


def test_positive_loss_equals_its_slow_twin_and_moves_the_confident_rows_alone(scores):
    loss = positive_loss(scores)
    assert loss.item() == pytest.approx(twins.positive(scores.tolist(), LIKELY), abs=1e-5)
    assert loss.item() > 0.0
    loss.backward()
    assert torch.equal(scores.grad != 0, scores.detach() >= LIKELY)


def test_negative_loss_equals_its_slow_twin_and_moves_the_unlikely_entries_alone(scores):
    loss = negative_loss(scores)
    assert loss.item() == pytest.approx(twins.negative(scores.tolist(), UNLIKELY), abs=1e-5)
    loss.backward()
    assert torch.equal(scores.grad != 0, scores.detach() <= UNLIKELY)


@pytest.mark.parametrize("loss", [positive_loss, negative_loss])
def test_a_batch_without_confident_rows_costs_nothing_and_has_a_gradient_of_zero(loss):
    scores = torch.full((N, C), 1.0 / C, requires_grad=True)
    value = loss(scores)
    value.backward()
    assert value.item() == 0.0
    assert not scores.grad.any()


@pytest.mark.parametrize("loss", [positive_loss, negative_loss])
def test_complete_certainty_costs_nothing_and_has_a_finite_gradient(loss):
    scores = torch.eye(C).requires_grad_()
    value = loss(scores)
    value.backward()
    assert value.item() == 0.0
    assert torch.isfinite(scores.grad).all()


def test_the_head_stays_as_it_was_and_the_bottleneck_does_not():
    source = trained_network()
    network = copy.deepcopy(source)
    records, _ = adapt_cahtn(network, blobs(60, seed=2, shift=3.0)[0], AdaptSettings(epochs=2), seed=0)
    before, after = to_arrays(source), to_arrays(network)
    assert np.array_equal(after["head.weight"], before["head.weight"])
    assert not np.array_equal(after["bottleneck.weight"], before["bottleneck.weight"])
    assert records[0].losses.keys() == {"certainty", "diversity", "positive", "negative"}
