import pytest

from ecan_core.errors import UsageError
from ecan_core.labels import EMOTIONS, WORDS, check_classes, emotion, folded, parse_relabel


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
        ("wütend", "anger"),
        ("WUETEND", "anger"),
        ("Ärger", "anger"),
        ("A\u0308rger", "anger"),
        ("Überraschung", "surprise"),
        ("En  Colère", "anger"),
        ("degout", "disgust"),
        ("Tristeza", "sadness"),
        ("MIEDO", "fear"),
        ("felicità", "happiness"),
        ("Złość", "anger"),
        ("zlosc", "anger"),
        ("SZCZĘŚCIE", "happiness"),
        ("悲伤", "sadness"),
        ("中性", "neutral"),
        ("xxx", None),
        ("gereizt", None),
        ("", None),
    ],
)
def test_common_spellings_of_an_emotion_are_understood(word: str, meaning: str | None) -> None:
    assert emotion(word) == meaning


@pytest.mark.parametrize("language", WORDS)
def test_every_language_has_words_for_what_is_recognized_most(language: str) -> None:
    assert set(WORDS[language]) <= set(EMOTIONS)
    assert {"anger", "fear", "happiness", "sadness", "surprise"} <= set(WORDS[language])


def test_no_word_means_one_emotion_here_and_another_one_there() -> None:
    meanings: dict[str, set[str]] = {name: {name} for name in EMOTIONS}
    for table in WORDS.values():
        for name, words in table.items():
            for word in words.split(","):
                meanings.setdefault(folded(word), set()).add(name)
    assert "" not in meanings
    assert {word: names for word, names in meanings.items() if len(names) > 1} == {}
    assert all(emotion(word) in names for word, names in meanings.items())


def test_a_relabeling_goes_by_the_word_and_else_by_its_emotion() -> None:
    relabel = parse_relabel(["gereizt=Wut", "Calm=neutral", "joy=excitement"])
    assert relabel == {"gereizt": "anger", "calm": "neutral", "joy": "excitement"}
    read = [emotion(word, relabel) for word in ("Gereizt", "ruhig", "JOY", "happy", "other")]
    assert read == ["anger", "neutral", "excitement", "happiness", None]


def test_two_emotions_can_be_exchanged() -> None:
    relabel = parse_relabel(["anger=fear", "fear=anger"])
    assert [emotion(word, relabel) for word in ("anger", "fear", "Angst")] == ["fear", "anger", "anger"]


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["neutral"], "is not WORD=EMOTION; write one such as calm=neutral"),
        (["=neutral"], "is not WORD=EMOTION"),
        (["other=hapiness"], "leads to no emotion: .* did you mean 'happiness'"),
        (["other="], "is not WORD=EMOTION"),
        (["other=xyz"], "leads to no emotion: .* the classes are anger"),
        (["calm=neutral,fear=anger"], "'neutral,fear=anger' is not a known class"),
        (["calm=neutral", "CALM=fear"], "counts 'CALM' as two emotions; name each word once"),
    ],
)
def test_a_relabeling_without_meaning_is_refused(pairs: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        parse_relabel(pairs)
    assert caught.value.exit_code == 2
