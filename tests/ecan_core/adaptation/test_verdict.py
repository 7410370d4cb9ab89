import numpy as np
import pytest

from ecan_core.adaptation.verdict import Verdict, estimated_gain, estimated_gain_of_panel, judge


def scores(labels, confidence, num_classes=4):
    rest = (1 - confidence) / (num_classes - 1)
    rows = np.full((len(labels), num_classes), rest)
    rows[np.arange(len(labels)), labels] = confidence
    return rows


BALANCED = np.arange(80) % 4


@pytest.mark.parametrize(
    ("gain", "verdict"),
    [(-0.1, Verdict.REVERTED), (0.0, Verdict.INCONCLUSIVE), (1.9, Verdict.INCONCLUSIVE), (2.0, Verdict.IMPROVED)],
)
def test_the_estimated_gain_decides(gain, verdict):
    judgement = judge(scores(BALANCED, 0.5), scores(BALANCED, 0.9), gain)
    assert judgement.verdict is verdict
    assert f"{gain:+.1f}" in judgement.reason


@pytest.mark.parametrize(
    ("right", "verdict"), [(0.58, Verdict.INCONCLUSIVE), (0.6, Verdict.IMPROVED), (None, Verdict.IMPROVED)]
)
def test_a_panel_that_is_seldom_right_shows_no_improvement(right, verdict):
    judgement = judge(scores(BALANCED, 0.5), scores(BALANCED, 0.9), 9.0, right=right)
    assert judgement.verdict is verdict
    assert ("right on 58%" in judgement.reason) == (verdict is Verdict.INCONCLUSIVE)


def test_with_two_classes_a_panel_must_be_right_more_often_to_be_believed():
    labels = np.arange(80) % 2
    before, after = scores(labels, 0.6, 2), scores(labels, 0.9, 2)
    assert judge(before, after, 9.0, right=0.7).verdict is Verdict.INCONCLUSIVE
    assert judge(before, after, 9.0, right=0.75).verdict is Verdict.IMPROVED


def test_a_panel_that_is_seldom_right_can_still_undo_an_adaptation():
    assert judge(scores(BALANCED, 0.5), scores(BALANCED, 0.9), -1.0, right=0.4).verdict is Verdict.REVERTED


def test_the_estimated_gain_is_the_difference_of_two_recognition_rates():
    panel = scores(BALANCED, 1.0)
    half_wrong = np.where(np.arange(80) < 40, BALANCED, (BALANCED + 1) % 4)
    assert estimated_gain(scores(half_wrong, 0.8), scores(BALANCED, 0.8), panel) == pytest.approx(50.0)
    assert estimated_gain(scores(BALANCED, 0.8), scores(half_wrong, 0.8), panel) == pytest.approx(-50.0)


def test_every_class_counts_the_same_in_the_estimate_however_rare_it_is():
    rare = np.array([0] * 97 + [1] * 3)
    never = np.zeros(100, dtype=int)
    panel = scores(rare, 1.0, num_classes=2)
    assert estimated_gain(scores(never, 0.9, 2), scores(rare, 0.9, 2), panel) == pytest.approx(50.0)


def test_a_member_of_the_panel_is_judged_by_the_others_alone():
    good, bad = scores(BALANCED, 1.0), scores((BALANCED + 1) % 4, 1.0)
    assert estimated_gain_of_panel(bad, [good, good]) == pytest.approx(100.0)
    assert estimated_gain_of_panel(good, [good, bad]) == pytest.approx(-50.0)


@pytest.mark.parametrize(
    ("labels", "word"),
    [
        (np.zeros(80, dtype=int), "collapsed"),
        (np.where(BALANCED == 3, 0, BALANCED), "class"),
        ((BALANCED + 1) % 4, "agrees"),
    ],
    ids=["one class takes all", "a class is lost", "the source is left behind"],
)
def test_a_harmful_adaptation_is_reverted_with_its_reason(labels, word):
    judgement = judge(scores(BALANCED, 0.6), scores(labels, 0.9), gain=5.0)
    assert judgement.verdict is Verdict.REVERTED
    assert word in judgement.reason


def test_a_fault_that_the_source_model_has_already_is_not_held_against_the_adaptation():
    missing = np.where(BALANCED == 3, 0, BALANCED)
    assert judge(scores(missing, 0.6), scores(missing, 0.9), gain=5.0).verdict is Verdict.IMPROVED


def test_an_adaptation_that_diverged_is_reverted():
    judgement = judge(scores(BALANCED, 0.6), np.full((80, 4), np.nan), gain=5.0)
    assert judgement.verdict is Verdict.REVERTED
    assert "learning_rate" in judgement.reason


def test_a_panel_that_diverged_can_tell_nothing():
    judgement = judge(scores(BALANCED, 0.5), scores(BALANCED, 0.9), gain=float("nan"))
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert "panel" in judgement.reason
