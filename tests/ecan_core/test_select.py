import numpy as np
import pytest

from ecan_core.select import Verdict, information, judge


def scores(labels, confidence, num_classes=4):
    rest = (1 - confidence) / (num_classes - 1)
    rows = np.full((len(labels), num_classes), rest)
    rows[np.arange(len(labels)), labels] = confidence
    return rows


BALANCED = np.arange(80) % 4


def test_more_certain_and_still_balanced_is_improved():
    judgement = judge(scores(BALANCED, 0.5), scores(BALANCED, 0.9))
    assert judgement.verdict is Verdict.IMPROVED


def test_less_certain_is_inconclusive():
    assert judge(scores(BALANCED, 0.9), scores(BALANCED, 0.6)).verdict is Verdict.INCONCLUSIVE


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
    judgement = judge(scores(BALANCED, 0.6), scores(labels, 0.9))
    assert judgement.verdict is Verdict.REVERTED
    assert word in judgement.reason


def test_a_fault_that_the_source_model_has_already_is_not_held_against_the_adaptation():
    missing = np.where(BALANCED == 3, 0, BALANCED)
    assert judge(scores(missing, 0.6), scores(missing, 0.9)).verdict is Verdict.IMPROVED


def test_information_is_log_c_for_certain_balanced_scores_and_zero_for_uniform_ones():
    assert information(scores(BALANCED, 1.0)) == pytest.approx(np.log(4))
    assert information(np.full((8, 4), 0.25)) == pytest.approx(0.0)


def test_an_adaptation_that_diverged_is_reverted():
    judgement = judge(scores(BALANCED, 0.6), np.full((80, 4), np.nan))
    assert judgement.verdict is Verdict.REVERTED
    assert "learning_rate" in judgement.reason
