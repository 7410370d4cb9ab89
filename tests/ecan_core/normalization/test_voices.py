import numpy as np
import pytest

import ecan_core.normalization.voices as voices_module
from ecan_core.audio.frontend import FRONT_ENDS
from ecan_core.errors import UsageError
from ecan_core.normalization.normalize import fit_normalizer
from ecan_core.normalization.voices import (
    MIN_GUESSES,
    UTTERANCES_PER_VOICE,
    class_offsets,
    find_voices,
    normalize_by_voices,
    possible_mode,
    tells_voices_apart,
    voice_columns,
)
from tests.ecan_core.town import NAMES, NUM_CLASSES, NUM_VOICES, town


@pytest.fixture(scope="module")
def place():
    return town(3)


def known(place):
    """The corpus's normalizer, what it makes of the town, and the true emotions as scores."""
    normalizer = fit_normalizer("corpus", place.features, [None] * len(place.features))
    normalized = np.stack(normalizer.apply(place.features, [None] * len(place.features)))
    return normalizer, normalized, np.eye(NUM_CLASSES)[place.labels]


def purity(names, truth):
    """Share of utterances whose group is mostly of their own kind."""
    groups = {name: [t for n, t in zip(names, truth, strict=True) if n == name] for name in set(names)}
    return sum(max(group.count(kind) for kind in set(group)) for group in groups.values()) / len(names)


def test_voices_are_told_apart_and_not_emotions(place):
    _, normalized, scores = known(place)
    assert round(len(normalized) / UTTERANCES_PER_VOICE) == NUM_VOICES
    names = find_voices(normalized, scores, voice_columns(NAMES), seed=0).names(normalized, scores)
    assert purity(names, place.speakers) > 0.95
    assert purity(names, place.labels.tolist()) < 0.45


def test_the_same_seed_finds_the_same_voices(place):
    _, normalized, scores = known(place)
    first, again = (find_voices(normalized, scores, voice_columns(NAMES), seed=4) for _ in range(2))
    np.testing.assert_array_equal(first.centers, again.centers)


def test_class_offsets_are_zero_on_average_and_leave_the_corpus_where_it_is(place):
    _, normalized, scores = known(place)
    offsets = class_offsets(normalized, scores)
    np.testing.assert_allclose(offsets.mean(axis=0), 0, atol=1e-6)
    for index in range(NUM_CLASSES):
        mean = normalized[place.labels == index].mean(axis=0)
        np.testing.assert_allclose(
            offsets[index] - offsets[0], mean - normalized[place.labels == 0].mean(axis=0), atol=1e-5
        )


def test_a_voice_that_is_mostly_angry_keeps_its_anger(place):
    rows = [
        row
        for row, (name, label) in enumerate(zip(place.speakers, place.labels, strict=True))
        if name != "0" or label == 0 or row % 10 == 0
    ]
    angry = place._replace(
        features=[place.features[row] for row in rows],
        labels=place.labels[rows],
        speakers=[place.speakers[row] for row in rows],
    )
    corpus, normalized, scores = known(angry)
    by_voice = normalize_by_voices(corpus, normalized, angry.speakers, scores)
    by_speaker = fit_normalizer("speaker", angry.features, angry.speakers)

    def error(normalizer):
        gap = normalizer.speakers["0"].center - normalizer.speakers["1"].center
        return np.abs(gap - (angry.offsets[0] - angry.offsets[1])).mean()

    assert error(by_voice) < 0.6 * error(by_speaker)


def test_voices_lie_on_top_of_each_other_once_normalized(place):
    corpus, normalized, scores = known(place)
    normalizer = normalize_by_voices(corpus, normalized, place.speakers, scores)
    rows = np.stack(normalizer.apply(place.features, place.speakers))
    means = [rows[np.array(place.speakers) == name].mean(axis=0) for name in ("0", "1", "2")]
    assert np.abs(means[0] - means[1]).max() < 0.3
    assert np.abs(means[0] - means[2]).max() < 0.3


def test_a_voice_heard_once_stays_near_the_corpus(place):
    corpus, normalized, scores = known(place)
    names = ["one", *["rest"] * (len(normalized) - 1)]
    one = normalize_by_voices(corpus, normalized, names, scores).speakers["one"]
    assert (
        np.abs(one.center - corpus.corpus.center) < 0.5 * np.abs(place.features[0] - corpus.corpus.center) + 0.3
    ).all()
    np.testing.assert_allclose(one.scale, corpus.corpus.scale, rtol=0.2)


def test_utterance_statistics_tell_voices_apart_and_frames_do_not():
    assert voice_columns(FRONT_ENDS["stats-v1"].feature_names).sum() == 157
    assert not tells_voices_apart(FRONT_ENDS["frames-v1"].feature_names)
    with pytest.raises(UsageError, match="--normalize corpus"):
        voice_columns(FRONT_ENDS["frames-v1"].feature_names)


@pytest.mark.parametrize("distinct", [1, 2])
def test_recordings_that_are_all_alike_are_no_fault(distinct):
    normalized = np.repeat(np.eye(distinct, len(NAMES)), 60, axis=0)
    scores = np.full((len(normalized), NUM_CLASSES), 1 / NUM_CLASSES)
    voices = find_voices(normalized, scores, voice_columns(NAMES), seed=0)
    assert np.isfinite(voices.centers).all()
    assert len(set(voices.names(normalized, scores))) == distinct


def test_too_few_utterances_are_normalized_by_corpus_in_place_of_voices():
    modes = [possible_mode("voice", num) for num in (MIN_GUESSES - 1, MIN_GUESSES)]
    assert modes == ["corpus", "voice"]
    assert [possible_mode(mode, 1) for mode in ("none", "corpus", "speaker")] == ["none", "corpus", "speaker"]


def test_the_voices_of_a_large_corpus_are_found_by_a_part_of_it(place, monkeypatch):
    monkeypatch.setattr(voices_module, "MOST_GROUPED", 150)
    _, normalized, scores = known(place)
    names = find_voices(normalized, scores, voice_columns(NAMES), seed=0).names(normalized, scores)
    assert len(set(names)) == NUM_VOICES
    assert purity(names, place.speakers) > 0.95
