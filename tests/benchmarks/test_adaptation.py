import json
import sys

import pytest

from benchmarks import adaptation
from benchmarks.adaptation import Case, cases, measure, run_alone, statistics, table

CIRCUMSTANCES = {"commit": "abc", "day": "2026-01-01", "machine": "x86_64, 2 cores"}


def measured(work, utterances, cpu_s, epochs=1, **others):
    figures = {"wall_s": cpu_s, "cpu_s": cpu_s, "peak_mib": 300, "input_mib": 1}
    return Case(work, utterances)._asdict() | {"epochs": epochs} | figures | CIRCUMSTANCES | others


def table_of(monkeypatch, folder, lines):
    path = folder / "adaptation.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in lines))
    monkeypatch.setattr(adaptation, "RESULTS_FILE", path)
    return table()


def test_small_stays_small():
    assert max(case.utterances for case in cases(10_000)) == 10_000
    assert Case("product by voice", 1_000) in cases(1_000)
    assert [case for case in cases(1_000_000) if case.utterances > 100_000] == [Case("ecan", 1_000_000)]


def test_statistics_are_the_same_whatever_follows_them():
    assert (statistics(20_001)[:10_000] == statistics(10_000)).all()


@pytest.mark.parametrize("work", ["cowa", "finding voices"])
def test_a_case_is_timed_and_weighed(work):
    row = measure(Case(work, 200))
    assert row["epochs"] == (1 if work == "cowa" else None)
    assert row["wall_s"] >= 0.0
    assert row["peak_mib"] > row["input_mib"]


def test_the_product_has_the_epochs_of_all_rounds_and_members(monkeypatch):
    monkeypatch.setattr(adaptation, "timed", lambda case, settings: (1.0, 1.0))
    assert measure(Case("product by corpus", 1_000))["epochs"] == 3 * 15
    assert measure(Case("product by voice", 1_000))["epochs"] == 3 * 3 * 15


def test_time_is_divided_by_utterances_and_epochs(monkeypatch, tmp_path):
    rows = table_of(
        monkeypatch,
        tmp_path,
        [
            measured("product by voice", 1_000, 5.4, epochs=135),
            measured("ecan", 10_000, 0.5),
            measured("finding voices", 100_000, 20.0, epochs=None),
        ],
    )
    assert "| product by voice | 1,000 | 135 | 5.4 | 5.4 | 0.040 | 300 | 1 |" in rows
    assert "| ECAN | 10,000 | 1 | 0.5 | 0.5 | 0.050 | 300 | 1 |" in rows
    assert "| finding voices | 100,000 | - | 20.0 | 20.0 | 0.200 | 300 | 1 |" in rows


def test_the_table_mixes_no_commits_and_takes_the_latest_line(monkeypatch, tmp_path):
    text = table_of(
        monkeypatch,
        tmp_path,
        [
            {"method": "ecan", "utterances": 1_000} | CIRCUMSTANCES,
            measured("cowa", 3_000, 9.0, commit="old"),
            measured("ecan", 1_000, 8.0),
            measured("ecan", 1_000, 0.1),
        ],
    )
    assert "| ECAN | 1,000 | 1 | 0.1 |" in text
    assert "8.0" not in text
    assert "CoWA | 3,000" not in text


def test_what_takes_too_long_is_stopped_and_said_so(monkeypatch, tmp_path):
    monkeypatch.setattr(adaptation, "LIMIT_S", 0.01)
    row = run_alone(Case("ecan", 1_000))
    assert row["stopped"] == "after 0.01 s"
    assert "| ECAN | 1,000 |  | stopped after 0.01 s |" in table_of(monkeypatch, tmp_path, [row | CIRCUMSTANCES])


def test_what_ends_badly_is_recorded_as_such(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert run_alone(Case("ecan", 1_000))["stopped"].startswith("with exit code 1")
