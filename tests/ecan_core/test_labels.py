import pytest

from ecan_core.errors import UsageError
from ecan_core.labels import EMOTIONS, check_classes, emotion


def test_the_emotions_are_twelve_different_words_in_alphabetical_order() -> None:
    assert len(EMOTIONS) == 12
    assert list(EMOTIONS) == sorted(set(EMOTIONS))


def test_classes_come_back_in_the_one_order() -> None:
    assert check_classes(["sadness", "anger", "neutral"]) == ("anger", "neutral", "sadness")


def test_all_twelve_may_be_classes() -> None:
    assert check_classes(reversed(EMOTIONS)) == EMOTIONS


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["anger", "hapiness"], "did you mean 'happiness'"),
        (["anger", "sad"], "did you mean 'sadness'"),
        (["anger", "Anger"], "did you mean 'anger'"),
        (["anger", "xyz"], "the classes are anger, boredom"),
        (["anger", "fear", "anger"], "'anger' is given twice"),
        (["anger"], "two classes or more and 1 is given"),
        ([], "two classes or more and 0 is given"),
    ],
)
def test_a_class_set_that_makes_no_sense_is_refused_with_the_remedy(names: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        check_classes(names)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        ("anger", "anger"),
        (" Happy ", "happiness"),
        ("SURPRISED", "surprise"),
        ("calm", "calm"),
        ("xxx", None),
    ],
)
def test_common_spellings_of_an_emotion_are_understood(word: str, meaning: str | None) -> None:
    assert emotion(word) == meaning
