"""Canaries: drawn by coins, exposed where a network remembers them, and never more than chance where it does not."""

import math

import numpy as np
import pytest
from scipy.stats import binom

from source_site.audit.canaries import exposures, guess, least_epsilon, look_at_canaries, plan_canaries
from source_site.audit.shadows import Shadows, random_halves
from tests.source_site.audit.samples import CLASSES, answers, random_material

LABELS = np.arange(300) % len(CLASSES)
PLAN = plan_canaries(LABELS, len(CLASSES), seed=0)


def references() -> Shadows:
    members = random_halves(16, len(LABELS), seed=0)
    logits = answers(members, LABELS, remembered=1.0, hardness=1.0, seed=3)
    return Shadows(members=members, logits=logits, hits=np.zeros(members.shape), num_copies=1)


def looked_at(remembered: float):
    """Networks that are surer of the wrong label of a canary that they were trained on."""
    labels = LABELS.copy()
    labels[PLAN.rows] = PLAN.labels
    logits = answers(PLAN.trained(len(LABELS)), labels, remembered=remembered, hardness=1.0, seed=4)
    return look_at_canaries(PLAN, logits, references(), delta=0.0, seed=0)


def test_canaries_are_wrong_and_few_and_the_coins_are_fair():
    assert len(PLAN.rows) == len(LABELS) // 6
    assert len(set(PLAN.rows)) == len(PLAN.rows)
    assert (PLAN.labels != LABELS[PLAN.rows]).all()
    assert set(PLAN.labels) == {0, 1, 2}
    assert 0.4 < PLAN.coins.mean() < 0.6


def test_a_network_is_trained_on_everything_but_the_canaries_that_lost():
    trained = PLAN.trained(len(LABELS))
    others = np.setdiff1d(np.arange(len(LABELS)), PLAN.rows)
    assert trained[:, others].all()
    assert np.array_equal(trained[:, PLAN.rows], PLAN.coins)


def test_a_corpus_with_canaries_differs_in_their_labels_alone():
    material = random_material(60)
    plan = plan_canaries(material.labels, len(CLASSES), seed=1)
    changed = plan.material(material)
    assert np.flatnonzero(changed.labels != material.labels).tolist() == plan.rows.tolist()
    assert changed.values is material.values


def test_exposure_is_the_rank_among_canaries_that_were_left_out():
    outside = np.array([0.0, 1.0, 2.0])
    assert exposures(np.array([3.0, 1.5, -1.0]), outside).tolist() == [2.0, 1.0, 0.0]


def test_remembered_canaries_stand_out_and_their_coins_can_be_guessed():
    found = looked_at(8.0)
    assert found.exposure.low > found.chance + 1
    assert found.right == found.guesses
    assert found.epsilon_low == pytest.approx(least_epsilon(found.count, found.guesses, found.guesses, 0.0), abs=1e-3)
    assert found.epsilon_low > 1.5


def test_canaries_that_left_no_trace_are_at_chance():
    found = looked_at(0.0)
    assert found.exposure.holds(found.chance)
    assert found.epsilon_low == 0.0


def test_the_highest_quarter_is_guessed_in_and_the_lowest_out():
    scores = np.arange(8.0)
    assert guess(scores, np.array([0, 0, 1, 0, 0, 1, 1, 1], dtype=bool)) == (4, 4)
    assert guess(scores, np.array([1, 0, 1, 0, 0, 1, 1, 0], dtype=bool)) == (4, 2)


def test_the_least_epsilon_is_where_so_many_right_guesses_become_likely_enough():
    found = least_epsilon(64, 32, 30, 0.0)
    share = 1 / (1 + math.exp(-found))
    assert binom.sf(29, 32, share) == pytest.approx(0.05, abs=1e-4)
    assert least_epsilon(64, 32, 16, 0.0) == 0.0
    assert least_epsilon(64, 32, 32, 1e-3) < least_epsilon(64, 32, 32, 0.0)


def test_a_promise_that_is_kept_is_hardly_ever_called_broken():
    epsilon = 1.0
    best = 1 / (1 + math.exp(-epsilon))  # how often the best of all attackers is right
    calls = [right for right in range(33) if least_epsilon(64, 32, right, 0.0) > epsilon]
    assert 0.01 < binom.pmf(calls, 32, best).sum() <= 0.05
