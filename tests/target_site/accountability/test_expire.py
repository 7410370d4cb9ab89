import json
import os
import sqlite3

import numpy as np
import pytest

from ecan_core.data.cache import Extracted, FeatureCache
from protocol.ledger.grants import SECONDS_PER_DAY
from target_site.accountability.expire import expire
from target_site.results.segments import PREDICTIONS
from tests.support import cli
from tests.support.models import save_untrained

TODAY, DAYS = 20_000, 30


def cache_begun(path, day):
    with FeatureCache(path) as cache:
        cache.store("key", Extracted(np.zeros(3, np.float32), 1.0))
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version={day}")
    connection.close()
    return path


def predicted(folder, day):
    folder.mkdir()
    for name in (*PREDICTIONS, "notes.txt"):
        (folder / name).write_text("what somebody said")
        os.utime(folder / name, (0, day * SECONDS_PER_DAY + 60))
    return folder


@pytest.mark.parametrize(("age", "is_removed"), [(0, False), (DAYS, False), (DAYS + 1, True), (TODAY, True)])
def test_what_is_older_than_the_rules_allow_goes_and_nothing_else(tmp_path, age, is_removed):
    cache, folder = cache_begun(tmp_path / "c", TODAY - age), predicted(tmp_path / "out", TODAY - age)
    removed = expire([cache], [folder], days=DAYS, today=TODAY)
    assert removed == [cache, folder] * is_removed
    assert cache.exists() != is_removed
    left = {path.name for path in folder.iterdir()} - {".lock"}
    assert left == {"notes.txt"} if is_removed else left == {"notes.txt", *PREDICTIONS}


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
    model, folder = save_untrained(tmp_path / "model"), predicted(tmp_path / "out", 1)
    cache = cache_begun(model / "features.cache", 1)
    config = rules(tmp_path / "site.yaml", "retention_days: 30\n")
    words = ("expire", "--config", config, "--model", model, "--predictions", folder, "--format", "json")
    first = cli.target(*words)
    assert first.code == 0, first.stderr
    assert first.json() == {"removed": [str(cache), str(folder)]}
    assert cli.target(*words).json() == {"removed": []}
    events = [json.loads(line) for line in (model / "audit.jsonl").read_text().splitlines()]
    assert [len(event["removed"]) for event in events if event["event"] == "expire"] == [2, 0]
    assert str(folder) not in (model / "audit.jsonl").read_text()


@pytest.mark.parametrize(("text", "said"), [("", "no retention_days"), ("retention_days: 0\n", "must be 1 or more")])
def test_without_a_number_of_days_nothing_is_removed(tmp_path, text, said):
    model = save_untrained(tmp_path / "model")
    cache = cache_begun(model / "features.cache", 1)
    refused = cli.target("expire", "--config", rules(tmp_path / "site.yaml", text), "--model", model)
    assert refused.code == 3
    assert said in refused.refusal()
    assert cache.exists()
