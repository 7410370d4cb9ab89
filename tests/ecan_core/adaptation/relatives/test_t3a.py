"""T3A against its slow twin."""

import copy

import numpy as np
import pytest
import torch
from torch.nn import functional

from ecan_core.adaptation.relatives import t3a
from ecan_core.adaptation.relatives.t3a import adapt_t3a, support_sums
from ecan_core.adaptation.settings import AdaptSettings
from ecan_core.model.predict import predict_scores, run
from ecan_core.model.weights import to_arrays
from tests.ecan_core.adaptation.relatives import twins_gradient_free as twins
from tests.ecan_core.adaptation.relatives.draws import C, N, features_and_scores
from tests.ecan_core.blobs import NUM_CLASSES, blobs, trained_network


@pytest.fixture(scope="module")
def source():
    return trained_network()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("most", [1, 3, 64])
def test_support_sums_equal_their_slow_twin(monkeypatch, seed, most):
    monkeypatch.setattr(t3a, "SUPPORTS_PER_CLASS", most)
    supports, scores = features_and_scores(N, seed)
    classes = scores.argmax(dim=1)
    slow = twins.t3a_rows(supports.tolist(), scores.tolist(), classes.tolist(), C, most)
    torch.testing.assert_close(support_sums(supports, scores, classes), torch.tensor(slow, dtype=torch.float64))


def test_the_head_becomes_the_sums_of_its_own_rows_and_the_most_certain_utterances(source):
    network, inputs = copy.deepcopy(source), blobs(500, seed=21, shift=3.0)[0]
    embeddings, logits = run(network, inputs)
    rows = functional.normalize(network.head.direction.detach(), dim=1)
    scores = torch.cat([network.head(rows).detach(), logits]).double().softmax(dim=1)
    classes = [*range(NUM_CLASSES), *logits.argmax(dim=1).tolist()]
    slow = twins.t3a_rows(torch.cat([rows, embeddings]).tolist(), scores.tolist(), classes, NUM_CLASSES, 64)
    adapt_t3a(network, inputs, AdaptSettings(), seed=0)
    expected = functional.normalize(torch.tensor(slow), dim=1)
    torch.testing.assert_close(network.head.rows() / network.head.LENGTH, expected, atol=1e-4, rtol=1e-4)
    assert not network.head.bias.any()


def test_the_scores_are_those_of_the_network_as_it_is_now(source):
    network, inputs = copy.deepcopy(source), blobs(80, seed=21, shift=3.0)[0]
    records, scores = adapt_t3a(network, inputs, AdaptSettings(), seed=0)
    np.testing.assert_allclose(scores, predict_scores(network, inputs), atol=1e-6)
    assert [record.epoch for record in records] == [1]


def test_only_the_head_changes(source):
    network = copy.deepcopy(source)
    adapt_t3a(network, blobs(80, seed=21, shift=3.0)[0], AdaptSettings(), seed=0)
    before, after = to_arrays(source), to_arrays(network)
    assert {name for name in before if not np.array_equal(before[name], after[name])} == {"head.weight", "head.bias"}


def test_a_class_that_no_utterance_is_predicted_as_keeps_its_row(source):
    network, inputs = copy.deepcopy(source), blobs(2, seed=21)[0]
    absent = set(range(NUM_CLASSES)) - set(predict_scores(network, inputs).argmax(axis=1).tolist())
    adapt_t3a(network, inputs, AdaptSettings(), seed=0)
    assert absent
    for c in absent:
        torch.testing.assert_close(network.head.rows()[c], source.head.rows()[c])


def test_a_bias_that_takes_every_row_for_one_class_leaves_every_class_its_own_row(source):
    network = copy.deepcopy(source)
    with torch.no_grad():
        network.head.bias[0] = 100.0
    adapt_t3a(network, blobs(20, seed=21)[0], AdaptSettings(), seed=0)
    torch.testing.assert_close(network.head.rows()[1:], source.head.rows()[1:])
