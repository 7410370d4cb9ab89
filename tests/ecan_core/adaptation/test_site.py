import copy

import numpy as np
import pytest
import torch

from ecan_core.adaptation.given import GivenLabels
from ecan_core.adaptation.settings import MEMBERS, AdaptSettings, members_of
from ecan_core.adaptation.site import adapt_site, num_epochs
from ecan_core.data.inputs import inputs_of
from ecan_core.errors import UsageError
from ecan_core.model.predict import committee_scores, predict_scores
from ecan_core.model.weights import to_arrays
from ecan_core.normalization.normalize import fit_normalizer
from ecan_core.normalization.voices import MIN_GUESSES
from tests.ecan_core.town import NAMES, town, trained_in_town

SETTINGS = AdaptSettings(epochs=5)


@pytest.fixture(scope="module")
def by_corpus():
    return trained_in_town("corpus")


@pytest.fixture(scope="module")
def by_speaker():
    return trained_in_town("speaker")


def adapted(source, place, mode, method="shot-im", **more):
    return adapt_site(
        lambda: copy.deepcopy(source), place.features, place.speakers, NAMES,
        mode=mode, methods=members_of(method), settings=SETTINGS, seed=0, **more,
    )  # fmt: skip


def accuracy(site, place):
    scores = committee_scores(site.networks, site.preparation.inputs(place.features, place.speakers))
    return float((scores.argmax(axis=1) == place.labels).mean())


def test_estimated_voices_come_near_to_known_speakers(by_corpus, by_speaker):
    place = town(3)
    corpus, voice = (accuracy(adapted(by_corpus, place, mode), place) for mode in ("corpus", "voice"))
    speaker = accuracy(adapted(by_speaker, place, "speaker"), place)
    assert corpus < speaker - 0.05
    assert voice > corpus + 0.5 * (speaker - corpus)


def test_voices_that_were_heard_take_the_place_of_estimated_ones(by_corpus):
    place = town(3)
    corpus, heard = adapted(by_corpus, place, "corpus"), adapted(by_corpus, place, "voice", heard=place.speakers)
    assert heard.preparation.ear is None
    assert heard.preparation.normalizer.speakers == {}  # nothing is kept of a voice
    assert accuracy(heard, place) > accuracy(corpus, place) + 0.03
    renamed = [f"other {name}" for name in place.speakers]
    first, again = (heard.preparation.inputs(place.features, names) for names in (place.speakers, renamed))
    rows = torch.arange(len(place.features))
    torch.testing.assert_close(first.batch(rows), again.batch(rows), rtol=0, atol=0)


def test_speakers_of_one_mood_each_do_no_harm(by_speaker):
    split = town(3, split=True)
    corpus, speaker = (accuracy(adapted(by_speaker, split, mode), split) for mode in ("corpus", "speaker"))
    assert speaker > corpus - 0.01


@pytest.mark.parametrize("mode", ["corpus", "speaker", "voice"])
def test_the_scores_of_the_last_round_are_what_a_later_prediction_gives(by_corpus, mode):
    place = town(3)
    site = adapted(by_corpus, place, mode)
    again = committee_scores(site.networks, site.preparation.inputs(place.features, place.speakers))
    np.testing.assert_array_equal(site.scores, again)


@pytest.mark.parametrize("mode", ["speaker", "voice"])
def test_an_adaptation_in_rounds_repeats_bit_for_bit(by_corpus, mode):
    place = town(3)
    first, again = (to_arrays(adapted(by_corpus, place, mode).networks[-1]) for _ in range(2))
    assert all(np.array_equal(first[name], again[name]) for name in first)


def test_epochs_are_numbered_through_members_and_rounds(by_corpus):
    told = []
    adapted(by_corpus, town(3), "voice", on_epoch=lambda record, scores: told.append((record.epoch, len(scores))))
    assert told == [(epoch, 600) for epoch in range(1, num_epochs("voice", 600, members_of("shot-im"), SETTINGS) + 1)]


