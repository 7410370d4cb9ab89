import csv
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ecan_core.audio.frontend import FRONT_ENDS, FrontEnd
from ecan_core.audio.waveform import Waveform
from ecan_core.data.cache import FeatureCache
from ecan_core.data.features import extract_features, feature_key, num_workers
from ecan_core.errors import AudioError
from ecan_core.utterance import Utterance
from tests.ecan_core.audio.sounds import noise, syllables, tone

CORPORA = Path(__file__).parents[4] / "shared" / "corpora"
STATISTICS = FRONT_ENDS["stats-v1"]


@dataclass
class Loudness:
    """A front end small enough to check by hand; it keeps what it was given."""

    name: str = "loudness"
    dim: int = 2
    feature_names: tuple[str, ...] = ("rms", "samples")
    fingerprint: str = "1"
    heard: list[Waveform] = field(default_factory=list)

    def compute(self, waveform: Waveform) -> np.ndarray:
        self.heard.append(waveform)
        rms = np.sqrt(np.square(waveform.samples).mean())
        return np.array([rms, len(waveform.samples)], dtype=np.float32)


def write(path: Path, samples, rate=16_000) -> Path:
    soundfile.write(path, samples, rate, subtype="FLOAT")
    return path


def utterance(path: Path, **place) -> Utterance:
    return Utterance(id=f"{path.name} {place}", path=path, **place)


@pytest.fixture
def three(tmp_path):
    """Three utterances of different loudness."""
    paths = [write(tmp_path / f"{k}.wav", tone(200, 0.5) / k) for k in (1, 2, 3)]
    return [utterance(path) for path in paths]


def test_features_come_in_the_order_of_the_listing(three):
    table = extract_features(three, Loudness(), workers=0)
    assert table.utterances == tuple(three)
    np.testing.assert_allclose(table.matrix[:, 0], 0.5 / np.sqrt(2) / np.array([1, 2, 3]), rtol=1e-3)
    assert table.durations_s == (0.5, 0.5, 0.5)
    assert table.refusals == ()
    assert len(table) == 3


def test_every_front_end_hears_16_khz(tmp_path):
    front_end = Loudness()
    extract_features([utterance(write(tmp_path / "a.wav", tone(200), rate=44_100))], front_end, workers=0)
    assert front_end.heard[0].sample_rate == 16_000
    assert len(front_end.heard[0].samples) == pytest.approx(16_000 * 16_000 / 44_100, abs=1)


def test_segments_of_one_file_are_different_utterances(tmp_path):
    path = write(tmp_path / "call.wav", np.concatenate([tone(200), 0.1 * tone(200)]))
    pieces = [utterance(path, start_s=0.0, end_s=1.0), utterance(path, start_s=1.0, end_s=1.5)]
    table = extract_features(pieces, Loudness(), workers=0)
    assert table.matrix[:, 1].tolist() == [16_000, 8_000]
    assert table.matrix[0, 0] == pytest.approx(10 * table.matrix[1, 0], rel=1e-3)


def test_channels_of_one_file_are_different_utterances(tmp_path):
    path = write(tmp_path / "call.wav", np.stack([tone(200), 0.1 * tone(200)], axis=1))
    table = extract_features([utterance(path, channel=0), utterance(path, channel=1)], Loudness(), workers=0)
    assert table.matrix[0, 0] == pytest.approx(10 * table.matrix[1, 0], rel=1e-3)


def test_refusals_are_kept_with_their_reason_and_the_rest_goes_on(tmp_path, three):
    silent = utterance(write(tmp_path / "silent.wav", np.zeros(16_000, np.float32)))
    absent = utterance(tmp_path / "absent.wav")
    table = extract_features([absent, three[0], silent, three[1]], Loudness(), workers=0)
    assert table.utterances == (three[0], three[1])
    assert [(refusal.utterance, refusal.reason) for refusal in table.refusals] == [
        (absent, "NOT_FOUND"),
        (silent, "SILENT"),
    ]
    assert table.skipped == "2 (1 NOT_FOUND, 1 SILENT)"


def test_nothing_usable_is_an_error_that_counts_the_reasons(tmp_path):
    absent = [utterance(tmp_path / f"{k}.wav") for k in range(3)]
    with pytest.raises(AudioError, match=r"None of the 3 utterances can be used \(3 NOT_FOUND\)"):
        extract_features(absent, Loudness(), workers=0)


def test_features_that_are_not_finite_are_a_refusal(three):
    class Broken(Loudness):
        def compute(self, waveform: Waveform) -> np.ndarray:
            features = super().compute(waveform)
            return np.full_like(features, np.nan) if len(self.heard) == 2 else features

    table = extract_features(three, Broken(), workers=0)
    assert table.utterances == (three[0], three[2])
    assert [(refusal.utterance, refusal.reason) for refusal in table.refusals] == [(three[1], "NON_FINITE")]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system does not grant cores by process")
def test_no_more_workers_are_taken_than_cores_are_granted():
    granted = os.sched_getaffinity(0)
    assert num_workers(10**6) == len(granted)
    os.sched_setaffinity(0, {min(granted)})
    try:
        assert num_workers(10**6) == 1
    finally:
        os.sched_setaffinity(0, granted)


