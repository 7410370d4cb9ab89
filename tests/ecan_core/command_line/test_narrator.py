import pytest

from ecan_core.command_line.narrator import Narrator


def test_a_sentence_stays_one_line_whatever_names_it_holds(capsys: pytest.CaptureFixture[str]) -> None:
    Narrator().say("skipped \x1b[2Jcall\nerror: über.wav")
    assert capsys.readouterr().err == "skipped \\x1b[2Jcall\\nerror: über.wav\n"


def test_a_quiet_narrator_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Narrator(quiet=True).say("training")
    assert capsys.readouterr().err == ""
