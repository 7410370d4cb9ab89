from dataclasses import replace

import numpy as np
import pytest

from benchmarks import robustness
from benchmarks.arena import PRODUCT, LabeledSpeech, Outcome
from benchmarks.robustness import (
    ONE_EMOTION,
    DegradedJob,
    after_ring_back,
    between_silence,
    imbalanced_rows,
    in_eight_bits,
    noisy,
    one_emotion_each,
    over_music,
    over_telephone,
    write_wav,
)
from ecan_core.audio.decode import decode
from ecan_core.audio.waveform import Waveform
from tests.benchmarks.lines import line

RATE = 16_000


def tone(frequency, seconds=1.0, level=0.1):
    t = np.arange(round(seconds * RATE)) / RATE
    return Waveform(samples=(level * np.sin(2 * np.pi * frequency * t)).astype(np.float32), sample_rate=RATE)


def rms(sound):
    return float(np.sqrt(np.mean(np.square(sound.samples))))


def test_imbalance_is_ten_to_one_whatever_the_corpus_has():
    labels = np.repeat([0, 1, 2], [100, 140, 300])
    rows = imbalanced_rows(labels, 10.0, np.array([1, 0, 2]), np.random.default_rng(0))
    assert np.bincount(labels[rows]).tolist() == [32, 100, 10]
    assert len(set(rows)) == len(rows)


def test_imbalance_leaves_somebody_in_every_class():
    rows = imbalanced_rows(np.array([0, 1, 1, 2]), 10.0, np.arange(3), np.random.default_rng(0))
    assert len(rows) == 3


def test_a_speaker_with_one_emotion_has_a_name_that_does_not_tell_which():
    speech = LabeledSpeech(
        name="x",
        features=(np.zeros(2),) * 4,
        speakers=("a", "a", "b", "a"),
        labels=("anger", "fear", "anger", "anger"),
    )
    names = one_emotion_each(speech, np.random.default_rng(0))
    assert names[0] == names[3]
    assert len(set(names)) == 3
    assert not any("anger" in name or "fear" in name for name in names)


def test_a_telephone_takes_the_low_and_the_high_away():
    rng = np.random.default_rng(0)
    assert rms(over_telephone(tone(1000.0), rng)) == pytest.approx(rms(tone(1000.0)), rel=0.05)
    assert rms(over_telephone(tone(80.0), rng)) < 0.05 * rms(tone(80.0))
    assert rms(over_telephone(tone(6000.0), rng)) < 0.05 * rms(tone(6000.0))


def test_a_telephone_file_is_g711_and_is_read_again(tmp_path):
    import soundfile

    sent = over_telephone(tone(1000.0), np.random.default_rng(0))
    write_wav(tmp_path / "call.wav", sent)
    assert soundfile.info(tmp_path / "call.wav").subtype == "ULAW"
    heard = decode(tmp_path / "call.wav")
    assert heard.sample_rate == 8_000
    assert np.abs(heard.samples - sent.samples).max() < 0.05 * np.abs(sent.samples).max()


def test_noise_lies_ten_decibels_under_the_speech():
    sound = tone(500.0)
    noise = noisy(sound, np.random.default_rng(0)).samples - sound.samples
    assert 20 * np.log10(rms(sound) / np.sqrt(np.mean(noise**2))) == pytest.approx(10.0, abs=0.2)


def test_silence_stands_before_and_after():
    sound = between_silence(tone(500.0), np.random.default_rng(0))
    assert sound.duration_s == 5.0
    assert not sound.samples[: 2 * RATE].any()
    assert not sound.samples[-2 * RATE :].any()


def test_quiet_speech_has_few_steps_in_eight_bits():
    heard = in_eight_bits(tone(500.0, level=0.02), np.random.default_rng(0)).samples
    assert 4 <= len(np.unique(heard)) <= 7


def test_a_ring_back_tone_comes_first_and_the_speech_is_left_as_it_was():
    sound = tone(500.0)
    heard = after_ring_back(sound, np.random.default_rng(0)).samples
    assert len(heard) > 2 * len(sound.samples)
    assert np.array_equal(heard[-len(sound.samples) :], sound.samples)
    assert rms(replace(sound, samples=heard[: -len(sound.samples)])) == pytest.approx(rms(sound), rel=1e-3)