def test_no_utterance_at_all_is_an_error():
    with pytest.raises(AudioError, match="no utterance"):
        extract_features([], Loudness(), workers=0)


def test_progress_is_told_after_every_utterance(three):
    told = []
    extract_features(three, Loudness(), on_progress=lambda done, total: told.append((done, total)), workers=0)
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_the_cache_saves_the_second_computation(tmp_path, three):
    with FeatureCache(tmp_path / "cache") as cache:
        first = extract_features(three, Loudness(), cache, workers=0)
        idle = Loudness()
        second = extract_features(three, idle, cache, workers=0)
    assert idle.heard == []
    np.testing.assert_array_equal(first.matrix, second.matrix)
    assert first.durations_s == second.durations_s


def test_the_cache_is_about_content_and_not_about_names(tmp_path, three):
    moved = three[0].path.rename(tmp_path / "renamed.wav")
    with FeatureCache(tmp_path / "cache") as cache:
        extract_features([utterance(moved)], Loudness(), cache, workers=0)
        idle = Loudness()
        extract_features([replace(utterance(moved), speaker="anna", id="else")], idle, cache, workers=0)
        assert idle.heard == []
        write(moved, tone(300))
        extract_features([utterance(moved)], idle, cache, workers=0)
        assert len(idle.heard) == 1


def test_no_other_segment_channel_or_front_end_shares_a_key(tmp_path):
    path = tmp_path / "a.wav"
    places = [utterance(path, **place) for place in ({}, {"channel": 0}, {"start_s": 1.0}, {"end_s": 1.0})]
    keys = [feature_key(content, place, Loudness()) for place in places for content in ("aa", "bb")]
    keys.append(feature_key("aa", places[0], Loudness(fingerprint="2")))
    assert len(set(keys)) == len(keys)


def test_refusals_are_not_cached(tmp_path):
    path = write(tmp_path / "a.wav", np.zeros(16_000, np.float32))
    with FeatureCache(tmp_path / "cache") as cache:
        with pytest.raises(AudioError):
            extract_features([utterance(path)], Loudness(), cache, workers=0)
        write(path, tone(200))
        assert len(extract_features([utterance(path)], Loudness(), cache, workers=0)) == 1


@pytest.mark.parametrize("front_end", FRONT_ENDS.values(), ids=FRONT_ENDS)
def test_several_processes_give_the_same_as_one(tmp_path, front_end: FrontEnd):
    paths = [write(tmp_path / f"{k}.wav", syllables(seconds=0.5, seed=k)) for k in range(5)]
    listing = [utterance(path) for path in paths] + [utterance(tmp_path / "absent.wav")]
    alone = extract_features(listing, front_end)
    shared = extract_features(listing, front_end, workers=2)
    assert alone.utterances == shared.utterances
    assert [r.reason for r in alone.refusals] == [r.reason for r in shared.refusals] == ["NOT_FOUND"]
    for one, other in zip(alone.features, shared.features, strict=True):
        np.testing.assert_array_equal(one, other)


def test_white_noise_and_voices_have_finite_statistics(tmp_path):
    sounds = [noise(0.1), syllables(), tone(200, 0.2)]
    listing = [utterance(write(tmp_path / f"{k}.wav", sound)) for k, sound in enumerate(sounds)]
    assert np.isfinite(extract_features(listing, STATISTICS).matrix).all()


@pytest.mark.corpus
@pytest.mark.parametrize("name", ["emodb", "ravdess", "nemo"])
def test_real_speech_has_finite_and_lively_statistics(name):
    if not CORPORA.is_dir():
        pytest.skip("the real corpora are not beside the project (../shared/corpora)")
    with (CORPORA / name / "labels.csv").open(newline="") as listing:
        rows = list(csv.DictReader(listing))[::40]
    table = extract_features([utterance(CORPORA / name / row["path"]) for row in rows], STATISTICS)
    assert table.refusals == ()
    assert np.isfinite(table.matrix).all()
    assert (table.matrix.std(axis=0) > 1e-4).all()
    voiced = STATISTICS.feature_names.index("voiced.share")
    assert 0.3 < np.median(table.matrix[:, voiced]) < 0.95


def duplicate(path, to):
    """A copy to the byte; written anew, a float WAV file would hold another time."""
    to.write_bytes(path.read_bytes())
    return to


def test_the_same_sound_twice_is_told_and_can_be_counted_once(tmp_path, three):
    copy = utterance(duplicate(three[0].path, tmp_path / "copy.wav"))
    part = utterance(three[0].path, start_s=0.1)
    for workers in (0, 2):
        table = extract_features([three[0], part, copy, three[1]], STATISTICS, workers=workers)
        assert table.copies == (2,)
        once = table.without_copies()
        assert once.utterances == (three[0], part, three[1])
        assert len(once.features) == len(once.durations_s) == 3
        assert [(refusal.utterance, refusal.reason) for refusal in once.refusals] == [(copy, "COPY")]
        assert once.copies == ()


def test_copies_are_told_from_the_cache_as_well(tmp_path, three):
    copy = utterance(duplicate(three[0].path, tmp_path / "copy.wav"))
    with FeatureCache(tmp_path / "cache") as cache:
        for _ in range(2):
            assert extract_features([three[0], copy], Loudness(), cache, workers=0).copies == (1,)
