"""What recordings hold beside speech: silence of any length, tones, hum, music."""

import numpy as np
import pytest
import soundfile

from benchmarks.call_sounds import RATE, at_level, line_tones, music, through_mu_law
from ecan_core.audio.decode import Recording
from ecan_core.audio.listening import listen
from ecan_core.audio.not_speech import KINDS
from ecan_core.audio.speech import levels_of, others_in, utterances_in
from tests.ecan_core.audio.sounds import syllables

VOICE = syllables(100, seconds=2.0)[::2]
TONES = line_tones(np.random.default_rng(0))
REASONS = {
    "ring-back, North America": "LINE_TONE",
    "ring-back, Europe": "LINE_TONE",
    "ring-back, Britain": "LINE_TONE",
    "busy": "LINE_TONE",
    "dial": "LINE_TONE",
    "digits": "KEYS",
    "beep": "TONE",
    "hum of 50 Hz": "HUM",
    "hum of 60 Hz": "HUM",
    "fax, called": "FAX",
    "modem": "FAX",
    "white noise": "NOISE",
    "pink noise": "NOISE",
}


def heard_in(tmp_path, *parts: np.ndarray, noise_db: float = -60, rate: int = RATE):
    """Utterances and what else there is in some sounds with pauses of 2 s between, as [start, end, reason]."""
    sound = np.concatenate([np.concatenate([np.zeros(2 * RATE), part]) for part in [*parts, np.zeros(RATE)]])
    sound = sound + at_level(np.random.default_rng(0).standard_normal(len(sound)), noise_db)
    soundfile.write(tmp_path / "a.wav", through_mu_law(sound), RATE, subtype="PCM_16")
    return heard_of(tmp_path / "a.wav")


def heard_of(path):
    with Recording(path) as recording:
        levels = levels_of(recording)
        heard = listen(recording, levels)[:, 0]
    utterances = utterances_in(levels[:, 0], heard)
    return utterances, [(*stretch, KINDS[kind][0]) for stretch, kind in others_in(levels[:, 0], heard, utterances)]


@pytest.mark.parametrize("name", REASONS)
def test_a_sound_of_the_line_is_no_utterance_and_has_a_name(tmp_path, name):
    utterances, others = heard_in(tmp_path, VOICE, at_level(TONES[name], -22), VOICE)
    assert [round(start_s) for start_s, _ in utterances] == [2, round(8 + len(TONES[name]) / RATE)]
    assert {reason for *_, reason in others} == {REASONS[name]}


@pytest.mark.parametrize("seed", range(3))
def test_hold_music_is_no_utterance_however_long_and_loud(tmp_path, seed):
    tune = at_level(music(40, np.random.default_rng(seed)), -14)
    utterances, others = heard_in(tmp_path, VOICE, tune, VOICE)
    assert [round(start_s) for start_s, _ in utterances] == [2, 48]
    assert sum(end_s - start_s for start_s, end_s, _ in others) > 32
    assert max(others, key=lambda one: one[1] - one[0])[2] in ("MUSIC", "TONE")


def test_a_recording_of_nothing_but_a_tone_has_no_utterance(tmp_path):
    for name in ("ring-back, Europe", "hum of 60 Hz", "fax, called"):
        utterances, others = heard_in(tmp_path, np.tile(TONES[name], 4))
        assert utterances == []
        assert {reason for *_, reason in others} == {REASONS[name]}


@pytest.mark.parametrize("share", [0.0, 0.16, 0.9])
@pytest.mark.parametrize("silence", ["hold before", "mute in the middle", "pieces"])
def test_digital_silence_of_any_share_changes_no_utterance(tmp_path, share, silence):
    random = np.random.default_rng(1)
    turns = [np.concatenate([VOICE, np.zeros(2 * RATE)]) for _ in range(10)]
    call = np.concatenate(turns) + 2e-3 * random.standard_normal(sum(map(len, turns)))
    nothing = np.zeros(int(len(call) * share / (1 - share)))
    pieces = {
        "hold before": [nothing, call],
        "mute in the middle": [call[: len(call) // 2], nothing, call[len(call) // 2 :]],
        "pieces": [part for turn in np.split(call, 10) for part in (turn, nothing[: len(nothing) // 10])],
    }[silence]
    soundfile.write(tmp_path / "a.wav", np.concatenate(pieces), RATE, subtype="PCM_16")
    utterances, others = heard_of(tmp_path / "a.wav")
    assert len(utterances) == 10
    assert all(1.7 < end_s - start_s < 2.5 for start_s, end_s in utterances)
    assert others == []


def test_a_line_that_sends_nothing_in_pauses_changes_no_utterance(tmp_path):
    random = np.random.default_rng(2)
    turn = np.concatenate([VOICE + 2e-3 * random.standard_normal(len(VOICE)), np.zeros(len(VOICE) // 2)])
    soundfile.write(tmp_path / "a.wav", np.tile(turn, 12), RATE, subtype="PCM_16")
    utterances, _ = heard_of(tmp_path / "a.wav")
    assert len(utterances) == 12


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100])
def test_places_do_not_drift_at_any_rate(tmp_path, rate):
    sound = np.zeros(600 * rate)
    place = 590 * rate
    sound[place : place + 3 * rate] = 0.1
    sound += 1e-4 * np.random.default_rng(0).standard_normal(len(sound))
    sound[place : place + 3 * rate] *= np.sin(np.arange(3 * rate) * 0.3)
    soundfile.write(tmp_path / "a.wav", sound, rate, subtype="PCM_16")
    with Recording(tmp_path / "a.wav") as recording:
        loud = np.flatnonzero(levels_of(recording)[:, 0] > -40)
    assert (loud[0], loud[-1]) == (59_000, 59_299)
