"""LAME against its slow twin."""

import copy

import numpy as np
import pytest
import torch

from ecan_core.adaptation.banks import MemoryBanks
from ecan_core.adaptation.registry import METHODS, SCORING_METHODS
from ecan_core.adaptation.relatives import lame
from ecan_core.adaptation.relatives.lame import adapt_lame, affinity_times, all_neighbors, assign
from ecan_core.adaptation.settings import AdaptSettings
from ecan_core.model.predict import predict_scores
from ecan_core.model.weights import to_arrays
from tests.ecan_core.adaptation.relatives import twins_gradient_free as twins
from tests.ecan_core.adaptation.relatives.draws import K, N, features_and_scores
from tests.ecan_core.blobs import blobs, trained_network


@pytest.fixture(scope="module")
def source():
    return trained_network()


@pytest.mark.parametrize("seed", range(5))
def test_assignments_equal_their_slow_twin(seed):
    embeddings, scores = features_and_scores(N, seed)
    neighbors = all_neighbors(MemoryBanks(embeddings=embeddings, scores=scores), K)
    slow = twins.lame(scores.tolist(), embeddings.tolist(), K)
    torch.testing.assert_close(assign(scores, neighbors), torch.tensor(slow, dtype=torch.float64), atol=1e-4, rtol=0)


@pytest.mark.parametrize("seed", range(5))
def test_neighbor_lists_multiply_as_the_symmetric_affinity_does(seed):
    embeddings, scores = features_and_scores(N, seed)
    neighbors = all_neighbors(MemoryBanks(embeddings=embeddings, scores=scores), K)
    dense = torch.tensor(twins.affinity(embeddings.tolist(), K), dtype=torch.float64)
    assert torch.equal(dense, dense.T)
    torch.testing.assert_close(affinity_times(scores, neighbors), dense @ scores)


def test_neighbors_found_block_by_block_are_those_found_at_once(monkeypatch):
    embeddings, scores = features_and_scores(N, 1)
    banks = MemoryBanks(embeddings=embeddings, scores=scores)
    at_once = all_neighbors(banks, K)
    searched = []
    whole = lame.neighborhood
    monkeypatch.setattr(lame, "BLOCK_VALUES", 4 * N)
    monkeypatch.setattr(lame, "neighborhood", lambda rows, *rest: searched.append(len(rows)) or whole(rows, *rest))
    assert torch.equal(all_neighbors(banks, K), at_once)
    assert max(searched) * N <= lame.BLOCK_VALUES


def test_the_network_stays_as_it_is_and_the_scores_are_others(source):
    network, inputs = copy.deepcopy(source), blobs(80, seed=21, shift=3.0)[0]
    records, scores = adapt_lame(network, inputs, AdaptSettings(), seed=0)
    before, after = to_arrays(source), to_arrays(network)
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert records == []
    assert not np.allclose(scores, predict_scores(network, inputs))
    np.testing.assert_allclose(scores.sum(axis=1), 1.0, rtol=1e-5)


def test_it_is_no_method_of_a_command_because_it_leaves_nothing_to_save():
    assert SCORING_METHODS.keys() == {"lame"}
    assert not SCORING_METHODS.keys() & METHODS.keys()


def test_one_utterance_without_neighbors_keeps_its_scores(source):
    alone = blobs(1, seed=3)[0]
    _, scores = adapt_lame(source, alone, AdaptSettings(), seed=0)
    np.testing.assert_allclose(scores, predict_scores(source, alone), atol=1e-6)


def test_an_undecided_utterance_follows_its_decided_neighbors():
    embeddings = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.1], [1.0, -0.1]]), dim=1)
    scores = torch.tensor([[0.5, 0.5], [0.1, 0.9], [0.1, 0.9]])
    assigned = assign(scores, all_neighbors(MemoryBanks(embeddings=embeddings, scores=scores), 2))
    assert assigned[0, 1] > 0.8


def test_a_score_of_zero_gives_no_infinity():
    embeddings, _ = features_and_scores(4, 0)
    certain = torch.eye(4, dtype=torch.float64)
    assigned = assign(certain, all_neighbors(MemoryBanks(embeddings=embeddings, scores=certain), 2))
    assert torch.isfinite(assigned).all()
