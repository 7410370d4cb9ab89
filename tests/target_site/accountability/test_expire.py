import json
import os
import sqlite3

import numpy as np
import pytest

from ecan_core.data.cache import Extracted, FeatureCache
from protocol.ledger.grants import SECONDS_PER_DAY
from target_site.accountability.expire import expire
from target_site.results.days import folder_of, latest_day
from target_site.results.index import Index
from tests.support import cli
from tests.support.days import a_call, a_run, hand_over, predicted
from tests.support.models import save_untrained

TODAY, DAYS = 20_000, 30


def cache_begun(path, day):
    with FeatureCache(path) as cache:
        cache.store("key", Extracted(np.zeros(3, np.float32), 1.0))
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version={day}")
    connection.close()
    return path


def predicted_on(out, day):
    predicted(out, a_run(day, a_call("/calls/a.wav")))
    (folder_of(out, day) / "notes.txt").write_text("somebody's own")
    return out


@pytest.mark.parametrize(("age", "is_removed"), [(0, False), (DAYS, False), (DAYS + 1, True), (TODAY, True)])
def test_what_is_older_than_the_rules_allow_goes_and_nothing_else(tmp_path, age, is_removed):
    cache, out = cache_begun(tmp_path / "c", TODAY - age), predicted_on(tmp_path / "out", TODAY - age)
    folder = folder_of(out, TODAY - age)
    before = {path.name for path in folder.iterdir()}
    removed = expire([cache], [out], days=DAYS, today=TODAY)
    assert removed == [cache, folder] * is_removed
    assert cache.exists() != is_removed
    assert before >= {"notes.txt", "segments.csv", "calls.jsonl", "summary.json", "day.html"}
    assert {path.name for path in folder.iterdir()} == ({"notes.txt"} if is_removed else before)
    assert (latest_day(out) is None) == is_removed


def test_a_day_that_the_index_does_not_know_expires_as_well(tmp_path):
    out = predicted_on(tmp_path, TODAY - 40)
    with sqlite3.connect(out / "index.sqlite") as connection:
        connection.execute("DELETE FROM days")
    connection.close()
    (out / "9999-99-99").mkdir()
    assert expire([], [out], days=DAYS, today=TODAY) == [folder_of(out, TODAY - 40)]
    assert [path.name for path in folder_of(out, TODAY - 40).iterdir()] == ["notes.txt"]


def test_a_recording_whose_predictions_expired_stays_known_without_its_name(tmp_path):
    call = a_call("/calls/Erika.wav")
    predicted(tmp_path, a_run(TODAY - 40, call))
    predicted(tmp_path, a_run(TODAY, a_call("/calls/b.wav")))
    assert expire([], [tmp_path], days=DAYS, today=TODAY) == [folder_of(tmp_path, TODAY - 40)]
    assert not folder_of(tmp_path, TODAY - 40).exists()
    with Index(tmp_path, is_read_only=True) as index:
        assert index.known([call.place])[call.place].day == TODAY - 40
        assert index.days() == [TODAY]
    assert b"Erika" not in (tmp_path / "index.sqlite").read_bytes()


def test_what_a_killed_run_left_expires_as_well(tmp_path):
    folder = hand_over(tmp_path, a_run(TODAY, a_call("/calls/a.wav")))
    (folder / "run.json").unlink()  # it was killed before its end
    os.utime(folder, (0, (TODAY - DAYS - 1) * SECONDS_PER_DAY))
    assert expire([], [tmp_path], days=DAYS, today=TODAY) == [folder]
    assert not folder.exists()


def test_where_nothing_is_there_nothing_happens(tmp_path):
    assert expire([tmp_path / "cache"], [tmp_path / "none"], days=DAYS, today=TODAY) == []
    assert list(tmp_path.iterdir()) == []


def test_a_cache_knows_the_day_on_which_it_was_begun(tmp_path):
    with FeatureCache(tmp_path / "new") as cache:
        begun = cache.begun_on
    assert expire([tmp_path / "new"], [], days=1, today=begun + 1) == []
    assert expire([tmp_path / "new"], [], days=1, today=begun + 2) == [tmp_path / "new"]


def rules(path, text):
    path.write_text("purpose: care\nsubjects: patient\n" + text)
    path.chmod(0o600)
    return path


def test_the_command_removes_logs_and_is_quiet_the_next_time(tmp_path):
    model, out = save_untrained(tmp_path / "model"), predicted_on(tmp_path / "out", 1)
    cache = cache_begun(model / "features.cache", 1)
    config = rules(tmp_path / "site.yaml", "retention_days: 30\n")
    words = ("expire", "--config", config, "--model", model, "--predictions", out, "--format", "json")
    first = cli.target(*words)
    assert first.code == 0, first.stderr
    assert first.json() == {"removed": [str(cache), str(folder_of(out, 1))]}
    assert cli.target(*words).json() == {"removed": []}
    events = [json.loads(line) for line in (model / "audit.jsonl").read_text().splitlines()]
    assert [len(event["removed"]) for event in events if event["event"] == "expire"] == [2, 0]
    assert str(out) not in (model / "audit.jsonl").read_text()


@pytest.mark.parametrize(("text", "said"), [("", "no retention_days"), ("retention_days: 0\n", "must be 1 or more")])
def test_without_a_number_of_days_nothing_is_removed(tmp_path, text, said):
    model = save_untrained(tmp_path / "model")
    cache = cache_begun(model / "features.cache", 1)
    refused = cli.target("expire", "--config", rules(tmp_path / "site.yaml", text), "--model", model)
    assert refused.code == 3
    assert said in refused.refusal()
    assert cache.exists()
