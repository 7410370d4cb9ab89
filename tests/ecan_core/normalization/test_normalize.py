import numpy as np
import pytest

from ecan_core.errors import UsageError
from ecan_core.normalization.normalize import CLAMP, SPEAKER_EVIDENCE, fit_normalizer, normalize_by_speakers, variety


def voices(counts, seed=0, dim=5):
    """Utterances of speakers whose own center is far from the others'."""
    draw = np.random.default_rng(seed)
    speakers = [name for name, count in counts.items() for _ in range(count)]
    offset = {name: draw.normal(0, 5, dim) for name in counts}
    return [offset[name] + draw.normal(0, 1, dim) for name in speakers], speakers


def test_corpus_normalization_gives_zero_mean_and_unit_deviation():
    features, speakers = voices({"a": 200, "b": 200})
    rows = np.stack(fit_normalizer("corpus", features, speakers).apply(features, speakers))
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(rows.std(axis=0), 1, atol=1e-5)


def test_speaker_normalization_removes_what_distinguishes_the_voices():
    features, speakers = voices({"a": 300, "b": 300})
    rows = np.stack(fit_normalizer("speaker", features, speakers).apply(features, speakers))
    gap = rows[:300].mean(axis=0) - rows[300:].mean(axis=0)
    assert np.abs(gap).max() < 0.2


def test_a_speaker_with_little_evidence_stays_near_the_corpus():
    features, speakers = voices({"many": 400, "one": 1})
    normalizer = fit_normalizer("speaker", features, speakers)
    trust = 1 / (1 + SPEAKER_EVIDENCE)
    expected = trust * features[-1] + (1 - trust) * normalizer.corpus.center
    np.testing.assert_allclose(normalizer.speakers["one"].center, expected, rtol=1e-4)


def test_a_known_speaker_keeps_the_statistics_of_the_adaptation():
    features, speakers = voices({"a": 50, "b": 50})
    normalizer = fit_normalizer("speaker", features, speakers)
    later = normalizer.knowing([np.full(5, 99.0), np.full(5, -3.0)], ["a", "new"])
    np.testing.assert_array_equal(later.speakers["a"].center, normalizer.speakers["a"].center)
    assert "new" in later.speakers
    assert "new" not in normalizer.speakers


def test_an_utterance_of_nobody_is_normalized_by_the_corpus():
    features, speakers = voices({"a": 50, "b": 50})
    normalizer = fit_normalizer("speaker", features, speakers)
    by_corpus = fit_normalizer("corpus", features, speakers)
    np.testing.assert_array_equal(normalizer.apply([features[0]], [None])[0], by_corpus.apply([features[0]], [None])[0])


def test_outliers_are_clamped_and_constant_columns_stay_finite():
    features = [np.array([0.0, 1.0]), np.array([0.0, 2.0]), np.array([0.0, 1.0]), np.array([0.0, 2.0])]
    normalizer = fit_normalizer("corpus", features, [None] * 4)
    row = normalizer.apply([np.array([0.0, 1e9])], [None])[0]
    np.testing.assert_array_equal(row, [0.0, CLAMP])


def test_frames_are_normalized_over_all_frames_of_all_utterances():
    draw = np.random.default_rng(1)
    sequences = [draw.normal(3, 2, (length, 4)).astype(np.float16) for length in (30, 70)]
    rows = np.concatenate(fit_normalizer("corpus", sequences, [None, None]).apply(sequences, [None, None]))
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-2)


def test_speaker_normalization_without_speakers_is_refused_with_the_remedy():
    with pytest.raises(UsageError, match="--normalize corpus"):
        fit_normalizer("speaker", [np.zeros(3)], [None])


def test_mode_none_leaves_the_numbers_alone():
    features, speakers = voices({"a": 5})
    rows = fit_normalizer("none", features, speakers).apply(features, speakers)
    np.testing.assert_allclose(np.stack(rows), np.stack(features), rtol=1e-6)


