"""SHOT against its slow twin, and what it does when classes run empty."""

import copy
import math

import numpy as np
import pytest
import torch

from ecan_core.adaptation.relatives import shot
from ecan_core.adaptation.relatives.shot import adapt_shot, centroid_labels, label_loss
from ecan_core.adaptation.settings import AdaptSettings
from ecan_core.model.weights import to_arrays
from tests.ecan_core.adaptation.relatives import twins
from tests.ecan_core.adaptation.relatives.draws import C, N, features_and_scores
from tests.ecan_core.blobs import blobs, trained_network


@pytest.fixture(scope="module")
def source():
    return trained_network()


@pytest.mark.parametrize("seed", range(10))
def test_centroid_labels_equal_their_slow_twin(seed):
    embeddings, scores = features_and_scores(N, seed)
    assert centroid_labels(embeddings, scores).tolist() == twins.centroid_labels(embeddings.tolist(), scores.tolist())


def test_label_loss_equals_its_slow_twin_and_moves_the_scores():
    _, scores = features_and_scores(N, 3)
    scores.requires_grad_()
    labels = torch.arange(N) % C
    loss = label_loss(scores, labels)
    assert loss.item() == pytest.approx(twins.cross_entropy(scores.tolist(), labels.tolist()), abs=1e-5)
    loss.backward()
    assert torch.equal(scores.grad != 0, torch.eye(C, dtype=torch.bool)[labels])


def test_a_score_of_zero_costs_a_finite_amount():
    assert torch.isfinite(label_loss(torch.eye(C), torch.roll(torch.arange(C), 1)))


def test_a_class_that_nobody_predicts_takes_no_utterance_though_its_centroid_be_the_nearest():
    embeddings, _ = features_and_scores(N, 4)
    scores = torch.eye(C, dtype=torch.float64)[torch.arange(N) % (C - 1)]
    scores[0] = torch.tensor([0.6, 0.0, 0.0, 0.4])  # class 3 has its whole mass, and so its centroid, here
    assert C - 1 not in centroid_labels(embeddings, scores).tolist()


def test_a_class_that_runs_empty_between_the_rounds_stays_empty():
    angles = torch.tensor([0.0] * 5 + [90.0] * 5 + [10.0], dtype=torch.float64) * math.pi / 180
    embeddings = torch.stack([angles.cos(), angles.sin()], dim=1)
    scores = torch.tensor([[0.6, 0.4, 0.0]] * 5 + [[0.0, 0.4, 0.6]] * 5 + [[0.4, 0.6, 0.0]], dtype=torch.float64)
    assert scores.argmax(dim=1)[-1] == 1
    assert centroid_labels(embeddings, scores).tolist() == [0] * 5 + [2] * 5 + [0]


def test_labels_are_found_anew_for_every_epoch_in_evaluation_mode_and_learned_in_training_mode(source, monkeypatch):
    network, found, learned = copy.deepcopy(source), [], []

    def watched_labels(embeddings, scores):
        found.append(network.training)
        return centroid_labels(embeddings, scores)

    def watched_loss(scores, labels):
        learned.append(network.training)
        return label_loss(scores, labels)

    monkeypatch.setattr(shot, "centroid_labels", watched_labels)
    monkeypatch.setattr(shot, "label_loss", watched_loss)
    records, _ = adapt_shot(network, blobs(60, seed=2, shift=3.0)[0], AdaptSettings(epochs=3), seed=0)
    assert found == [False] * 3
    assert learned == [True] * 3
    assert records[0].losses.keys() == {"certainty", "diversity", "pseudo_labels"}


def test_the_head_stays_as_it_was_and_the_bottleneck_does_not(source):
    network = copy.deepcopy(source)
    adapt_shot(network, blobs(60, seed=2, shift=3.0)[0], AdaptSettings(epochs=2), seed=0)
    before, after = to_arrays(source), to_arrays(network)
    assert np.array_equal(after["head.weight"], before["head.weight"])
    assert not np.array_equal(after["bottleneck.weight"], before["bottleneck.weight"])


def test_two_utterances_are_enough(source):
    records, _ = adapt_shot(copy.deepcopy(source), blobs(2, seed=2)[0], AdaptSettings(epochs=2), seed=0)
    assert all(np.isfinite(list(record.losses.values())).all() for record in records)