@pytest.mark.parametrize("mode", ["corpus", "speaker", "voice"])
def test_without_a_method_the_source_model_stays_and_voices_are_not_looked_for(by_corpus, mode):
    site = adapted(by_corpus, town(3), mode, method="none")
    assert site.preparation.ear is None
    assert [member.records for member in site.members] == [[]]
    source, same = to_arrays(by_corpus), to_arrays(site.networks[0])
    assert all(np.array_equal(source[name], same[name]) for name in source)


@pytest.mark.parametrize(("mode", "plain"), [("voice", "corpus"), ("speaker", "speaker")])
def test_the_source_model_is_given_nothing_that_an_adaptation_guessed(by_corpus, mode, plain):
    place = town(3)
    guessed = adapted(by_corpus, place, mode).unadapted
    normalizer = fit_normalizer(plain, place.features, place.speakers)
    np.testing.assert_array_equal(
        predict_scores(by_corpus, guessed.inputs(place.features, place.speakers)),
        predict_scores(by_corpus, inputs_of(normalizer.apply(place.features, place.speakers))),
    )


def test_speaker_normalization_without_a_known_speaker_is_refused(by_corpus):
    place = town(3)._replace(speakers=[None] * 600)
    with pytest.raises(UsageError, match="speaker column"):
        adapted(by_corpus, place, "speaker")


def test_the_members_of_a_committee_differ_and_their_scores_are_averaged(by_corpus):
    site = adapted(by_corpus, town(3), "corpus")
    assert len({member.scores.tobytes() for member in site.members}) == MEMBERS
    np.testing.assert_allclose(site.scores, np.mean([member.scores for member in site.members], axis=0))


def test_no_two_seeds_share_a_member(by_corpus):
    first, second = (
        adapt_site(
            lambda: copy.deepcopy(by_corpus), town(3).features, [None] * 600, NAMES,
            mode="corpus", methods=members_of("shot-im"), settings=AdaptSettings(epochs=1), seed=seed,
        )
        for seed in (0, 1)
    )  # fmt: skip
    assert not {m.scores.tobytes() for m in first.members} & {m.scores.tobytes() for m in second.members}


@pytest.mark.parametrize("mode", ["corpus", "speaker", "voice"])
def test_an_adaptation_that_diverged_is_handed_on_to_be_judged(by_corpus, mode):
    settings = AdaptSettings(epochs=1, learning_rate=1e30)
    place = town(3)
    site = adapt_site(
        lambda: copy.deepcopy(by_corpus), place.features, place.speakers, NAMES,
        mode=mode, methods=("shot-im",), settings=settings, seed=0,
    )  # fmt: skip
    assert not np.isfinite(site.scores).all()


@pytest.mark.parametrize(("mode", "plain"), [("speaker", "speaker"), ("voice", "corpus")])
def test_too_few_utterances_to_guess_from_are_normalized_plainly(by_corpus, mode, plain):
    place = town(3, count=MIN_GUESSES - 1)
    site = adapted(by_corpus, place, mode)
    assert site.preparation == site.unadapted
    assert site.preparation.normalizer.mode == plain


@pytest.mark.parametrize(("mode", "method"), [("corpus", "committee"), ("corpus", "ecan"), ("speaker", "committee")])
def test_a_few_labels_make_the_rest_better(by_corpus, mode, method):
    place = town(3, count=300)
    rows = np.arange(0, 300, 6)
    given = GivenLabels(rows=rows, classes=place.labels[rows])
    rest = given.others(300)
    without, told = (adapted(by_corpus, place, mode, method, given=one).scores for one in (None, given))
    right = [(scores.argmax(axis=1) == place.labels)[rest].mean() for scores in (without, told)]
    assert right[1] > right[0]


def test_an_adaptation_with_labels_gives_the_scores_of_a_later_prediction(by_corpus):
    place = town(3, count=300)
    given = GivenLabels(rows=np.arange(40), classes=place.labels[:40])
    for mode in ("corpus", "speaker", "voice"):
        site = adapted(by_corpus, place, mode, given=given)
        again = committee_scores(site.networks, site.preparation.inputs(place.features, place.speakers))
        np.testing.assert_array_equal(site.scores, again)
