"""Attacks against slow twins, and on models that remember, or know nothing."""

import numpy as np
import pytest
from scipy.stats import norm

from source_site.audit.bounds import separation
from source_site.audit.membership import (
    MIN_DEVIATION,
    POOL_BELOW,
    confidences,
    lira_scores,
    lira_scores_of,
    loss_scores,
    rmia_scores,
)
from source_site.audit.shadows import random_halves
from tests.source_site.audit.samples import CLASSES, answers

LABELS = np.arange(90) % len(CLASSES)


def test_confidence_is_the_log_odds_of_the_true_class():
    logits = answers(np.ones((2, 9), bool), LABELS[:9], remembered=0.0)
    scores = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    true = scores[:, np.arange(9), LABELS[:9]]
    assert np.allclose(confidences(logits, LABELS[:9]), np.log(true / (1 - true)))


def test_confidence_is_finite_where_the_score_rounds_to_one():
    assert np.isfinite(confidences(np.array([[[800.0, -800.0, 0.0]]]), np.array([0]))).all()


@pytest.mark.parametrize("num_models", [POOL_BELOW - 2, POOL_BELOW + 2])
def test_lira_is_its_slow_twin(num_models):
    members = random_halves(num_models, 12, seed=0)
    logits = answers(members, LABELS[:12], remembered=1.0)
    odds = confidences(logits, LABELS[:12])
    expected = np.empty(members.shape)
    for target in range(num_models):
        parts = []
        for wanted in (True, False):
            chosen = [
                [odds[k, n] for k in range(num_models) if k != target and members[k, n] == wanted] for n in range(12)
            ]
            variances = [np.var(one, ddof=1) for one in chosen]
            if num_models < POOL_BELOW:
                variances = [np.mean(variances)] * 12
            deviations = np.maximum(np.sqrt(variances), MIN_DEVIATION)
            parts.append(norm.logpdf(odds[target], [np.mean(one) for one in chosen], deviations))
        expected[target] = parts[0] - parts[1]
    assert np.allclose(lira_scores(logits, LABELS[:12], members), expected)


def test_one_more_model_is_judged_by_all_references():
    members = random_halves(40, 12, seed=0)
    logits = answers(members, LABELS[:12], remembered=1.0)
    target = answers(np.ones((1, 12), bool), LABELS[:12], remembered=1.0, seed=5)[0]
    together = lira_scores(np.vstack([logits, target[None]]), LABELS[:12], np.vstack([members, np.ones((1, 12), bool)]))
    assert np.allclose(lira_scores_of(target, logits, LABELS[:12], members), together[-1])


def test_rmia_is_its_slow_twin():
    members = random_halves(6, 9, seed=0)
    logits = answers(members, LABELS[:9], remembered=1.0)
    scores = np.exp(loss_scores(logits, LABELS[:9]))
    expected = np.empty(members.shape)
    for k in range(6):
        raised = [scores[k, n] / np.mean([scores[j, n] for j in range(6) if j != k]) for n in range(9)]
        others = [n for n in range(9) if not members[k, n]]
        expected[k] = [np.mean([raised[n] >= raised[z] for z in others if z != n]) for n in range(9)]
    assert np.allclose(rmia_scores(logits, LABELS[:9], members), expected)


@pytest.mark.parametrize("attack", [lira_scores, rmia_scores, lambda logits, labels, _: loss_scores(logits, labels)])
def test_every_attack_is_at_chance_on_models_that_saw_none_of_the_claimed_members(attack):
    members = random_halves(64, len(LABELS), seed=0)
    logits = answers(np.zeros_like(members), LABELS, remembered=0.0)
    found = separation(attack(logits, LABELS, members), members)
    assert found.auc.holds(0.5)
    assert found.auc.high < 0.55


def test_references_find_what_a_threshold_misses():
    members = random_halves(64, len(LABELS), seed=0)
    logits = answers(members, LABELS, remembered=2.0)
    by_reference = separation(lira_scores(logits, LABELS, members), members)
    by_threshold = separation(loss_scores(logits, LABELS), members)
    assert by_reference.auc.low > by_threshold.auc.high
    assert by_reference.tpr1.low > by_threshold.tpr1.high
