import numpy as np
import pytest

from ecan_core.adaptation.calibrate import guessed_accuracy
from ecan_core.adaptation.views import MOST, agreement_of_views, encoder_columns
from ecan_core.audio.frontend import FRONT_ENDS
from ecan_core.encoders.front_end import NAME, SSL_NAMES, front_end_named
from ecan_core.model.architectures import ARCHITECTURES

COLUMNS = np.arange(30) >= 10


def speech(num: int, loudness: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features that show three emotions in both views, and the emotions."""
    draw = np.random.default_rng(seed)
    emotions = draw.integers(3, size=num)
    return loudness * np.random.default_rng(9).normal(size=(3, 30))[emotions] + draw.normal(size=(num, 30)), emotions


def test_two_views_tell_alike_what_both_show_and_not_what_neither_does():
    rows, emotions = speech(600, 2.0)
    chance = np.random.default_rng(1).permutation(emotions)
    assert agreement_of_views(rows, COLUMNS, emotions, seed=0) > 0.95
    assert agreement_of_views(rows, COLUMNS, chance, seed=0) < 0.6


def test_the_clearer_the_emotions_the_more_the_views_agree():
    shares = [
        agreement_of_views(*(rows, COLUMNS, of), seed=0) for rows, of in (speech(600, x) for x in (0.2, 0.5, 1.5))
    ]
    assert shares == sorted(shares)
    assert len(set(shares)) == 3


def test_few_utterances_have_no_views_and_of_many_some_are_asked():
    rows, emotions = speech(9, 1.0)
    assert agreement_of_views(rows, COLUMNS, emotions, seed=0) is None
    rows, emotions = speech(MOST + 500, 1.0)
    assert agreement_of_views(rows, COLUMNS, emotions, seed=0) == agreement_of_views(rows, COLUMNS, emotions, seed=0)


def test_only_a_front_end_with_an_encoder_has_a_second_view():
    assert encoder_columns(FRONT_ENDS["stats-v1"].feature_names) is None
    for name, width in {NAME: 768, **SSL_NAMES}.items():
        columns = encoder_columns(front_end_named(name).feature_names)
        assert columns is not None
        assert (columns.sum(), (~columns).sum()) == (width, FRONT_ENDS["stats-v1"].dim)


@pytest.mark.parametrize("arch", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_the_view_that_training_hides_is_the_one_that_is_asked_here(arch):
    names = front_end_named(arch.front_end).feature_names
    columns = encoder_columns(names)
    heard = np.zeros(len(names), dtype=bool) if columns is None else columns
    assert (heard == (np.arange(len(names)) >= len(names) - arch.encoder(len(names)).num_heard)).all()


@pytest.mark.parametrize("views", [0.5, 0.7, 0.9])
def test_a_model_whose_views_agree_is_guessed_to_be_right_more_often(views):
    scores = np.full((100, 4), 0.1 / 3)
    scores[:, 0] = 0.9
    assert guessed_accuracy(scores, scores, views) < guessed_accuracy(scores, scores, views + 0.05)
