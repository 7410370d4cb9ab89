"""Calls and long recordings into utterances."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ecan_core.audio.decode import Recording
from ecan_core.data import calls
from ecan_core.data.calls import Parties, cut_recordings
from ecan_core.utterance import Utterance
from tests.ecan_core.audio.sounds import syllables
from tests.ecan_core.audio.test_speech import scene

RATE = 16_000
PARTIES = Parties(roles=("agent", "customer"), discarded=("agent",))
ALL = Parties(roles=(), mixed_because="a test")


def write(path: Path, *channels: np.ndarray) -> Utterance:
    soundfile.write(path, np.stack(channels, axis=1), RATE, subtype="PCM_16")
    return Utterance(id=path.name, path=path, speaker="anna")


@pytest.fixture
def call(tmp_path) -> Utterance:
    """A call of 40 s on two channels."""
    return write(tmp_path / "call.wav", scene((1, 4), (20, 23), total_s=40), scene((5, 8), (30, 36), total_s=40))


def places(cut) -> list[tuple[int | None, str | None, int]]:
    return [(item.channel, item.role, round(item.start_s)) for item in cut.utterances]


def test_a_call_becomes_utterances_in_the_order_of_time(call):
    cut = cut_recordings([call], ALL)
    assert places(cut) == [(0, None, 1), (1, None, 5), (0, None, 20), (1, None, 30)]
    assert {item.path for item in cut.utterances} == {call.path}
    assert {item.speaker for item in cut.utterances} == {"anna"}
    assert len({item.id for item in cut.utterances}) == 4
    assert cut.refusals == ()


def test_the_channel_of_a_discarded_role_yields_nothing(call):
    cut = cut_recordings([call], PARTIES)
    assert places(cut) == [(1, "customer", 5), (1, "customer", 30)]
    assert cut.num_discarded == 1


def test_no_feature_of_a_discarded_channel_can_be_asked_for_by_name(call):
    named = Utterance(id="a", path=call.path, channel=0, start_s=1.0, end_s=4.0)
    cut = cut_recordings([named], PARTIES)
    assert (cut.utterances, cut.num_discarded) == ((), 1)


def test_the_discarded_channel_still_tells_whose_voice_bleeds(tmp_path):
    agent, customer = scene((1, 4), total_s=40), scene((30, 36), total_s=40)
    call = write(tmp_path / "call.wav", agent, customer + 0.1 * agent)
    cut = cut_recordings([call], PARTIES)
    assert places(cut) == [(1, "customer", 30)]
    assert [refusal.reason for refusal in cut.refusals] == ["BLEED"]


def test_a_mixed_recording_is_refused_unless_somebody_says_why_not(tmp_path):
    mixed = write(tmp_path / "mixed.wav", scene((1, 4), (20, 23), total_s=40))
    assert [refusal.reason for refusal in cut_recordings([mixed], PARTIES).refusals] == ["MIXED"]
    allowed = Parties(roles=PARTIES.roles, discarded=PARTIES.discarded, mixed_because="customers alone are recorded")
    assert places(cut_recordings([mixed], allowed)) == [(0, None, 1), (0, None, 20)]


def test_more_channels_than_roles_are_refused(tmp_path):
    three = write(tmp_path / "three.wav", *[scene((1, 4), total_s=6)] * 3)
    cut = cut_recordings([three], PARTIES)
    assert (cut.utterances, [refusal.reason for refusal in cut.refusals]) == ((), ["NO_ROLE"])


def test_a_channel_in_which_nobody_speaks_is_said(tmp_path):
    call = write(tmp_path / "call.wav", scene((1, 4), total_s=40), np.zeros(40 * RATE, np.float32))
    cut = cut_recordings([call], ALL)
    assert places(cut) == [(0, None, 1)]
    assert [(refusal.utterance.channel, refusal.reason) for refusal in cut.refusals] == [(1, "NO_SPEECH")]


def test_short_recordings_and_listed_utterances_stay_as_they_are(tmp_path, call):
    short = write(tmp_path / "short.wav", syllables(), 0.1 * syllables())
    listed = Utterance(id="b", path=call.path, start_s=1.0, end_s=4.0)
    absent = Utterance(id="c", path=tmp_path / "absent.wav")
    cut = cut_recordings([short, listed, absent], ALL)
    assert cut.utterances == (short, listed)
    assert [refusal.reason for refusal in cut.refusals] == ["NOT_FOUND"]


def test_short_recordings_of_a_call_are_one_utterance_per_channel_that_is_kept(tmp_path):
    short = write(tmp_path / "short.wav", syllables(), 0.1 * syllables())
    cut = cut_recordings([short], Parties(roles=("agent", "customer")))
    assert [(item.channel, item.role, item.start_s) for item in cut.utterances] == [
        (0, "agent", None),
        (1, "customer", None),
    ]


def test_a_channel_that_does_not_exist_is_left_to_be_refused(call):
    named = Utterance(id="a", path=call.path, channel=7)
    for parties in (None, PARTIES):
        assert [item.channel for item in cut_recordings([named], parties).utterances] == [7]


@pytest.mark.parametrize("because", [None, "nobody else is recorded"])
def test_a_voice_as_loud_on_a_channel_that_nobody_may_hear_is_not_heard(tmp_path, because):
    both = scene((1, 4), (20, 23), total_s=40)
    parties = Parties(roles=PARTIES.roles, discarded=PARTIES.discarded, mixed_because=because)
    call = write(tmp_path / "call.wav", both, 0.8 * both)
    short = write(tmp_path / "short.wav", both[: 5 * RATE], 0.8 * both[: 5 * RATE])
    listed = Utterance(id="listed", path=call.path, start_s=1.0, end_s=4.0)
    cut = cut_recordings([call, short, listed], parties)
    heard = [1, 20, None, 1]
    if because is None:
        assert cut.utterances == ()
        assert [refusal.reason for refusal in cut.refusals] == ["MIXED"] * len(heard)
    else:
        assert [item.start_s and round(item.start_s) for item in cut.utterances] == heard


def test_a_short_call_of_two_voices_keeps_the_one_that_may_be_heard(tmp_path):
    short = write(tmp_path / "short.wav", scene((1, 4), total_s=9), scene((5, 8), total_s=9))
    cut = cut_recordings([short], PARTIES)
    assert [(item.channel, item.role) for item in cut.utterances] == [(1, "customer")]
    assert cut.refusals == ()


def test_two_microphones_before_one_voice_are_heard_once(tmp_path):
    both = scene((1, 4), (20, 23), total_s=40)
    cut = cut_recordings([write(tmp_path / "talk.wav", both, 0.7 * both)], ALL)
    assert places(cut) == [(0, None, 1), (0, None, 20)]
    assert [refusal.reason for refusal in cut.refusals] == ["BLEED", "BLEED"]


def conversation(num_turns: int = 18) -> tuple[np.ndarray, np.ndarray]:
    """An agent and a customer in turns of 3 s, so many each, on clean channels; every turn has its own rhythm."""
    random = np.random.default_rng(0)
    channels = 8e-4 * random.normal(size=(2, num_turns * 6 * RATE)).astype(np.float32)
    for turn in range(2 * num_turns):
        seconds = random.uniform(1.5, 2.2)
        rhythm = np.interp(np.arange(int(seconds * RATE)), np.arange(0, 3 * RATE, 1600), random.uniform(0.1, 1, 30))
        start = (3 * turn) * RATE
        channels[turn % 2, start : start + len(rhythm)] += 2 * syllables(100 + turn / 2, seconds) * rhythm
    return channels[0], channels[1]


def late(sound: np.ndarray, delay_s: float, db: float, color: tuple[float, ...] = (1.0,)) -> np.ndarray:
    """The sound as a line or a loudspeaker returns it."""
    echo = np.concatenate([np.zeros(round(delay_s * RATE)), sound])[: len(sound)]
    return 10 ** (db / 20) * np.convolve(echo, color, mode="same").astype(np.float32)


DULL = tuple(np.hanning(20) / np.hanning(20).sum())


@pytest.mark.parametrize(
    ("delay_s", "db", "color"),
    [
        (0.0, -12, (1.0,)),
        (0.02, -12, (1.0,)),
        (0.05, -12, (1.0,)),
        (0.15, -12, (1.0,)),
        (0.3, -20, (1.0,)),
        (0.4, -12, (1.0,)),
        (0.4, -4, (1.0,)),
        (0.2, -9, DULL),
    ],
)
def test_the_late_echo_of_eighteen_agent_turns_is_nobody_elses_voice(tmp_path, delay_s, db, color):
    agent, customer = conversation()
    call = write(tmp_path / "call.wav", agent, customer + late(agent, delay_s, db, color))
    cut = cut_recordings([call], PARTIES)
    assert len(cut.utterances) == 18
    assert all(item.start_s % 6 + 0.2 >= 3 for item in cut.utterances)
    assert {refusal.reason for refusal in cut.refusals} <= {"BLEED", "MIXED"}
    assert len(cut.refusals) == 18


def test_the_customers_echo_on_the_agents_line_takes_no_turn_from_the_customer(tmp_path):
    agent, customer = conversation()
    call = write(tmp_path / "call.wav", agent + late(customer, 0.2, -12), customer)
    cut = cut_recordings([call], PARTIES)
    assert len(cut.utterances) == 18
    assert cut.refusals == ()


def test_an_echo_in_a_short_or_listed_recording_is_found_as_well(tmp_path):
    agent, customer = conversation(4)
    call = write(tmp_path / "call.wav", agent, customer + late(agent, 0.25, -12))
    turns = [Utterance(id=str(start), path=call.path, start_s=start, end_s=start + 2.4) for start in (6.0, 9.0)]
    short = write(tmp_path / "short.wav", agent[: 3 * RATE], late(agent, 0.25, -12)[: 3 * RATE])
    cut = cut_recordings([*turns, short], PARTIES)
    assert [item.start_s for item in cut.utterances] == [9.0]
    assert [refusal.reason for refusal in cut.refusals] == ["BLEED", "BLEED"]


def test_what_cannot_be_looked_into_is_refused_and_never_read_as_it_was_listed(tmp_path, call, monkeypatch):
    (tmp_path / "letter.wav").write_text("no sound" * 10_000)
    letter = Utterance(id="letter", path=tmp_path / "letter.wav")

    def deadly(recording):
        os._exit(3)

    monkeypatch.setattr(calls, "levels_of", deadly)
    cut = cut_recordings([letter, call], PARTIES)
    assert cut.utterances == ()
    assert [refusal.reason for refusal in cut.refusals] == ["CONTAINER", "LOST"]


def test_progress_is_told_for_every_recording(tmp_path, call):
    short = write(tmp_path / "short.wav", syllables())
    told = []
    cut_recordings([call, short, call], on_progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_the_cuts_lie_within_the_recording(call):
    with Recording(call.path) as recording:
        length_s = recording.num_frames / recording.sample_rate
    for item in cut_recordings([call], ALL).utterances:
        assert 0 <= item.start_s < item.end_s <= length_s
