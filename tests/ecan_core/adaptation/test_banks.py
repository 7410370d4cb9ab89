"""The part of the banks that a step of a large corpus is compared with."""

import copy

import numpy as np
import pytest
import torch

from ecan_core.adaptation.banks import MemoryBanks
from ecan_core.adaptation.ecan import adapt
from ecan_core.adaptation.loop import Step, minimize
from ecan_core.adaptation.losses.diversity import diversity_loss
from ecan_core.adaptation.losses.neighbor import filtered_score_loss
from ecan_core.adaptation.registry import METHODS
from ecan_core.adaptation.relatives.nrc import reciprocal_loss
from ecan_core.adaptation.settings import NEIGHBOR_FORMS, SUPERVISED_FORMS, AdaptSettings
from ecan_core.model.weights import to_arrays
from ecan_core.runtime.seeding import seeded
from tests.ecan_core.adaptation.losses import twins
from tests.ecan_core.adaptation.relatives import twins as baseline_twins
from tests.ecan_core.adaptation.relatives.draws import B, K, N, batch_with_banks
from tests.ecan_core.blobs import blobs, trained_network

DRAWN = 8


@pytest.fixture(scope="module")
def source():
    return trained_network()


class Case:
    """A mini-batch beside drawn rows, and the rows of the corpus that it is compared with, in order."""

    def __init__(self, seed):
        self.rows, self.embeddings, self.scores, self.whole = batch_with_banks(seed)
        with seeded(seed):
            self.drawn = self.whole.draw(DRAWN)
        self.near, self.bank_rows = self.whole.around(self.rows, self.drawn)
        self.step = Step(self.rows, self.embeddings, self.scores, self.near, self.bank_rows, 0.0)
        self.searched = [*self.rows.tolist(), *(row for row in self.drawn.tolist() if row not in self.rows.tolist())]


@pytest.fixture(params=range(5))
def case(request):
    return Case(request.param)


def test_the_rows_of_the_mini_batch_and_the_drawn_ones_are_there_once_each_and_no_others(case):
    assert len(set(case.searched)) == len(case.searched)
    assert torch.equal(case.near.embeddings, case.whole.embeddings[case.searched])
    assert torch.equal(case.near.scores, case.whole.scores[case.searched])
    assert torch.equal(case.near.embeddings[case.bank_rows], case.embeddings.detach())


def test_neighbors_are_those_of_a_search_over_these_rows_and_never_the_utterance_itself(case):
    bank = case.whole.embeddings.tolist()
    found = case.step.neighborhood(K).neighbors.tolist()
    for feature, row, neighbors in zip(case.embeddings.tolist(), case.rows.tolist(), found, strict=True):
        others = sorted((j for j in case.searched if j != row), key=lambda j: -twins.dot(feature, bank[j]))
        assert [case.searched[column] for column in neighbors] == others[:K]


@pytest.mark.parametrize(
    ("fast", "slow"),
    [
        (lambda c: filtered_score_loss(c.scores, c.step.neighborhood(K), c.near, 0.7), lambda *a: twins.ncl_5(*a, 0.7)),
        (lambda c: reciprocal_loss(c.scores, c.step.neighborhood(K), c.near), baseline_twins.nrc),
    ],
    ids=["ncl-5", "nrc"],
)
def test_neighbors_of_neighbors_are_sought_in_the_same_rows(case, fast, slow):
    expected = slow(
        case.scores.tolist(),
        case.embeddings.tolist(),
        list(range(B)),
        case.whole.embeddings[case.searched].tolist(),
        case.whole.scores[case.searched].tolist(),
        K,
    )
    assert fast(case).item() == pytest.approx(expected, abs=1e-5)


def test_an_update_reaches_the_next_steps_part(case):
    other = torch.arange(N)[~torch.isin(torch.arange(N), case.rows)][:2]
    case.whole.update(other, 2.0 * case.embeddings[:2], case.scores[:2])
    near, bank_rows = case.whole.around(other, case.drawn)
    assert torch.equal(near.embeddings[bank_rows], 2.0 * case.embeddings[:2].detach())


def test_a_corpus_no_larger_than_the_limit_is_searched_whole_without_a_draw(case):
    with seeded(3):
        assert case.whole.draw(N) is None
        assert torch.equal(torch.rand(1), torch.rand(1, generator=torch.Generator().manual_seed(3 * 1_000_003)))
    near, bank_rows = case.whole.around(case.rows, None)
    assert near is case.whole
    assert bank_rows is case.rows


def test_every_epoch_draws_other_rows_and_the_same_seed_the_same(source, monkeypatch):
    inputs, seen = blobs(60, seed=21)[0], []
    whole = MemoryBanks.draw
    monkeypatch.setattr(MemoryBanks, "draw", lambda *given: seen.append(whole(*given)) or seen[-1])
    for _ in range(2):
        adapt(copy.deepcopy(source), inputs, AdaptSettings(epochs=2, candidates=20), seed=4)
    first, second, *again = (set(rows.tolist()) for rows in seen)
    assert len(first) == len(second) == 20
    assert first != second
    assert [first, second] == again


def test_a_step_never_sees_more_rows_than_the_limit_and_its_own(source):
    sizes = []

    def objective(step):
        sizes.append((len(step.banks.embeddings), step.neighborhood(5).similarity.shape[1]))
        assert torch.equal(step.banks.embeddings[step.bank_rows], step.embeddings.detach())
        return {"diversity": diversity_loss(step.scores)}

    settings = AdaptSettings(epochs=2, batch_size=16, candidates=40)
    minimize(objective, copy.deepcopy(source), blobs(200, seed=21)[0], settings, seed=0)
    assert all(40 <= rows <= 40 + 16 and columns == rows for rows, columns in sizes)


def test_a_limit_of_exactly_all_utterances_changes_nothing_bit_for_bit(source):
    inputs = blobs(90, seed=21, shift=3.0)[0]
    networks = [copy.deepcopy(source) for _ in range(3)]
    for network, candidates in zip(networks, (16384, 90, 89), strict=True):
        adapt(network, inputs, AdaptSettings(epochs=2, candidates=candidates), seed=0)
    default, exact, fewer = (to_arrays(network) for network in networks)
    assert all(np.array_equal(default[name], exact[name]) for name in default)
    assert not all(np.array_equal(default[name], fewer[name]) for name in default)


@pytest.mark.parametrize("neighbor_form", NEIGHBOR_FORMS)
@pytest.mark.parametrize("supervised_form", SUPERVISED_FORMS)
def test_every_form_runs_on_a_part(source, neighbor_form, supervised_form):
    settings = AdaptSettings(epochs=1, candidates=30, neighbor_form=neighbor_form, supervised_form=supervised_form)
    (record,), _ = adapt(copy.deepcopy(source), blobs(150, seed=21, shift=3.0)[0], settings, seed=0)
    assert np.isfinite(list(record.losses.values())).all()


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_runs_on_a_part_that_is_smaller_than_its_neighborhoods(source, method):
    settings = AdaptSettings(epochs=1, candidates=1, batch_size=2)
    _, scores = METHODS[method](copy.deepcopy(source), blobs(11, seed=21, shift=3.0)[0], settings, seed=0)
    assert np.isfinite(scores).all()
