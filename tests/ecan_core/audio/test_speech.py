"""Where somebody speaks in a long recording."""

import itertools

import numpy as np
import pytest
import soundfile

from ecan_core.audio import speech
from ecan_core.audio.decode import Recording
from ecan_core.audio.speech import BLEED_DB, Stretch, heard_elsewhere, levels_of, utterances_in
from tests.ecan_core.audio.sounds import syllables

RATE = 16_000


def scene(*turns: tuple[float, float], total_s: float, noise: float = 1e-3, level: float = 0.5) -> np.ndarray:
    """Speech from and to these times above noise, [T]."""
    sound = noise * np.random.default_rng(0).normal(size=round(total_s * RATE)).astype(np.float32)
    for start_s, end_s in turns:
        voice = level * syllables(seconds=end_s - start_s)
        first = round(start_s * RATE)
        sound[first : first + len(voice)] += voice
    return sound


def levels(tmp_path, *channels: np.ndarray, rate=RATE) -> np.ndarray:
    soundfile.write(tmp_path / "a.wav", np.stack(channels, axis=1), rate, subtype="FLOAT")
    with Recording(tmp_path / "a.wav") as recording:
        return levels_of(recording)


def found(tmp_path, sound: np.ndarray) -> list[Stretch]:
    return utterances_in(levels(tmp_path, sound)[:, 0])


def test_the_level_of_a_full_sine_is_three_decibels_below_full_scale(tmp_path):
    sine = np.sin(2 * np.pi * 200 * np.arange(RATE) / RATE).astype(np.float32)
    got = levels(tmp_path, sine, 0.1 * sine + 0.3)
    assert got.shape == (100, 2)
    np.testing.assert_allclose(got, np.tile([-3.01, -23.01], (100, 1)), atol=0.05)


def test_levels_do_not_depend_on_how_the_recording_is_read(tmp_path, monkeypatch):
    sound = scene((1, 3), (5, 8), total_s=40)
    whole = levels(tmp_path, sound)
    monkeypatch.setattr(speech, "BLOCK_SAMPLES", 12_345)
    np.testing.assert_array_equal(levels(tmp_path, sound), whole)


@pytest.mark.parametrize("noise", [0.0, 1e-4, 1e-2])
@pytest.mark.parametrize("level", [0.05, 0.5])
def test_utterances_are_found_where_somebody_speaks(tmp_path, noise, level):
    turns = [(2.0, 5.0), (7.0, 9.0), (12.0, 20.0)]
    stretches = found(tmp_path, scene(*turns, total_s=25, noise=noise * level, level=level))
    assert len(stretches) == len(turns)
    for stretch, (start_s, end_s) in zip(stretches, turns, strict=True):
        assert start_s - 0.25 < stretch.start_s < start_s + 0.25
        assert end_s - 0.5 < stretch.end_s < end_s + 0.25


def test_short_pauses_do_not_end_an_utterance_and_long_ones_do(tmp_path):
    assert len(found(tmp_path, scene((1, 3), (3.2, 5), total_s=8))) == 1
    assert len(found(tmp_path, scene((1, 3), (4.0, 6), total_s=8))) == 2


def test_a_click_and_a_word_too_short_to_hear_a_mood_in_are_left_out(tmp_path):
    sound = scene((5, 7), total_s=10)
    sound[RATE : RATE + 160] += 0.5
    assert len(found(tmp_path, sound)) == 1


def test_nobody_is_heard_in_silence_and_little_noise(tmp_path):
    assert found(tmp_path, np.zeros(10 * RATE, np.float32)) == []
    assert found(tmp_path, scene(total_s=10, noise=1e-5)) == []


def test_a_long_monologue_is_cut_where_it_is_quietest(tmp_path):
    sound = scene((0.5, 40), total_s=41)
    sound[round(12.3 * RATE) : round(12.4 * RATE)] *= 1e-3
    stretches = found(tmp_path, sound)
    assert all(stretch.end_s - stretch.start_s <= speech.MAX_UTTERANCE_S for stretch in stretches)
    assert 12.3 < stretches[0].end_s < 12.41
    for one, following in itertools.pairwise(stretches):
        assert one.end_s == following.start_s


def test_speech_without_a_pause_is_used_whole(tmp_path):
    stretches = found(tmp_path, scene(total_s=20, noise=0.1))
    assert sum(stretch.end_s - stretch.start_s for stretch in stretches) > 19


def elsewhere(tmp_path, *channels: np.ndarray) -> list[list[tuple[int, dict[int, float]]]]:
    """Of every channel the utterances' starts in whole seconds, and where else they are heard."""
    got = levels(tmp_path, *channels)
    return [
        [(round(one.start_s), heard_elsewhere(one, channel, got)) for one in utterances_in(got[:, channel])]
        for channel in range(len(channels))
    ]


def test_a_voice_that_is_louder_on_the_other_channel_is_heard_there(tmp_path):
    agent, customer = scene((1, 4), total_s=10), scene((5, 8), total_s=10)
    heard = elsewhere(tmp_path, agent + 0.1 * customer, customer + 0.1 * agent)
    for channel, (own, foreign) in enumerate([(1, 5), (5, 1)]):
        by_start = dict(heard[channel])
        assert by_start.keys() == {own, foreign}
        assert by_start[own][1 - channel].louder_db == pytest.approx(-20, abs=1)
        assert by_start[foreign][1 - channel].louder_db == pytest.approx(20, abs=1)


def test_equal_channels_are_as_loud(tmp_path):
    both = scene((1, 4), (5, 8), total_s=10)
    for channel, heard in enumerate(elsewhere(tmp_path, both, both)):
        assert [start for start, _ in heard] == [1, 5]
        for _, others in heard:
            assert abs(others[1 - channel].louder_db) < 0.1 < BLEED_DB


def test_a_loud_and_noisy_line_is_nobodys_voice(tmp_path):
    quiet = scene((1, 4), (5, 8), total_s=10, level=0.05)
    noise = 0.2 * np.random.default_rng(1).normal(size=len(quiet)).astype(np.float32)
    assert elsewhere(tmp_path, quiet, noise)[0] == [(1, {}), (5, {})]


def test_two_who_speak_at_once_are_two(tmp_path):
    one, faster = scene((1, 6), total_s=10), scene((1.3, 8), total_s=13)
    other = np.interp(np.arange(10 * RATE) * 1.3, np.arange(13 * RATE), faster)
    assert elsewhere(tmp_path, one, other)[0] == [(1, {})]


def test_levels_of_a_part_are_those_of_the_whole(tmp_path):
    whole = levels(tmp_path, scene((1, 3), total_s=6))
    with Recording(tmp_path / "a.wav") as recording:
        np.testing.assert_array_equal(levels_of(recording, 1.0, 2.5), whole[100:250])
        np.testing.assert_array_equal(levels_of(recording, 5.0, 99.0), whole[500:])
        assert levels_of(recording, 7.0, None).shape == (0, 1)


def test_no_frames_are_no_speech():
    assert utterances_in(np.zeros(0, np.float32)) == []
