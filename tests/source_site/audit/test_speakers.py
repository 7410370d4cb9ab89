"""Attacks on speakers use recordings that no training has seen, and say when speakers are too few."""

import numpy as np

from source_site.audit.speakers import MIN_SPEAKERS, attack_speakers, enrolled, halves_of_speakers
from tests.source_site.audit.samples import answers

SPEAKERS = tuple(f"speaker {row % 24}" for row in range(24 * 8))
LABELS = np.arange(len(SPEAKERS)) // 24 % 3


def test_a_quarter_of_every_speaker_is_the_attackers_and_in_no_training():
    chosen = enrolled(SPEAKERS)
    assert all(chosen[row::24].sum() == 2 for row in range(24))
    knows, trained = halves_of_speakers(SPEAKERS, 10, seed=0)
    assert not trained[:, chosen].any()
    assert (trained == (knows & ~chosen)).all()


def test_speakers_are_known_whole_and_by_half_of_the_models():
    knows, _ = halves_of_speakers(SPEAKERS, 10, seed=0)
    for row in range(24):
        assert (knows[:, row::24] == knows[:, row : row + 1]).all()
    assert (knows.sum(axis=0) == 5).all()
    assert (knows.sum(axis=1) == len(SPEAKERS) // 2).all()


def test_an_utterance_of_nobody_known_is_in_no_training():
    knows, trained = halves_of_speakers((*SPEAKERS, None), 10, seed=0)
    assert not knows[:, -1].any()
    assert not trained[:, -1].any()
    assert not enrolled((None,) * 8).any()


def test_speakers_are_found_by_the_mean_over_what_the_attacker_has():
    knows, _ = halves_of_speakers(SPEAKERS, 32, seed=0)
    known = attack_speakers(answers(knows, LABELS, remembered=1.5), LABELS, knows, SPEAKERS)
    unknown = attack_speakers(answers(knows, LABELS, remembered=0.0), LABELS, knows, SPEAKERS)
    assert known.measured is not None
    assert unknown.measured is not None
    assert known.measured.auc.low > 0.7
    assert unknown.measured.auc.holds(0.5)


def test_too_few_speakers_cannot_be_measured_and_the_figure_is_only_told():
    few = tuple(f"speaker {row % (MIN_SPEAKERS - 1)}" for row in range(len(SPEAKERS)))
    knows, _ = halves_of_speakers(few, 16, seed=0)
    found = attack_speakers(answers(knows, LABELS, remembered=2.0), LABELS, knows, few)
    assert found.measured is None
    assert "19 speakers, fewer than 20; AUC 0." in found.note
