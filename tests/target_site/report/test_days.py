"""A run becomes part of a day: once, whatever happens."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from ecan_core.data.forgotten import Forgotten
from ecan_core.errors import StorageError
from target_site.report import days
from target_site.report.days import commit, finish_runs, merge
from target_site.results.days import current_segments, date_of, folder_of, latest_day
from target_site.results.index import Index
from target_site.results.segments import PREDICTIONS
from target_site.results.shards import Shard, place_of_path
from tests.support.days import CLASSES, a_call, a_run, hand_over, predicted

DAY = 20_422
A, B, C = (f"/calls/{name}.wav" for name in "abc")


def files_of(out, day=DAY) -> dict[str, bytes]:
    """Content of a day's files, without the times at which runs ended."""
    files = {path.name: path.read_bytes() for path in folder_of(out, day).iterdir()}
    summary = json.loads(files["summary.json"])
    return files | {"summary.json": json.dumps(summary | {"ended_at": ""}).encode()}


def recordings_in(out, day=DAY) -> list[str]:
    lines = (folder_of(out, day) / "calls.jsonl").read_text().splitlines()
    return [json.loads(line)["recording"] for line in lines]


def test_a_day_has_a_folder_with_all_of_its_files(tmp_path):
    day = predicted(tmp_path, a_run(DAY, a_call(A, anger=2, uncertain=1), a_call(B, joy=1)), with_parquet=True)
    assert day is not None
    assert (day.folder, day.date) == (tmp_path / "2025-11-30", "2025-11-30")
    assert {path.name for path in day.folder.iterdir()} == set(PREDICTIONS)
    assert (day.recordings, day.utterances, day.abstained, day.counts) == (2, 5, 1, {"anger": 3, "joy": 1})
    assert not (tmp_path / ".heard" / "1-of-1").exists()
    assert latest_day(tmp_path) == day


def test_a_second_run_of_a_day_adds_to_it_and_another_day_leaves_it_alone(tmp_path):
    predicted(tmp_path, a_run(DAY, a_call(B)))
    predicted(tmp_path, a_run(DAY, a_call(A), a_call(C)))
    assert recordings_in(tmp_path) == [A, B, C]
    before = files_of(tmp_path)
    predicted(tmp_path, a_run(DAY + 1, a_call("/calls/d.wav")))
    assert files_of(tmp_path) == before
    assert recordings_in(tmp_path, DAY + 1) == ["/calls/d.wav"]


def test_shards_in_any_order_give_the_bytes_of_one_run(tmp_path):
    calls = [a_call(f"/calls/{number}.wav", anger=number % 3, joy=1) for number in range(20)]
    predicted(tmp_path / "one", a_run(DAY, *calls))
    for number in (3, 1, 2):
        shard = Shard(number=number, count=3)
        own = [call for call in calls if shard.holds(call.place)]
        assert own
        commit(tmp_path / "three", hand_over(tmp_path / "three", a_run(DAY, *own), shard))
        predicted(tmp_path / f"apart-{number}", a_run(DAY, *own))
    assert files_of(tmp_path / "three") == files_of(tmp_path / "one")
    assert merge(tmp_path / "joined", [tmp_path / f"apart-{number}" for number in (2, 3, 1)]) == [DAY]
    assert files_of(tmp_path / "joined") == files_of(tmp_path / "one")


def test_a_changed_recording_counts_on_its_last_day_alone(tmp_path):
    predicted(tmp_path, a_run(DAY, a_call(A, anger=5), a_call(B)))
    before = files_of(tmp_path)
    changed = a_call(A, joy=1, anger=0, supersedes=date_of(DAY))
    day = predicted(tmp_path, a_run(DAY + 1, changed))
    assert files_of(tmp_path) == before
    assert sorted(one.label for one in current_segments(tmp_path)) == ["anger", "joy"]
    assert day is not None
    assert json.loads((day.folder / "summary.json").read_text())["superseded"] == {A: date_of(DAY)}
    with Index(tmp_path, is_read_only=True) as index:
        counts = index.counts_of("ab" * 32, CLASSES, DAY, DAY + 1)
    assert {day: rows.tolist() for day, rows in counts.items()} == {DAY: [[1, 0, 0]], DAY + 1: [[0, 1, 0]]}


def test_a_recording_that_changes_twice_a_day_replaces_its_rows(tmp_path):
    predicted(tmp_path, a_run(DAY, a_call(A, anger=5), a_call(B)))
    day = predicted(tmp_path, a_run(DAY, a_call(A, anger=0, joy=2)))
    assert day is not None
    assert (recordings_in(tmp_path), day.utterances) == ([A, B], 3)
    assert len(current_segments(tmp_path)) == 3


STEPS = ["write_segments", "summarize", "render_day", "Index.note", "drop_run"]


def die(*_, **__) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("later", [0, 1])
def test_a_run_that_is_killed_while_it_becomes_part_of_a_day_counts_once(tmp_path, monkeypatch, step, later):
    predicted(tmp_path / "whole", a_run(DAY, a_call(A)))
    predicted(tmp_path / "whole", a_run(DAY, a_call(B), a_call(C)))
    out = tmp_path / "killed"
    predicted(out, a_run(DAY, a_call(A)))
    hand_over(out, a_run(DAY, a_call(B), a_call(C)))
    if not (child := os.fork()):
        monkeypatch.setattr(f"target_site.report.days.{step}", die)
        finish_runs(out)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9
    finish_runs(out)
    assert files_of(out) == files_of(tmp_path / "whole")
    predicted(out, a_run(DAY + later, a_call(B, anger=2, supersedes=date_of(DAY) if later else None)))
    rows = [one.recording for one in current_segments(out)]
    assert sorted(rows) == [A, B, B, C]


