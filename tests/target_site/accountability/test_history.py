"""What `ecan-target log show` tells: when, who, what, with which model."""

import json
from datetime import UTC, datetime
from hashlib import sha256

import pytest

from target_site.accountability.audit_log import HEAD, LOG, AuditLog
from target_site.accountability.history import COMMANDS, read_events
from tests.support import cli

MORNING, EVENING = datetime(2026, 11, 29, 8, 30, tzinfo=UTC), datetime(2026, 11, 30, 23, 59, tzinfo=UTC)
BUNDLE = "ab" * 32


@pytest.fixture
def folder(tmp_path):
    """A log of two days."""
    log = AuditLog(tmp_path, now=lambda: MORNING, announce=lambda _: None)
    log.append("receive", bundle_sha256=BUNDLE, issuer="cd" * 32, grant="ef" * 16)
    log.append("approve", bundle_sha256=BUNDLE, by="Ada Byron", purpose="care")
    with log.recorded("adapt", bundle_sha256=BUNDLE, audio="0123456789abcdef") as noted:
        noted |= {"verdict": "improved", "reason": "by an estimate", "recordings": 20, "lost": 2, "forgotten": 0}
    late = AuditLog(tmp_path, now=lambda: EVENING, announce=lambda _: None)
    with pytest.raises(KeyError), late.recorded("predict", audio="0123456789abcdef", out="0" * 16):
        raise KeyError
    with late.recorded("predict", audio="0123456789abcdef", out="0" * 16) as noted:
        noted |= {"utterances": 7, "forgotten": 1}
    return tmp_path


def show(folder, *words):
    result = cli.target("log", "show", "--folder", folder, *words)
    assert (result.code, result.stderr) == (0, "")
    return result.stdout.splitlines()


def test_it_tells_when_who_what_and_which_model(folder):
    assert show(folder) == [
        "2026-11-29 08:30 UTC  received bundle abababababababab from source cdcdcdcdcdcdcdcd, grant efefefefefefefef",
        "2026-11-29 08:30 UTC  Ada Byron approved bundle abababababababab for care",
        "2026-11-29 08:30 UTC  began to adapt bundle abababababababab to recordings 0123456789abcdef",
        "2026-11-29 08:30 UTC  adapted: improved, by an estimate; 2 of 20 recordings lost",
        "2026-11-30 23:59 UTC  began to predict recordings 0123456789abcdef into 0000000000000000",
        "2026-11-30 23:59 UTC  predict failed with exit code 1",
        "2026-11-30 23:59 UTC  began to predict recordings 0123456789abcdef into 0000000000000000",
        "2026-11-30 23:59 UTC  predicted 7 utterances, 1 of the forgotten left out",
    ]


def test_it_shows_the_days_and_the_commands_that_are_asked_for(folder):
    assert len(show(folder, "--since", "2026-11-30")) == 4
    assert len(show(folder, "--until", "2026-11-29")) == 4
    assert len(show(folder, "--command", "approve", "--command", "receive")) == 2
    assert show(folder, "--command", "predict", "--until", "2026-11-29") == []


def test_a_program_gets_the_lines_as_they_are(folder):
    lines = show(folder, "--format", "jsonl")
    assert [json.loads(line) for line in lines] == [
        json.loads(line) for line in (folder / LOG).read_text().splitlines()
    ]


def test_a_log_that_was_changed_is_refused(folder):
    (folder / LOG).write_bytes((folder / LOG).read_bytes().replace(b"Ada", b"Bob"))
    result = cli.target("log", "show", "--folder", folder)
    assert (result.code, result.stdout) == (10, "")
    assert "Line 2" in result.refusal()


def test_a_command_that_no_log_speaks_of_is_refused_with_those_that_there_are(folder):
    result = cli.target("log", "show", "--folder", folder, "--command", "export")
    assert (result.code, "adapt" in result.refusal()) == (2, True)


def test_no_log_at_all_is_refused(tmp_path):
    assert cli.target("log", "show", "--folder", tmp_path).code == 16


@pytest.mark.parametrize("command", COMMANDS)
def test_every_event_has_words_also_where_facts_are_missing(tmp_path, command):
    log = AuditLog(tmp_path, now=lambda: MORNING, announce=lambda _: None)
    for state in ("begun", "done", "failed"):
        log.append(command, state=state)
    told = [event.line for event in read_events(tmp_path)]
    assert len(set(told)) == 3
    assert all(line.startswith("2026-11-29 08:30 UTC  ") for line in told)


def test_what_a_name_holds_steers_no_terminal(tmp_path):
    log = AuditLog(tmp_path, now=lambda: MORNING, announce=lambda _: None)
    log.append("approve", bundle_sha256=BUNDLE, by="Ada\x1b[31m\nBob", purpose="care")
    (line,) = show(tmp_path)
    assert "\x1b" not in line


def written_anew(folder, **changes):
    """Write a log of one line as somebody would who may write into the folder."""
    line = json.dumps({"n": 1, "previous": "0" * 64, "at": "2026-11-30T12:00:00Z", "event": "forget"} | changes)
    (folder / LOG).write_text(line + "\n")
    (folder / HEAD).write_text(f"1 {sha256(line.encode()).hexdigest()}\n")


@pytest.mark.parametrize("at", [None, 7, "yesterday"])
def test_a_line_without_a_time_is_refused_with_a_remedy(tmp_path, at):
    written_anew(tmp_path, at=at)
    refused = cli.target("log", "show", "--folder", tmp_path)
    assert refused.code == 12
    assert "compare the log with a copy" in refused.refusal()


def test_values_that_nobody_would_log_are_passed_over(tmp_path):
    written_anew(tmp_path, state="done", who=[1, {}], lost=1)
    assert show(tmp_path) == ["2026-11-30 12:00 UTC  forget done"]
    written_anew(tmp_path, state="failed", exit_code="<b>")
    assert show(tmp_path) == ["2026-11-30 12:00 UTC  forget failed with exit code 1"]