@pytest.mark.parametrize(
    ("labels", "num_classes", "expected"),
    [
        ([0, 1, 2, 3, 4], 5, 1.0),
        ([0, 0, 0, 0], 5, 0.0),
        ([0, 0, 0], 2, 0.0),
        ([0, 1, 0, 1], 2, 1.0),
        ([0, 0, 1, 1], 4, 1 / 3),
        ([0, 1], 6, 1.0),
        ([3], 4, 0.0),
    ],
)
def test_variety_is_the_share_of_the_classes_that_could_have_been_heard(labels, num_classes, expected):
    assert variety(np.eye(num_classes)[labels]) == pytest.approx(expected)


def moods(counts, heard, num_classes=4):
    """Utterances of ``voices`` and scores in which each speaker is heard in so many moods in turn."""
    features, speakers = voices(counts)
    turn = {name: iter(range(count)) for name, count in counts.items()}
    return features, speakers, np.eye(num_classes)[[next(turn[name]) % heard[name] for name in speakers]]


def test_speakers_heard_in_several_moods_are_normalized_as_ever():
    features, speakers, scores = moods({"a": 80, "b": 80}, {"a": 4, "b": 3})
    corpus = fit_normalizer("corpus", features, speakers)
    trusted, plain = (
        normalize_by_speakers(corpus, features, speakers, scores),
        fit_normalizer("speaker", features, speakers),
    )
    for name in ("a", "b"):
        np.testing.assert_array_equal(trusted.speakers[name].center, plain.speakers[name].center)


def test_a_speaker_heard_in_one_mood_is_normalized_by_the_corpus():
    features, speakers, scores = moods({"a": 80, "b": 80, "c": 80}, {"a": 4, "b": 1, "c": 4})
    corpus = fit_normalizer("corpus", features, speakers)
    trusted = normalize_by_speakers(corpus, features, speakers, scores)
    np.testing.assert_allclose(trusted.speakers["b"].center, corpus.corpus.center, rtol=1e-5)
    np.testing.assert_allclose(trusted.speakers["b"].scale, corpus.corpus.scale, rtol=1e-5)
    assert np.abs(trusted.speakers["a"].center - corpus.corpus.center).max() > 0.5


def test_a_site_whose_speakers_are_split_by_mood_trusts_none_of_them():
    features, speakers, scores = moods({"a": 80, "b": 80, "c": 8}, {"a": 1, "b": 1, "c": 4})
    corpus = fit_normalizer("corpus", features, speakers)
    trusted = normalize_by_speakers(corpus, features, speakers, scores)
    np.testing.assert_allclose(trusted.speakers["c"].center, corpus.corpus.center, rtol=1e-5)


def test_a_new_speaker_is_trusted_as_far_as_the_site_is():
    features, speakers, scores = moods({"a": 80, "b": 80}, {"a": 1, "b": 1})
    corpus = fit_normalizer("corpus", features, speakers)
    later = normalize_by_speakers(corpus, features, speakers, scores).knowing([np.full(5, 9.0)] * 9, ["new"] * 9)
    np.testing.assert_allclose(later.speakers["new"].center, corpus.corpus.center, rtol=1e-5)
    features, speakers, scores = moods({"a": 80, "b": 80}, {"a": 4, "b": 4})
    corpus = fit_normalizer("corpus", features, speakers)
    later = normalize_by_speakers(corpus, features, speakers, scores).knowing([np.full(5, 9.0)] * 9, ["new"] * 9)
    assert np.abs(later.speakers["new"].center - corpus.corpus.center).min() > 1


@pytest.mark.parametrize("num_classes", [2, 3])
def test_speakers_of_one_mood_are_not_trusted_where_classes_are_few(num_classes):
    features, speakers, _ = moods({"a": 40, "b": 40}, {"a": 1, "b": 1})
    scores = np.eye(num_classes)[[0] * 40 + [1] * 40]
    corpus = fit_normalizer("corpus", features, speakers)
    trusted = normalize_by_speakers(corpus, features, speakers, scores)
    np.testing.assert_allclose(trusted.speakers["a"].center, corpus.corpus.center, rtol=1e-5)
