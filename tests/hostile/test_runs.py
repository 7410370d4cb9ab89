"""Rows C25 to C30: what a contained process hands over that a recording has taken over, and what lies in its way.

The process that makes a run part of a day is not contained: it must write nothing that it was not asked for.
"""

import json
import os
from pathlib import Path

import pytest

from ecan_core.errors import EcanError, UsageError
from protocol.errors import FileError, MalformedError
from protocol.sandbox.landlock import landlock_abi
from target_site.accountability.expire import expire
from target_site.report.days import commit, finish_runs
from target_site.results.days import folder_of, latest_day
from target_site.results.runs import hearing_alone
from target_site.results.shards import WHOLE
from tests.hostile.infected import infect
from tests.support import cli
from tests.support.days import a_call, a_run, hand_over, predicted
from tests.support.models import save_untrained
from tests.support.speech import synthesize

DAY, A = 20_422, "/calls/a.wav"
HUGE, FORMULA = 10**30, "=cmd|'/C calc'!A0"
RUN, CALLS, SEGMENTS = "run.json", "calls.jsonl", "segments.jsonl"
LEFT_OUT = {"channel": None, "begin_ms": 0, "end_ms": 1, "reason": "silent", "message": "x"}
VALUES = {
    "C25-a-day-that-is-a-path": (RUN, "day", "../../x"),
    "C25-a-day-beyond-all-dates": (RUN, "day", HUGE),
    "C25-a-day-before-all-dates": (RUN, "day", -(10**7)),
    "C25-half-a-day": (RUN, "day", 1.5),
    "C25-a-class-of-two-lines": (RUN, "classes", ["anger", "joy\nSPEAKER x"]),
    "C25-no-classes": (RUN, "classes", []),
    "C25-a-digest-that-is-none": (RUN, "model_sha256", "\ud800"),
    "C25-no-confidence-asked-for": (RUN, "least_confidence", {}),
    "C25-a-confidence-that-is-no-number": (RUN, "least_confidence", {"anger": float("nan"), "joy": 0.5}),
    "C25-no-walls": (RUN, "containment", {}),
    "C25-a-file-touched-nowhere": (RUN, "touched", [["zz", 1, 1]]),
    "C25-a-file-touched-beyond-all-time": (RUN, "touched", [["ab", HUGE, 1]]),
    "C25-a-number-in-letters": (RUN, "forgotten", "<b>1</b>"),
    "C25-a-field-too-many": (RUN, "more", 1),
    "C26-a-place-that-is-a-path": (CALLS, "place", "../x"),
    "C26-a-huge-count": (CALLS, "utterances", HUGE),
    "C26-a-huge-count-of-a-class": (CALLS, "predicted", {"anger": HUGE}),
    "C26-a-count-in-letters": (CALLS, "predicted", {"anger": "1"}),
    "C26-a-class-unheard-of": (CALLS, "predicted", {"<b>": 1}),
    "C26-a-length-that-is-no-number": (CALLS, "speech_ms", float("nan")),
    "C26-a-time-beyond-all-time": (CALLS, "mtime_ns", HUGE),
    "C26-a-reason-left-out": (CALLS, "refused", [{name: LEFT_OUT[name] for name in ("channel", "begin_ms")}]),
    "C26-a-reason-that-is-a-list": (CALLS, "refused", [LEFT_OUT | {"reason": ["silent"]}]),
    "C26-a-name-that-cannot-be-written": (CALLS, "recording", "\ud800"),
    "C26-a-name-that-is-a-list": (CALLS, "recording", [A]),
    "C27-a-formula-for-a-class": (SEGMENTS, "label", FORMULA),
    "C27-a-class-of-two-lines": (SEGMENTS, "label", "joy\nSPEAKER x"),
    "C27-a-formula-for-a-score": (SEGMENTS, "scores", {"anger": FORMULA}),
    "C27-a-score-that-is-no-number": (SEGMENTS, "scores", {"anger": float("nan")}),
    "C27-an-endless-confidence": (SEGMENTS, "confidence", float("inf")),
    "C27-a-formula-for-a-channel": (SEGMENTS, "channel", FORMULA),
    "C27-an-utterance-of-no-recording": (SEGMENTS, "recording", "/calls/other.wav"),
}


def a_tampered_run(out: Path, file: str, field: str, value: object) -> Path:
    """Leave a run in which one value is another."""
    folder = hand_over(out, a_run(DAY, a_call(A)))
    facts = [json.loads(line) | {field: value} for line in (folder / file).read_text().splitlines()]
    (folder / file).write_text("".join(json.dumps(line) + "\n" for line in facts))
    return folder


@pytest.mark.parametrize(("file", "field", "value"), VALUES.values(), ids=VALUES)
def test_a_run_with_a_value_that_cannot_be_is_refused_before_anything_is_written(tmp_path, file, field, value):
    folder = a_tampered_run(tmp_path, file, field, value)
    with pytest.raises(UsageError, match="damaged or of another version; "):
        commit(tmp_path, folder)
    assert [path.name for path in tmp_path.iterdir()] == [".heard"]