def test_what_a_killed_command_left_of_a_change_is_undone_before_anything_is_heard(tmp_path):
    predicted(tmp_path, a_run(DAY, *(a_call(f"/calls/{number}.wav") for number in range(500))))
    if not (child := os.fork()):
        index = sqlite3.connect(tmp_path / "index.sqlite", isolation_level=None)
        index.execute("PRAGMA cache_size = 1")
        index.execute("BEGIN IMMEDIATE")
        index.execute("UPDATE recordings SET listed = zeroblob(3000)")
        die()
    os.waitpid(child, 0)
    with pytest.raises(StorageError):
        latest_day(tmp_path)
    finish_runs(tmp_path)
    day = latest_day(tmp_path)
    assert day is not None
    assert day.recordings == 500


def test_a_run_without_its_end_is_no_run(tmp_path):
    folder = hand_over(tmp_path, a_run(DAY, a_call(A)))
    (folder / "run.json").unlink()
    assert commit(tmp_path, folder) is None
    finish_runs(tmp_path)
    assert latest_day(tmp_path) is None


def test_a_run_that_found_nothing_new_is_noted_and_writes_no_day(tmp_path):
    assert predicted(tmp_path, a_run(DAY)) is None
    assert not folder_of(tmp_path, DAY).exists()
    with Index(tmp_path, is_read_only=True) as index:
        assert index.ended_at > 0


def test_who_is_forgotten_while_a_run_goes_on_is_not_in_it(tmp_path):
    who = Forgotten.begin().named(["Erika"], [])
    run = a_run(DAY, a_call(A), a_call(B), speakers={A: "Erika"})
    commit(tmp_path, hand_over(tmp_path, run), who)
    assert recordings_in(tmp_path) == [B]
    assert b"Erika" not in b"".join(files_of(tmp_path).values())


def test_a_run_that_somebody_is_at_is_left_alone(tmp_path):
    folder = hand_over(tmp_path, a_run(DAY, a_call(A)))
    holding = f"""
import time; from pathlib import Path; from target_site.results.runs import hearing_alone
from target_site.results.shards import WHOLE
with hearing_alone(Path({str(tmp_path)!r}), WHOLE): print("there", flush=True); time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", holding], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        finish_runs(tmp_path)
        other.kill()
    assert folder.exists()
    assert latest_day(tmp_path) is None
    finish_runs(tmp_path)
    assert recordings_in(tmp_path) == [A]


def drifting(call_of, day, num=20):
    return a_run(day, *(call_of(f"/calls/{day}-{number}.wav", number) for number in range(num)))


def test_a_week_that_drifts_asks_for_another_adaptation_and_a_day_does_not(tmp_path):
    for day in range(DAY, DAY + 14):
        usual = predicted(
            tmp_path,
            drifting(lambda name, n: a_call(name, anger=3, joy=3 + int(place_of_path(Path(name)), 16) % 3), day),
        )
    assert usual is not None
    assert usual.drift is not None
    assert (usual.drift.is_drift, usual.advice) == (False, "")
    said = []
    for day in range(DAY + 14, DAY + 21):
        drifted = predicted(tmp_path, drifting(lambda name, n: a_call(name, anger=6, joy=0, uncertain=1), day))
        assert drifted is not None
        assert drifted.drift is not None
        said.append(drifted.advice[:11])
        if day == DAY + 14:
            assert (drifted.drift.is_drift, drifted.drift.moved) == (True, "joy")
    assert said[0] == ""
    assert said[-1] == "adapt again"


def test_days_of_another_model_are_not_compared_with(tmp_path):
    for day in range(DAY, DAY + 9):
        predicted(tmp_path, drifting(lambda name, n: a_call(name), day))
    other = predicted(tmp_path, a_run(DAY + 9, *(a_call(f"/n/{n}", joy=3) for n in range(20)), model_sha256="cd" * 32))
    assert other is not None
    assert other.drift is None


def test_a_later_day_wins_where_folders_know_the_same_recording(tmp_path):
    predicted(tmp_path / "a", a_run(DAY + 1, a_call(A, anger=0, joy=1)))
    predicted(tmp_path / "b", a_run(DAY, a_call(A), a_call(B)))
    merge(tmp_path / "all", [tmp_path / "a", tmp_path / "b"])
    assert sorted((one.recording, one.label) for one in current_segments(tmp_path / "all")) == [
        (A, "joy"),
        (B, "anger"),
    ]
    merge(tmp_path / "all", [tmp_path / "b"])  # once more changes nothing
    assert sorted((one.recording, one.label) for one in current_segments(tmp_path / "all")) == [
        (A, "joy"),
        (B, "anger"),
    ]


def test_without_pyarrow_an_old_parquet_file_does_not_stay_behind(tmp_path, monkeypatch):
    predicted(tmp_path, a_run(DAY, a_call(A)), with_parquet=True)
    monkeypatch.setattr(days, "has_parquet", lambda: False)
    predicted(tmp_path, a_run(DAY, a_call(B)))
    assert not (folder_of(tmp_path, DAY) / "segments.parquet").exists()
