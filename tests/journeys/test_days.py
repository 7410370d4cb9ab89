"""A call centre that predicts every night, by one process or by eight."""

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import soundfile

from target_site.results.days import current_segments, latest_day
from tests.ecan_core.audio.sounds import syllables
from tests.support import cli
from tests.support.days import day_in
from tests.support.models import save_untrained
from tests.support.outputs import faults_in

pytestmark = pytest.mark.journey
RATE, SHARDS = 16_000, 8
COMMAND = Path(sys.executable).with_name("ecan-target")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return save_untrained(tmp_path_factory.mktemp("site") / "model")


def record(folder: Path, *names: int) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        soundfile.write(folder / f"{name}.wav", syllables(80 + 5 * name, seconds=1.0, seed=name), RATE)
    return folder


def predict(model: Path, calls: Path, out: Path, *more: object) -> cli.Result:
    return cli.target("predict", "--model", model, "--audio", calls, "--out", out, "--format", "json", *more)


def state_of(folder: Path) -> dict[Path, tuple[bytes, int]]:
    """Bytes and times of all files of a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def on_day(monkeypatch, day: int) -> None:
    monkeypatch.setattr("target_site.commands.model.today", lambda: day)


def test_a_second_night_hears_what_is_new_and_leaves_the_first_alone(model, tmp_path, monkeypatch):
    calls, out = record(tmp_path / "calls", 0, 1, 2), tmp_path / "out"
    on_day(monkeypatch, 20_421)
    first = predict(model, calls, out, "--parquet").json()
    assert (first["recordings"], first["known"]) == (3, 0)
    before = {path: path.read_bytes() for path in day_in(out).iterdir()}

    on_day(monkeypatch, 20_422)
    record(calls, 3)
    soundfile.write(calls / "1.wav", syllables(200, seconds=2.0, seed=9), RATE)
    os.utime(calls / "2.wav", (1, 1))  # copied anew: the same bytes
    second = predict(model, calls, out).json()
    assert (second["recordings"], second["known"]) == (2, 2)
    assert {path: path.read_bytes() for path in before} == before
    summary = json.loads((day_in(out) / "summary.json").read_text())
    assert summary["superseded"] == {str(calls / "1.wav"): "2025-11-29"}
    ends = {Path(one.recording).name: one.end_ms for one in current_segments(out)}
    assert ends == {"0.wav": 1000, "1.wav": 2000, "2.wav": 1000, "3.wav": 1000}
    assert faults_in(day_in(out)) == []

    third = predict(model, calls, out)
    assert (third.code, third.json()["recordings"], third.json()["known"]) == (0, 0, 4)
    assert "nothing new since the last run (4 recordings are known)" in third.stderr


def test_parquet_holds_the_rows_of_the_csv(model, tmp_path):
    import csv

    from pyarrow import parquet

    out = tmp_path / "out"
    assert predict(model, record(tmp_path / "calls", 0, 1), out, "--parquet").code == 0
    table = parquet.read_table(day_in(out) / "segments.parquet").to_pylist()
    with (day_in(out) / "segments.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["recording"] for row in table] == [row["recording"] for row in rows]
    assert [f"{row['score_fear']:.4f}" for row in table] == [row["score_fear"] for row in rows]
    assert {type(row["abstained"]) for row in table} == {bool}


def test_eight_shards_at_once_write_the_bytes_of_one_run(model, tmp_path):
    calls = record(tmp_path / "calls", *range(24))
    (calls / "broken.wav").write_bytes(b"RIFF")
    alone = predict(model, calls, tmp_path / "one")
    assert alone.code == 0, alone.stderr
    shared = shutil.copytree(model, tmp_path / "model")
    before = state_of(shared)

    def shard(number: int) -> subprocess.CompletedProcess[str]:
        words = (COMMAND, "predict", "--model", shared, "--audio", calls, "--out", tmp_path / "eight", "--quiet")
        return subprocess.run(
            [*map(str, words), "--shard", f"{number}/{SHARDS}"],
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )

    with ThreadPoolExecutor(SHARDS) as pool:
        ended = list(pool.map(shard, range(1, SHARDS + 1)))
    assert {done.returncode for done in ended} <= {0, 13, 18}, [done.stderr for done in ended]  # one has the broken one
    assert sum(done.returncode == 0 for done in ended) == SHARDS - 1
    for name in ("segments.csv", "segments.jsonl", "segments.rttm", "calls.jsonl"):
        assert (day_in(tmp_path / "eight") / name).read_bytes() == (day_in(tmp_path / "one") / name).read_bytes(), name
    assert {
        path: (path.read_bytes(), path.stat().st_mtime_ns) for path in shared.rglob("*") if path.is_file()
    } == before
    assert cli.target("log", "verify", "--folder", tmp_path / "eight", "--format", "json").json()["lines"] == 2 * SHARDS


def test_nothing_there_everything_refused_and_too_much_lost_are_told_apart(model, tmp_path):
    calls = tmp_path / "calls"
    calls.mkdir()
    empty = predict(model, calls, tmp_path / "out")
    assert (empty.code, "check that it is mounted" in empty.refusal()) == (17, True)
    (calls / "broken.wav").write_bytes(b"RIFF")
    refused = predict(model, calls, tmp_path / "out")
    assert (refused.code, "None of the 1 utterances can be used" in refused.refusal()) == (13, True)
    record(calls, 0, 1)
    (calls / "broken-too.wav").write_bytes(b"RIFF")
    lost = predict(model, calls, tmp_path / "out")
    assert (lost.code, "1 of 3 recordings were lost, more than 10 %" in lost.refusal()) == (18, True)
    again = predict(model, calls, tmp_path / "out")
    assert (again.code, again.json()["still_lost"]) == (0, 2)
    day = latest_day(tmp_path / "out")
    assert day is not None
    assert (day.recordings, day.lost, day.utterances) == (4, 2, 2)


def test_a_process_that_is_killed_while_it_hears_goes_on_and_counts_nothing_twice(model, tmp_path):
    calls, out = record(tmp_path / "calls", *range(12)), tmp_path / "out"
    words = [COMMAND, "predict", "--model", model, "--audio", calls, "--out", out, "--quiet"]
    with subprocess.Popen([*map(str, words)], stderr=subprocess.DEVNULL) as process:
        cache = out / ".heard" / "1-of-1" / "cache" / "features.cache"
        while not cache.exists() and process.poll() is None:
            pass
        process.kill()
    assert latest_day(out) is None
    assert predict(model, calls, out).code == 0
    assert len(current_segments(out)) == 12
    assert not (out / ".heard").exists()


def test_a_share_is_refused_where_recordings_depend_on_each_other(crossing, tmp_path):
    """A model that is normalized by speaker, and people whom it was not adapted to."""
    model, words = tmp_path / "model", ("--bundle", crossing.bundle, "--audio", crossing.target_labels)
    assert cli.target("adapt", *words, "--normalize", "speaker", "--method", "none", "--out", model).code == 0
    strangers = tmp_path / "strangers.csv"
    rows = [line.split(",")[0] for line in crossing.target_labels.read_text().splitlines()[1:9]]
    listed = [f"{crossing.target_labels.parent / name},new-{number % 2}\n" for number, name in enumerate(rows)]
    strangers.write_text("file,speaker\n" + "".join(listed))
    refused = predict(model, strangers, tmp_path / "out", "--shard", "1/2")
    assert (refused.code, "run without --shard" in refused.stderr) == (2, True)
    known = predict(model, crossing.target_labels, tmp_path / "known", "--shard", "1/2")
    assert known.code == 0, known.stderr
    assert predict(model, strangers, tmp_path / "out").json()["recordings"] == 8


def test_no_share_and_no_pyarrow_are_refused_before_anything_is_heard(model, tmp_path, monkeypatch):
    calls = record(tmp_path / "calls", 0)
    refused = predict(model, calls, tmp_path / "out", "--shard", "9/8")
    assert (refused.code, "write 1/8 to 8/8" in refused.refusal()) == (2, True)
    monkeypatch.setattr("target_site.results.parquet.has_parquet", lambda: False)
    refused = predict(model, calls, tmp_path / "out", "--parquet")
    assert (refused.code, "parquet]'" in refused.refusal()) == (2, True)
    assert not (tmp_path / "out").exists()