@pytest.mark.parametrize("file", [RUN, CALLS, SEGMENTS])
def test_row_c28_brackets_without_end_are_refused(tmp_path, file):
    folder = hand_over(tmp_path, a_run(DAY, a_call(A)))
    (folder / file).write_text("[" * 200_000)
    with pytest.raises(UsageError, match="damaged"):
        commit(tmp_path, folder)


@pytest.mark.parametrize("file", [RUN, CALLS, SEGMENTS])
@pytest.mark.parametrize("make", [lambda path: path.symlink_to("/etc/hostname"), os.mkfifo], ids=["link", "pipe"])
def test_row_c28_a_link_or_pipe_for_a_file_is_not_read(tmp_path, file, make):
    folder = hand_over(tmp_path, a_run(DAY, a_call(A)))
    (folder / file).unlink()
    make(folder / file)
    with pytest.raises(MalformedError, match="not a regular file"):
        commit(tmp_path, folder)


def test_row_c28_no_cell_of_a_spreadsheet_and_no_name_on_the_page_is_more_than_text(tmp_path):
    named = f"/calls/{FORMULA}<script>x</script>.wav"
    run = a_run(DAY, a_call(named), speakers={named: FORMULA})
    folder = hand_over(tmp_path, run)
    lines = [json.loads(line) | {"role": FORMULA} for line in (folder / SEGMENTS).read_text().splitlines()]
    (folder / SEGMENTS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    day = commit(tmp_path, folder)
    assert day is not None
    assert f",{FORMULA}" not in (day.folder / "segments.csv").read_text()
    assert (day.folder / "segments.csv").read_text().count(f",'{FORMULA}") == 2
    assert "<script>" not in (day.folder / "day.html").read_text()


def test_row_c29_a_run_of_another_day_is_refused(tmp_path):
    predicted(tmp_path, a_run(DAY, a_call(A)))
    before = (folder_of(tmp_path, DAY) / CALLS).read_bytes()
    with pytest.raises(UsageError, match="damaged"):
        commit(tmp_path, hand_over(tmp_path, a_run(DAY, a_call("/calls/b.wav"))), days=range(DAY + 1, DAY + 2))
    assert (folder_of(tmp_path, DAY) / CALLS).read_bytes() == before


def test_row_c29_a_run_that_was_left_is_never_of_the_future(tmp_path):
    hand_over(tmp_path, a_run(2_900_000, a_call(A)))
    with pytest.raises(UsageError, match="damaged"):
        finish_runs(tmp_path)
    assert latest_day(tmp_path) is None


@pytest.mark.parametrize("name", ["2025-11-30", "index.sqlite"])
def test_row_c30_nothing_is_written_through_a_link(tmp_path, name):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    (out / name).symlink_to(elsewhere if name != "index.sqlite" else elsewhere / "index")
    with pytest.raises(FileError, match="is a link"):
        predicted(out, a_run(DAY, a_call(A)))
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize("name", [".heard", ".heard/1-of-1"])
def test_row_c30_no_run_is_heard_or_finished_behind_a_link(tmp_path, name):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    (out / name).parent.mkdir(parents=True)
    elsewhere.mkdir()
    (out / name).symlink_to(elsewhere)
    with pytest.raises(FileError, match="is a link"), hearing_alone(out, WHOLE):
        pass
    with pytest.raises(FileError, match="is a link"):
        finish_runs(out)


def test_row_c30_nothing_expires_behind_a_link(tmp_path):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    predicted(out, a_run(DAY, a_call(A)))
    folder_of(out, DAY).rename(elsewhere)
    folder_of(out, DAY).symlink_to(elsewhere)
    with pytest.raises(FileError, match="is a link"):
        expire([], [out], days=1, today=DAY + 10)
    assert (elsewhere / CALLS).exists()


@pytest.mark.skipif(landlock_abi() == 0, reason="this kernel has no Landlock")
def test_row_c31_who_hands_over_rubbish_hides_no_attempt_to_get_out(tmp_path, monkeypatch):
    synthesize(tmp_path / "calls", "valley", speakers=1, utterances=1)
    model = save_untrained(tmp_path / "model")
    infect(
        monkeypatch,
        attack="""
        from target_site.tasks import predict
        write = predict.write_run
        def rubbish(folder, run):
            write(folder, run)
            (folder / "run.json").write_text("[")
        predict.write_run = rubbish
        outcome(lambda: socket.create_connection(("127.0.0.1", 9)))
        """,
    )
    result = cli.target("predict", "--model", model, "--audio", tmp_path / "calls", "--out", tmp_path / "out")
    assert result.code == 15
    assert "attempts to reach a network" in result.refusal()
    with pytest.raises(EcanError, match="damaged"):
        finish_runs(tmp_path / "out")
