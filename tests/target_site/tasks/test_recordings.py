"""What is said of recordings that were left out, and which of them count as lost."""

from pathlib import Path

import numpy as np

from ecan_core.command_line.console import Narrator
from ecan_core.data.features import FeatureTable, Refusal
from ecan_core.utterance import Utterance
from target_site.results.predictions import not_speech
from target_site.tasks.recordings import count_lost, say_left_out


def one(name: str, start_s: float | None = None, end_s: float | None = None) -> Utterance:
    return Utterance(id=name, path=Path(name), start_s=start_s, end_s=end_s)


def refused(utterance: Utterance, reason: str, message: str = "Mend it.") -> Refusal:
    return Refusal(utterance=utterance, reason=reason, message=message)


def table(used: list[Utterance], refusals: list[Refusal]) -> FeatureTable:
    return FeatureTable(
        utterances=tuple(used),
        features=tuple(np.zeros(3) for _ in used),
        durations_s=tuple(2.0 for _ in used),
        refusals=tuple(refusals),
    )


def test_each_reason_has_one_line_with_its_count_an_example_and_a_remedy(capsys):
    damaged = [
        refused(one(f"{number}.wav"), "MALFORMED", f"{number}.wav is damaged; export it again.") for number in (1, 2)
    ]
    say_left_out([*damaged, refused(one("call.wav", 61.25, 64.0), "MUSIC", "This is music.")], Narrator())
    assert capsys.readouterr().err.splitlines() == [
        "left out 2 (MALFORMED), such as 1.wav is damaged; export it again.",
        "left out 1 (MUSIC), such as call.wav at 61.2 s: This is music.",
    ]


def test_nothing_is_said_where_nothing_is_left_out(capsys):
    say_left_out([], Narrator())
    assert capsys.readouterr().err == ""


def test_a_recording_is_lost_if_nothing_of_it_was_heard_that_should_have_been():
    listed = [one(name) for name in ("good", "damaged", "half", "music", "twice", "echo", "gone", "gone")]
    refusals = [
        refused(one("damaged"), "MALFORMED"),
        refused(one("half", 1, 2), "NON_FINITE"),
        refused(one("music"), "MUSIC"),
        refused(one("twice"), "COPY"),
        refused(one("echo", 1, 2), "BLEED"),
        refused(one("gone"), "NOT_FOUND"),
    ]
    heard = table([one("good"), one("half", 3, 5)], refusals)
    assert count_lost(listed, heard) == {"recordings": 7, "lost": 2}


def test_the_share_of_what_is_no_speech_is_that_of_all_that_was_loud():
    heard = table(
        [one("a", 0, 2), one("a", 4, 6)],
        [
            refused(one("a", 10, 14), "MUSIC"),
            refused(one("b", 0, 1), "HUM"),
            refused(one("c", 0, 1), "HUM"),
            refused(one("d", 0, 9), "BLEED"),
            refused(one("e"), "MALFORMED"),
        ],
    )
    assert not_speech(heard) == {"MUSIC": 0.4, "HUM": 0.2}
