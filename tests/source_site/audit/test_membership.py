"""Attacks against slow twins, and on models that remember, or know nothing."""

import numpy as np
import pytest
from scipy.stats import norm

from source_site.audit.bounds import separation
from source_site.audit.membership import (
    MIN_DEVIATION,
    POOL_BELOW,
    _ridge,
    atypical,
    confidence_scores,
    confidences,
    label_only_scores,
    lira_scores,
    lira_scores_of,
    loss_scores,
    quantile_scores,
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
            others = [k for k in range(num_models) if k // 2 != target // 2]
            chosen = [[odds[k, n] for k in others if members[k, n] == wanted] for n in range(12)]
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
    pair, whole = np.stack([target, target]), np.ones((1, 12), bool)
    together = lira_scores(np.vstack([logits, pair]), LABELS[:12], np.vstack([members, whole, ~whole]))
    assert np.allclose(lira_scores_of(target, logits, LABELS[:12], members), together[-1])


def test_rmia_is_its_slow_twin():
    members = random_halves(6, 9, seed=0)
    logits = answers(members, LABELS[:9], remembered=1.0)
    scores = np.exp(loss_scores(logits, LABELS[:9]))
    expected = np.empty(members.shape)
    for k in range(6):
        raised = [scores[k, n] / np.mean([scores[j, n] for j in range(6) if j // 2 != k // 2]) for n in range(9)]
        others = [n for n in range(9) if not members[k, n]]
        shares = [np.mean([raised[n] >= raised[z] for z in others if z != n]) for n in range(9)]
        expected[k] = [share + ratio / (1 + ratio) / 9 for share, ratio in zip(shares, raised, strict=True)]
    assert np.allclose(rmia_scores(logits, LABELS[:9], members), expected)


@pytest.mark.parametrize("num_models", [POOL_BELOW - 2, POOL_BELOW])
@pytest.mark.parametrize("attack", [lira_scores, rmia_scores])
def test_what_a_model_is_compared_with_does_not_depend_on_whether_it_knows_an_utterance(attack, num_models):
    members = random_halves(num_models, 12, seed=0)
    logits = answers(members, LABELS[:12], remembered=1.0)
    scores = attack(logits, LABELS[:12], members)
    for model in range(0, num_models, 2):
        pair = slice(model, model + 2)
        swapped = members.copy()
        swapped[pair, 5] = ~swapped[pair, 5]
        assert np.allclose(attack(logits, LABELS[:12], swapped)[pair, 5], scores[pair, 5])


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


def test_what_a_ridge_leaves_of_an_utterance_is_what_the_others_predict_of_it():
    random = np.random.default_rng(0)
    rows = random.normal(size=(12, 5))
    alike, wanted = rows @ rows.T / 5, random.normal(size=12)
    _, residual = _ridge(alike, alike, wanted)
    center = wanted.mean()
    for left_out in range(12):
        others = np.delete(np.arange(12), left_out)
        weights = np.linalg.solve(alike[np.ix_(others, others)] + np.eye(11), wanted[others] - center)
        assert residual[left_out] == pytest.approx(wanted[left_out] - center - alike[left_out, others] @ weights)


def test_quantile_regression_finds_members_without_a_reference_and_never_scores_whom_it_has_used():
    members = random_halves(20, len(LABELS), seed=0)
    vectors = np.random.default_rng(1).normal(size=(len(LABELS), 6))
    easy = np.eye(3)[LABELS] * vectors[:, :1] * 2  # how hard an utterance is can be read from its input
    found, chance = (
        quantile_scores(answers(members, LABELS, remembered=more, hardness=0.0) + easy, LABELS, members, vectors)
        for more in (1.5, 0.0)
    )
    assert separation(found, members).auc.low > 0.6
    assert separation(chance, members).auc.holds(0.5)
    unused = np.isfinite(found)
    assert unused[members].all()
    others = (~members).sum(axis=1)
    assert np.array_equal((unused & ~members).sum(axis=1), others - others // 2)


def test_labels_alone_give_members_away():
    members = random_halves(32, len(LABELS), seed=0)
    random = np.random.default_rng(0)
    base = random.uniform(0.3, 0.9, size=len(LABELS))
    hits = random.binomial(24, np.clip(base + 0.1 * members, 0, 1))
    assert separation(label_only_scores(hits, members, 24), members).auc.low > 0.6
    alike = random.binomial(24, np.broadcast_to(base, members.shape))
    assert separation(label_only_scores(alike, members, 24), members).auc.holds(0.5)


def test_atypical_utterances_are_those_that_models_get_wrong_without_them():
    members = random_halves(16, 40, seed=0)
    labels = LABELS[:40]
    logits = answers(members, labels, remembered=0.0, hardness=0.0)
    logits[:, np.arange(40), labels] += 4.0
    logits[:, [3, 17], labels[[3, 17]]] -= 9.0 * ~members[:, [3, 17]]
    assert atypical(logits, labels).tolist() == [3, 17]
    assert len(atypical(logits[:, :5], labels[:5])) == 1


def test_to_look_at_atypical_utterances_alone_finds_nothing_where_there_is_nothing():
    missed = 0
    for seed in range(10):
        members = random_halves(32, len(LABELS), seed=seed)
        logits = answers(members, LABELS, remembered=0.0, seed=seed)
        rows = atypical(logits, LABELS, share=0.3)
        scores = lira_scores(logits, LABELS, members)
        missed += not separation(scores[:, rows], members[:, rows]).auc.holds(0.5)
    assert missed <= 2


def test_a_confidence_above_the_others_finds_a_small_and_equal_lead():
    random = np.random.default_rng(0)
    num_models, num_utterances = 32, 400
    members = random_halves(num_models, num_utterances, seed=1)
    lead = 0.3 * members + random.normal(size=(num_models, num_utterances)) + 2.0 * random.normal(size=num_utterances)
    logits = np.stack([lead / 2, -lead / 2], axis=-1)
    labels = np.zeros(num_utterances, dtype=np.int64)
    area = separation(confidence_scores(logits, labels), members).auc.value
    assert area > 0.56
    assert area >= separation(lira_scores(logits, labels, members), members).auc.value


def test_a_confidence_says_nothing_about_who_was_never_trained_on():
    random = np.random.default_rng(2)
    logits = random.normal(size=(32, 400, 3))
    members = random_halves(32, 400, seed=3)
    found = separation(confidence_scores(logits, np.zeros(400, dtype=np.int64)), members)
    assert abs(found.auc.value - 0.5) < 0.02