def test_music_lies_ten_decibels_under_the_speech_from_its_start_to_its_end():
    sound = tone(500.0)
    music = over_music(sound, np.random.default_rng(0)).samples - sound.samples
    assert 20 * np.log10(rms(sound) / np.sqrt(np.mean(music**2))) == pytest.approx(10.0, abs=0.2)


def test_what_would_clip_is_scaled_down(tmp_path):
    write_wav(tmp_path / "loud.wav", tone(500.0, level=3.0))
    assert np.abs(decode(tmp_path / "loud.wav").samples).max() == pytest.approx(1.0, abs=0.01)


def result(pair, normalization, uar, *, condition="as it is", effective=None, **others):
    return line(
        pair, normalization, PRODUCT, 0, uar, condition=condition, effective=effective or normalization, **others
    )


def test_the_table_says_what_the_verdict_did():
    lines = [
        result("a-b", "corpus", 0.4, verdict="reverted", uar_selected=0.5),
        result("b-a", "corpus", 0.6),
    ]
    assert "| corpus | as it is | 50.0 | 50.0 | 55.0 | +5.0 | 50% |" in robustness.table(lines)


def test_the_caption_names_the_worst_condition_beside_the_bar():
    lines = [
        result("a-b", "corpus", 0.6),
        result("a-b", "voice", 0.47, condition="telephone"),
        result("b-a", "voice", 0.49, condition="telephone"),
    ]
    assert "not more than 1 point below in any condition; the lowest is -2.0 (voice, telephone)" in (
        robustness.table(lines)
    )


def test_runs_with_too_few_utterances_for_voices_are_marked():
    lines = [result("a-b", "voice", 0.6, effective="corpus"), result("b-a", "voice", 0.6)]
    assert "| voice (1 of 2 by corpus) | as it is |" in robustness.table(lines)
    assert "under 100 utterances" in robustness.table(lines)
    assert "under 100 utterances" not in robustness.table(lines[1:])


def test_one_emotion_per_speaker_is_compared_with_the_corpus():
    by_corpus = {"uar_corpus": 0.62, "uar_selected_corpus": 0.61, "uar_source_corpus": 0.58}
    text = robustness.table([result("a-b", "speaker", 0.6, condition=ONE_EMOTION, **by_corpus)])
    assert "58.0 without adaptation, 62.0 adapted and 61.0 after the verdict" in text
    assert "same source networks" not in robustness.table([result("a-b", "speaker", 0.6)])


@pytest.mark.parametrize("normalization", ["speaker", "corpus"])
def test_the_product_alone_is_run_in_every_condition(normalization, monkeypatch):
    scores = np.eye(2)[np.zeros(120, dtype=int)]
    asked = []

    def adapt(model, site, *, mode, settings, seed):
        asked.append(mode)
        its = scores[: len(site.features)]
        return Outcome(its, its, (its, its), [], 0.0)

    monkeypatch.setattr(robustness, "train_source", lambda job: None)
    monkeypatch.setattr(robustness, "adapt_to", adapt)
    target = LabeledSpeech(
        name="b", features=(np.zeros(2),) * 120, speakers=("x", "y") * 60, labels=("anger", "fear", "fear") * 40
    )
    job = DegradedJob(
        source=replace(target, name="a"),
        target=target,
        classes=("anger", "fear"),
        normalization=normalization,
        seed=0,
        degraded={"telephone": target},
    )
    rows = robustness.run_job(job)
    assert {row["method"] for row in rows} == {PRODUCT}
    compared = [row for row in rows if "uar_corpus" in row]
    assert [row["condition"] for row in compared] == ([ONE_EMOTION] if normalization == "speaker" else [])
    assert len(asked) == len(rows) + len(compared)
    fallen = {row["num_utterances"] < 100 for row in rows if row["effective"] != row["normalization"]}
    assert fallen == (set() if normalization == "speaker" else {True})
    assert robustness.table([row | {"commit": "a", "day": "b", "machine": "c"} for row in rows])
