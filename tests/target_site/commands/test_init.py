"""`ecan-target init` asks five questions and writes rules that every command accepts."""

import os
import pty
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from target_site.commands.init import KEPT_DAYS, QUESTIONS, WHO
from target_site.site_policy import AT_WORK, PURPOSES, SUBJECTS, read_policy
from tests.deploy.test_deploy import DEPLOY, is_understood
from tests.support import cli

FINGERPRINT = "ab" * 32
OPTIONS = {
    "--site": "Ward 3",
    "--purpose": "care",
    "--recordings": "/data/my recordings",
    "--channel": "second",
    "--source": f"source.example:7443 {FINGERPRINT}",
}


def words(**changes):
    given = OPTIONS | {f"--{name}": value for name, value in changes.items()}
    return [word for name, value in given.items() if value is not None for word in (name, value)]


def init(out, **changes):
    return cli.target("init", "--out", out, *words(**changes))


def commands(out):
    return [line.removeprefix("#   ") for line in out.read_text().splitlines() if line.startswith("#   ecan-target ")]


def test_at_most_five_questions_are_asked():
    assert len(QUESTIONS) == 5
    assert WHO.keys() == KEPT_DAYS.keys() == set(PURPOSES)
    assert all(heard in SUBJECTS and at_work in AT_WORK for heard, at_work in WHO.values())


@pytest.mark.parametrize(("purpose", "example"), [("care", "site-hospital.yaml"), ("service", "site-call-centre.yaml")])
def test_the_rules_are_those_of_the_examples(tmp_path, purpose, example):
    assert init(tmp_path / "site.yaml", purpose=purpose).code == 0
    written = read_policy(tmp_path / "site.yaml")
    assert replace(written, oldest_revocations_days=60) == read_policy(DEPLOY / example)
    assert (tmp_path / "site.yaml").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("channel", "channels"),
    [("first", ("patient", "clinician")), ("second", ("clinician", "patient")), ("only", ("patient",))],
)
def test_whoever_is_at_work_is_left_out_on_either_channel(tmp_path, channel, channels):
    assert init(tmp_path / "site.yaml", channel=channel).code == 0
    assert read_policy(tmp_path / "site.yaml").channels == channels


def test_it_says_the_next_command_and_keeps_all_of_them(tmp_path):
    result = init(tmp_path / "site.yaml")
    listed = commands(tmp_path / "site.yaml")
    assert result.stderr.splitlines()[-1] == f"next: {listed[0]}"
    assert [shlex.split(line)[1] for line in listed] == [
        *("request", "receive", "inspect", "approve", "adapt", "predict", "status")
    ]
    assert all(is_understood(shlex.split(line)[1:]) for line in listed)
    assert "--from source.example:7443 --trust abab" in listed[1]
    assert "--audio '/data/my recordings'" in listed[4]


def test_a_file_of_answers_does_as_well_and_an_option_counts_more(tmp_path):
    answers = tmp_path / "answers.yaml"
    answers.write_text("site: Ward 3\npurpose: care\nrecordings: /data\nchannel: only\n")
    result = cli.target("init", "--answers", answers, "--purpose", "research", "--out", tmp_path / "site.yaml")
    assert result.code == 0
    assert read_policy(tmp_path / "site.yaml").subjects == "volunteer"
    assert "--from HOST:PORT --trust FINGERPRINT" in commands(tmp_path / "site.yaml")[1]


def test_what_is_there_already_stays(tmp_path):
    (tmp_path / "site.yaml").write_text("mine")
    result = init(tmp_path / "site.yaml")
    assert (result.code, "already" in result.refusal()) == (2, True)
    assert (tmp_path / "site.yaml").read_text() == "mine"


def test_without_a_terminal_nothing_is_asked(tmp_path):
    result = cli.target("init", "--site", "Ward 3", "--out", tmp_path / "site.yaml")
    assert result.code == 2
    assert "--purpose, --recordings, --channel must be answered" in result.refusal()
    assert not (tmp_path / "site.yaml").exists()


@pytest.mark.parametrize(
    "source",
    ["source.example:7443", f"source.example {FINGERPRINT}", "source.example:7443 abab", f"host:99999 {FINGERPRINT}"],
)
def test_an_address_or_a_fingerprint_that_cannot_be_one_is_refused(tmp_path, source):
    result = init(tmp_path / "site.yaml", source=source)
    assert result.code in (2, 3, 4)
    assert result.refusal()
    assert not (tmp_path / "site.yaml").exists()


def test_answers_that_are_unknown_or_prohibited_are_refused(tmp_path):
    answers = tmp_path / "answers.yaml"
    for line in ("purpose: recruitment", "colour: red"):
        answers.write_text(f"site: Ward 3\nrecordings: /data\nchannel: only\n{line}\n")
        assert cli.target("init", "--answers", answers, "--out", tmp_path / "site.yaml").code in (2, 3)
        assert not (tmp_path / "site.yaml").exists()


def test_a_name_writes_no_rule_of_its_own(tmp_path):
    assert init(tmp_path / "site.yaml", site="Ward\nleast_level: 0").code == 0
    assert read_policy(tmp_path / "site.yaml").least_level == 2


def test_a_person_at_a_terminal_is_asked_and_asked_again(tmp_path):
    """A real terminal; one answer is wrong at first, and one is what is offered."""
    ours, theirs = pty.openpty()
    program = [str(Path(sys.executable).parent / "ecan-target"), "init", "--out", str(tmp_path / "site.yaml")]
    process = subprocess.Popen(program, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    os.close(theirs)
    os.write(ours, f"Ward 3\nrecruitment\ncare\n/data\n\nhost:1 {FINGERPRINT}\n".encode())
    out, err = process.communicate(timeout=60)
    os.close(ours)
    assert (process.returncode, out) == (0, "")
    assert "answer one of care, service, research" in err
    assert all(question in err for question in QUESTIONS.values())
    assert read_policy(tmp_path / "site.yaml").channels == ("clinician", "patient")
    assert f"--from host:1 --trust {FINGERPRINT}" in commands(tmp_path / "site.yaml")[1]
