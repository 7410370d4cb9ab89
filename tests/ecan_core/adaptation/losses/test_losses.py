"""Fast losses against their slow twins, and the closed forms of the method."""

import math

import pytest
import torch
from torch.nn import functional

from ecan_core.adaptation.banks import MemoryBanks
from ecan_core.adaptation.losses.diversity import diversity_loss, mean_entropy
from ecan_core.adaptation.losses.neighbor import (
    batch_instance_loss,
    filtered_score_loss,
    instance_loss,
    neighborhood,
    score_loss,
    summed_instance_loss,
)
from ecan_core.adaptation.losses.supervised import bank_supervised_contrastive_loss, supervised_contrastive_loss
from tests.ecan_core.adaptation.losses import twins

N, B, D, C, K, TAU = 23, 9, 6, 4, 3, 0.2


class Case:
    """A random mini-batch with its banks, in double precision."""

    def __init__(self, seed: int) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.rows = torch.randperm(N, generator=draw)[:B]
        raw = torch.randn(B, D, generator=draw, dtype=torch.float64)
        self.embeddings = functional.normalize(raw, dim=1).requires_grad_()
        logits = torch.randn(B, C, generator=draw, dtype=torch.float64)
        self.scores = logits.softmax(dim=1).requires_grad_()
        bank = functional.normalize(torch.randn(N, D, generator=draw, dtype=torch.float64), dim=1)
        bank_scores = torch.randn(N, C, generator=draw, dtype=torch.float64).softmax(dim=1)
        self.banks = MemoryBanks(embeddings=bank, scores=bank_scores)
        self.banks.update(self.rows, self.embeddings, self.scores)
        self.labels = torch.randint(0, C, (B,), generator=draw)
        self.bank_labels = torch.randint(0, C, (N,), generator=draw)
        self.hood = neighborhood(self.embeddings, self.rows, self.banks, K)


@pytest.fixture(params=range(5))
def case(request):
    return Case(request.param)


def test_diversity_equals_its_slow_twin(case):
    assert diversity_loss(case.scores).item() == pytest.approx(twins.diversity(case.scores.tolist()))


def test_neighborhood_finds_the_nearest_rows_but_never_the_own_one(case):
    bank = case.banks.embeddings.tolist()
    for feature, row, found in zip(
        case.embeddings.tolist(), case.rows.tolist(), case.hood.neighbors.tolist(), strict=True
    ):
        assert found == twins.nearest(feature, row, bank, K)
        assert row not in found


@pytest.mark.parametrize(
    ("fast", "slow"),
    [
        (lambda c: instance_loss(c.hood, TAU), twins.ncl_1),
        (lambda c: summed_instance_loss(c.hood, TAU), twins.ncl_2),
        (lambda c: batch_instance_loss(c.embeddings, c.hood, TAU), twins.ncl_4),
    ],
    ids=["ncl-1", "ncl-2", "ncl-4"],
)
def test_feature_forms_equal_their_slow_twins(case, fast, slow):
    expected = slow(case.embeddings.tolist(), case.rows.tolist(), case.banks.embeddings.tolist(), K, TAU)
    assert fast(case).item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("fast", "slow"), [(score_loss, twins.ncl_3), (filtered_score_loss, twins.ncl_5)], ids=["ncl-3", "ncl-5"]
)
def test_score_forms_equal_their_slow_twins(case, fast, slow):
    banks = case.banks
    expected = slow(
        case.scores.tolist(),
        case.embeddings.tolist(),
        case.rows.tolist(),
        banks.embeddings.tolist(),
        banks.scores.tolist(),
        K,
        0.7,
    )
    assert fast(case.scores, case.hood, banks, 0.7).item() == pytest.approx(expected)


def test_supervised_contrast_equals_its_slow_twin(case):
    fast = supervised_contrastive_loss(case.embeddings, case.labels, TAU)
    assert fast.item() == pytest.approx(twins.scl_1(case.embeddings.tolist(), case.labels.tolist(), TAU))


def test_bank_supervised_contrast_equals_its_slow_twin(case):
    fast = bank_supervised_contrastive_loss(case.hood.similarity, case.labels, case.bank_labels, TAU)
    slow = twins.scl_2(
        case.embeddings.tolist(),
        case.rows.tolist(),
        case.labels.tolist(),
        case.banks.embeddings.tolist(),
        case.bank_labels.tolist(),
        TAU,
    )
    assert fast.item() == pytest.approx(slow)


def test_equal_features_give_the_log_of_the_number_of_others():
    same = functional.normalize(torch.ones(N, D, dtype=torch.float64), dim=1)
    banks = MemoryBanks(embeddings=same, scores=torch.full((N, C), 1 / C, dtype=torch.float64))
    hood = neighborhood(same[:B], torch.arange(B), banks, K)
    assert instance_loss(hood, TAU).item() == pytest.approx(math.log(N - 1))
    labels = torch.zeros(B, dtype=torch.long)
    assert supervised_contrastive_loss(same[:B], labels, TAU).item() == pytest.approx(math.log(B - 1))


def test_diversity_is_zero_when_uniform_and_log_c_when_one_class_takes_all():
    assert diversity_loss(torch.full((B, C), 1 / C)).item() == pytest.approx(0.0, abs=1e-6)
    assert diversity_loss(torch.eye(C)[[1] * B]).item() == pytest.approx(math.log(C), abs=1e-6)


def test_entropy_is_log_c_when_uniform_and_zero_when_certain():
    assert mean_entropy(torch.full((B, C), 1 / C)).item() == pytest.approx(math.log(C))
    assert mean_entropy(torch.eye(C)).item() == pytest.approx(0.0, abs=1e-6)


def test_without_a_positive_pair_the_supervised_contrast_is_zero_with_a_gradient_of_zero():
    embeddings = functional.normalize(torch.randn(C, D), dim=1).requires_grad_()
    loss = supervised_contrastive_loss(embeddings, torch.arange(C), TAU)
    assert loss.item() == 0.0


def test_no_gradient_reaches_the_banks(case):
    losses = [
        instance_loss(case.hood, TAU),
        score_loss(case.scores, case.hood, case.banks, 0.5),
        filtered_score_loss(case.scores, case.hood, case.banks, 0.5),
        bank_supervised_contrastive_loss(case.hood.similarity, case.labels, case.bank_labels, TAU),
    ]
    torch.stack(losses).sum().backward()
    assert case.embeddings.grad is not None
    assert case.scores.grad is not None
    assert not case.banks.embeddings.requires_grad
    assert not case.banks.scores.requires_grad


def test_an_update_leaves_other_bank_rows_as_they_were(case):
    before = case.banks.embeddings.clone()
    case.banks.update(case.rows[:2], case.embeddings[:2] * 0.5, case.scores[:2])
    untouched = [row for row in range(N) if row not in case.rows[:2].tolist()]
    assert torch.equal(case.banks.embeddings[untouched], before[untouched])
    assert torch.equal(case.banks.embeddings[case.rows[:2]], case.embeddings[:2].detach() * 0.5)


def test_gradients_of_all_losses_are_finite(case):
    total = (
        diversity_loss(case.scores)
        + mean_entropy(case.scores)
        + summed_instance_loss(case.hood, TAU)
        + batch_instance_loss(case.embeddings, case.hood, TAU)
        + supervised_contrastive_loss(case.embeddings, case.labels, TAU)
    )
    total.backward()
    assert torch.isfinite(case.embeddings.grad).all()
    assert torch.isfinite(case.scores.grad).all()
