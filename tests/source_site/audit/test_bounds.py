"""Intervals of attacks: right on what can be counted by hand, and as wide as the utterances are few."""

import numpy as np
import pytest

from ecan_core.errors import UsageError
from source_site.audit.bounds import NUM_RESAMPLES, clopper_pearson, separation
from source_site.audit.shadows import random_halves


def twin_auc(scores, members):
    """Every pair of a member and another, by hand."""
    inside, outside = scores[members], scores[~members]
    return np.mean([[(one > other) + 0.5 * (one == other) for other in outside] for one in inside])


def test_the_area_is_the_share_of_pairs_in_their_order_with_ties_counted_half():
    random = np.random.default_rng(0)
    members = random_halves(6, 15, seed=1)
    scores = np.round(random.normal(size=(6, 15)) + members, 1)  # rounded, so that some are equal
    assert separation(scores, members).auc.value == pytest.approx(twin_auc(scores, members), abs=1e-5)


def test_hits_are_counted_at_the_highest_rate_of_false_alarms_that_is_allowed():
    scores = np.concatenate([np.arange(1000.0), np.array([2000.0, 994.5, 989.5, -1.0])])[None]
    members = np.arange(1004)[None] >= 1000
    found = separation(scores, members)
    # 5 of 1000 others lie above 994.5 and 10 above 989.5; ten are 1 %, and one is 0.1 %.
    assert found.tpr1.value == pytest.approx(0.75)
    assert found.tpr01.value == pytest.approx(0.25)


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    held, rounds = 0, 60
    for seed in range(rounds):
        random = np.random.default_rng(seed)
        members = random_halves(8, 80, seed=seed)
        # Utterances differ, so scores of one utterance hang together; membership says nothing.
        scores = random.normal(size=80) + 0.5 * random.normal(size=members.shape)
        held += separation(scores, members, seed=seed).auc.holds(0.5)
    assert held >= 0.88 * rounds


def test_a_binomial_interval_is_that_of_the_tables():
    assert clopper_pearson(0, 10) == pytest.approx((0.0, 0.3085), abs=1e-4)
    assert clopper_pearson(5, 10) == pytest.approx((0.1871, 0.8129), abs=1e-4)
    assert clopper_pearson(10, 10) == pytest.approx((0.6915, 1.0), abs=1e-4)


def test_no_hit_at_all_still_has_an_upper_bound():
    members = np.array([[True] * 40 + [False] * 40])
    found = separation(np.where(members, -1.0, 1.0), members)
    assert found.tpr1.value == 0.0
    assert found.tpr1.high == pytest.approx(clopper_pearson(0, 40)[1], abs=1e-5)
    assert NUM_RESAMPLES >= 1000


def test_scores_that_are_not_known_take_no_part():
    members = random_halves(4, 40, seed=0)
    scores = np.random.default_rng(0).normal(size=members.shape) + members
    padded = np.hstack([scores, np.full((4, 5), np.nan)])
    outside = np.zeros((4, 5), dtype=bool)
    assert separation(padded, np.hstack([members, outside])).auc.value == separation(scores, members).auc.value


def test_members_alone_cannot_be_told_from_others():
    with pytest.raises(UsageError, match="needs members and others"):
        separation(np.ones((2, 3)), np.ones((2, 3), dtype=bool))
