"""NRC against its slow twin."""

import copy

import numpy as np
import pytest
import torch

from ecan_core.adaptation.banks import MemoryBanks
from ecan_core.adaptation.losses.neighbor import neighborhood
from ecan_core.adaptation.relatives.nrc import adapt_nrc, reciprocal_loss
from ecan_core.adaptation.settings import AdaptSettings
from tests.ecan_core.adaptation.relatives import twins
from tests.ecan_core.adaptation.relatives.draws import K, batch_with_banks, features_and_scores
from tests.ecan_core.blobs import blobs, trained_network


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("num_neighbors", [1, K])
def test_reciprocal_loss_equals_its_slow_twin(seed, num_neighbors):
    rows, embeddings, scores, banks = batch_with_banks(seed)
    fast = reciprocal_loss(scores, neighborhood(embeddings, rows, banks, num_neighbors), banks)
    slow = twins.nrc(
        scores.tolist(),
        embeddings.tolist(),
        rows.tolist(),
        banks.embeddings.tolist(),
        banks.scores.tolist(),
        num_neighbors,
    )
    assert fast.item() == pytest.approx(slow, abs=1e-5)


def test_two_utterances_are_each_others_neighbor_and_their_own_neighbors_neighbor():
    embeddings, scores = features_and_scores(2, 0)
    banks = MemoryBanks(embeddings=embeddings, scores=scores)
    loss = reciprocal_loss(scores, neighborhood(embeddings, torch.arange(2), banks, 1), banks)
    other, itself = (scores[0] * scores[1]).sum(), (scores**2).sum(dim=1).mean()
    assert loss.item() == pytest.approx(-(other + 0.1 * itself).item())


def test_the_gradient_reaches_the_scores_and_neither_features_nor_banks():
    rows, embeddings, scores, banks = batch_with_banks(1)
    reciprocal_loss(scores, neighborhood(embeddings, rows, banks, K), banks).backward()
    assert (scores.grad != 0).all()
    assert embeddings.grad is None
    assert not banks.embeddings.requires_grad
    assert not banks.scores.requires_grad


def test_fewer_utterances_than_neighbors_are_no_fault():
    records, _ = adapt_nrc(trained_network(), blobs(4, seed=3)[0], AdaptSettings(epochs=2, num_neighbors=5), seed=0)
    assert all(np.isfinite(list(record.losses.values())).all() for record in records)


def test_adaptation_moves_the_head_too():
    source = trained_network()
    network = copy.deepcopy(source)
    adapt_nrc(network, blobs(40, seed=3, shift=3.0)[0], AdaptSettings(epochs=1), seed=0)
    assert not torch.equal(network.head.rows(), source.head.rows())


def test_a_part_of_the_bank_may_be_searched():
    settings = AdaptSettings(epochs=2, batch_size=8, candidates=12)
    records, _ = adapt_nrc(trained_network(), blobs(40, seed=3)[0], settings, seed=0)
    assert all(np.isfinite(list(record.losses.values())).all() for record in records)
