import numpy as np
import pytest

from ecan_core.adaptation.verdict import Verdict, judge
from ecan_core.adaptation.voices_followed import followed_voices, told_of_voices
from tests.ecan_core.adaptation.test_verdict import scores

NUM, VOICES, CLASSES = 1200, 10, 4


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def mixed(emotion, by_voice, share, rng):
    """Answers of which a share follows the voice, and the rest the emotion."""
    return np.where(rng.random(len(emotion)) < share, by_voice, emotion)


@pytest.fixture
def site(rng):
    whose, emotion = rng.integers(VOICES, size=NUM), rng.integers(CLASSES, size=NUM)
    return emotion, whose


def names(whose):
    return [f"voice {number}" for number in whose]


def test_answers_that_follow_the_emotion_tell_nothing_of_who_speaks(site):
    emotion, whose = site
    assert told_of_voices(emotion, whose, CLASSES) == pytest.approx(0.0, abs=0.01)


def test_answers_that_follow_the_voice_tell_all_of_it(site):
    _, whose = site
    assert told_of_voices(whose % CLASSES, whose, CLASSES) == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize(("share", "is_followed"), [(0.2, False), (0.3, False), (0.6, True), (0.9, True)])
def test_an_adaptation_that_follows_the_voices_is_found_out(site, rng, share, is_followed):
    emotion, whose = site
    before = mixed(emotion, rng.integers(CLASSES, size=NUM), 0.4, rng)
    after = mixed(emotion, whose % CLASSES, share, rng)
    assert followed_voices(before, after, names(whose), CLASSES) is is_followed
    verdict = judge(scores(before, 0.6), scores(after, 0.9), 5.0, names(whose)).verdict
    assert (verdict is Verdict.REVERTED) is is_followed


def test_where_everybody_is_heard_in_one_mood_the_right_answers_may_tell_who_speaks(site, rng):
    _, whose = site
    emotion = whose % CLASSES
    before = mixed(emotion, rng.integers(CLASSES, size=NUM), 0.35, rng)
    assert told_of_voices(emotion, whose, CLASSES) > 0.25 + told_of_voices(before, whose, CLASSES)
    assert not followed_voices(before, emotion, names(whose), CLASSES)


def test_too_few_utterances_of_a_voice_and_unknown_voices_tell_nothing(site):
    emotion, whose = site
    by_voice = whose % CLASSES
    few = slice(2 * CLASSES * VOICES - 1)
    assert not followed_voices(emotion[few], by_voice[few], names(whose)[few], CLASSES)
    assert not followed_voices(emotion, by_voice, [None] * NUM, CLASSES)
    some = [name if row % 2 else None for row, name in enumerate(names(whose))]
    assert followed_voices(emotion, by_voice, some, CLASSES)


def test_the_reason_names_the_remedy(site, rng):
    emotion, whose = site
    after = mixed(emotion, whose % CLASSES, 0.6, rng)
    assert "adapt with --normalize voice" in judge(scores(emotion, 0.6), scores(after, 0.9), 5.0, names(whose)).reason
