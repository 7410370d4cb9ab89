import numpy as np
import pytest

from ecan_core.training.metrics import (
    bootstrap_interval,
    calibration_error,
    calibration_error_by_chance,
    calibration_interval,
    confusion,
    favorite,
    recall,
    risk_at_coverage,
    uar,
    war,
)

TRUE = [0, 0, 0, 0, 1, 1, 2]
PREDICTED = [0, 0, 0, 1, 1, 0, 2]


def test_the_confusion_matrix_has_true_rows_and_predicted_columns() -> None:
    assert confusion(TRUE, PREDICTED, 3).tolist() == [[3, 1, 0], [1, 1, 0], [0, 0, 1]]


def test_the_confusion_matrix_agrees_with_counting_one_by_one() -> None:
    generator = np.random.default_rng(3)
    true, predicted = generator.integers(0, 5, (2, 400))
    slow = np.zeros((5, 5), dtype=int)
    for row, column in zip(true, predicted, strict=True):
        slow[row, column] += 1
    assert np.array_equal(confusion(true, predicted, 5), slow)


def test_the_two_averages_weigh_classes_and_utterances() -> None:
    counts = confusion(TRUE, PREDICTED, 3)
    assert uar(counts) == pytest.approx((0.75 + 0.5 + 1.0) / 3)
    assert war(counts) == pytest.approx(5 / 7)


def test_a_constant_answer_has_the_recall_of_chance() -> None:
    assert uar(confusion([0, 0, 0, 1, 2, 3], [0] * 6, 4)) == pytest.approx(0.25)


def test_a_favorite_counts_as_if_classes_were_equally_frequent() -> None:
    # Of the many zeros all are answered 0, of the few ones half, of the few twos none: (1 + 1/2 + 0) / 3.
    assert favorite(confusion([0] * 96 + [1, 1, 2, 2], [0] * 96 + [0, 1, 2, 2], 4)) == (0, pytest.approx(0.5))
    assert favorite(confusion([0, 1, 1, 2], [1, 1, 1, 1], 3)) == (1, 1.0)


def test_a_class_that_nobody_spoke_is_left_out_of_the_average() -> None:
    counts = confusion([0, 0, 1, 1], [0, 2, 1, 1], 4)
    assert np.array_equal(recall(counts), [0.5, 1.0, np.nan, np.nan], equal_nan=True)
    assert uar(counts) == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("true", "predicted"),
    [([], []), ([0, 1], [0]), ([0, 3], [0, 1]), ([0, -1], [0, 1]), ([[0, 1]], [[0, 1]])],
)
def test_lists_that_do_not_pair_up_are_refused(true: list[int], predicted: list[int]) -> None:
    with pytest.raises(ValueError, match="classes"):
        confusion(true, predicted, 3)


def test_the_interval_is_the_same_for_the_same_seed_and_holds_the_value() -> None:
    generator = np.random.default_rng(0)
    true = generator.integers(0, 4, 300)
    predicted = np.where(generator.random(300) < 0.6, true, generator.integers(0, 4, 300))
    low, high = bootstrap_interval(true, predicted, 4, seed=1)
    assert (low, high) == bootstrap_interval(true, predicted, 4, seed=1)
    assert (low, high) != bootstrap_interval(true, predicted, 4, seed=2)
    assert low < uar(confusion(true, predicted, 4)) < high


def test_the_interval_agrees_with_resampling_utterance_by_utterance() -> None:
    generator = np.random.default_rng(5)
    true = generator.integers(0, 3, 120)
    predicted = np.where(generator.random(120) < 0.5, true, generator.integers(0, 3, 120))
    rows = generator.integers(0, 120, (2000, 120))
    slow = np.quantile([uar(confusion(true[row], predicted[row], 3)) for row in rows], [0.025, 0.975])
    assert bootstrap_interval(true, predicted, 3, seed=0, num=4000) == pytest.approx(slow, abs=0.02)


def test_the_interval_narrows_with_more_utterances_and_a_lower_level() -> None:
    def width(copies: int, level: float = 0.95) -> float:
        low, high = bootstrap_interval(TRUE * copies, PREDICTED * copies, 3, seed=0, level=level)
        return high - low

    assert width(100) < width(10) < width(1)
    assert width(10, level=0.5) < width(10)


def test_a_perfect_recognizer_has_an_interval_without_width() -> None:
    assert bootstrap_interval([0, 1, 2], [0, 1, 2], 3, seed=0) == (1.0, 1.0)


def test_risk_counts_errors_among_the_most_confident():
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.55, 0.45]])
    true = [0, 0, 0, 1]
    assert [risk_at_coverage(true, scores, share) for share in (0.01, 0.5, 0.75, 1.0)] == [0, 0.5, 1 / 3, 0.5]


def calibrated(num, seed):
    """True classes and scores of two classes that are as often right as they say."""
    rng = np.random.default_rng(seed)
    first = rng.uniform(0.1, 0.9, num)
    return (rng.random(num) >= first).astype(int), np.stack([first, 1 - first], axis=1)


def test_a_score_that_says_nothing_true_is_off_by_what_it_claims() -> None:
    scores = np.tile([0.8, 0.2], (1000, 1))
    assert calibration_error([1] * 1000, scores) == pytest.approx(0.8)
    assert calibration_interval([1] * 1000, scores, seed=0) == pytest.approx((0.8, 0.8))


def test_of_few_utterances_even_true_scores_are_off_by_chance() -> None:
    few, many = (calibration_error_by_chance(calibrated(num, 0)[1], seed=0) for num in (50, 5000))
    assert few > 0.1 > 0.03 > many


def test_the_interval_of_true_scores_holds_what_chance_makes_of_them() -> None:
    true, scores = calibrated(400, 1)
    low, high = calibration_interval(true, scores, seed=0)
    assert low < calibration_error(true, scores) < high
    assert low < calibration_error_by_chance(scores, seed=0) < high
    assert (low, high) == calibration_interval(true, scores, seed=0)
