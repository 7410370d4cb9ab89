import numpy as np
import pytest

from ecan_core.adaptation.calibrate import ABOVE_CHANCE, guessed_accuracy, mean_confidence, soften, temperature_of


def scores(sharpness: float, num: int = 400, num_classes: int = 4, seed: int = 0) -> np.ndarray:
    logits = sharpness * np.random.default_rng(seed).normal(size=(num, num_classes))
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True)


def test_a_model_becomes_as_sure_as_it_is_guessed_to_be_right():
    sure = scores(6.0)
    softened = soften(sure, temperature_of(sure, sure))
    assert mean_confidence(softened) == pytest.approx(guessed_accuracy(sure, sure), abs=1e-4)


def test_the_guess_grows_with_the_panel_s_confidence_and_with_the_agreement():
    panel, surer = scores(4.0), scores(8.0)
    assert guessed_accuracy(panel, panel) < guessed_accuracy(surer, surer)
    assert guessed_accuracy(scores(4.0, seed=1), surer) < guessed_accuracy(surer, surer)


def test_the_guess_is_near_chance_where_a_model_and_the_panel_have_nothing_in_common():
    assert guessed_accuracy(scores(2.0, num=20_000, seed=1), scores(2.0, num=20_000)) == pytest.approx(
        0.25 + ABOVE_CHANCE, abs=0.01
    )


def test_softening_changes_no_answer_and_keeps_sums():
    sure = scores(3.0)
    for temperature in (0.5, 1.0, 2.0, 8.0):
        softened = soften(sure, temperature)
        np.testing.assert_array_equal(softened.argmax(axis=1), sure.argmax(axis=1))
        np.testing.assert_allclose(softened.sum(axis=1), 1.0, atol=1e-12)
    np.testing.assert_allclose(soften(sure, 1.0), sure, atol=1e-12)


def test_scores_of_zero_and_one_stay_numbers():
    certain = np.eye(3, dtype=np.float32)[np.arange(30) % 3]
    temperature = temperature_of(certain, certain)
    assert np.isfinite(soften(certain, temperature)).all()


def test_nothing_is_softened_below_chance():
    vague = scores(0.3)
    softened = soften(vague, temperature_of(vague, vague))
    assert mean_confidence(softened) == pytest.approx(0.25 + ABOVE_CHANCE, abs=1e-3)


def test_a_panel_that_diverged_calibrates_nothing():
    assert temperature_of(scores(2.0), np.full((400, 4), np.nan)) == 1.0
