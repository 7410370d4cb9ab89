"""`ecan-conformance` as a person or a build server runs it."""

import json
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from protocol.conformance.cli import FAILED, PASSED, UNANSWERED, USAGE, main

OURS = f"{sys.executable} -m target_site.conformance"
BROKEN = f"{sys.executable} -m tests.conformance.broken accepts-trailing-bytes"
ONE = ("--case", "frame/trailing-zero")


def test_the_list_names_every_case_once(capsys):
    assert main(["list"]) == PASSED
    lines = capsys.readouterr().out.splitlines()
    assert len({line.split()[0] for line in lines}) == len(lines) > 700
    assert any(line.split()[:3] == ["frame/trailing-zero", "12", "TRAILING"] for line in lines)


def test_the_list_is_there_for_programs_too(capsys):
    assert main(["list", "--class", "fork", "--format", "json"]) == PASSED
    told = json.loads(capsys.readouterr().out)
    assert {case["class"] for case in told} == {"fork"}
    assert all(case["steps"][-1].keys() == {"kind", "exit", "code"} for case in told)


def test_a_run_of_a_class_passes(capsys):
    assert main(["run", "--client", OURS, "--class", "fork", "--codes"]) == PASSED
    assert capsys.readouterr().out.splitlines()[-1].split()[:3] == ["all", "9", "passed,"]


def test_a_run_that_fails_says_where(capsys):
    assert main(["run", "--client", BROKEN, *ONE]) == FAILED
    assert capsys.readouterr().out.splitlines()[0] == (
        "FAILED frame/trailing-zero: nothing follows the weights; "
        "step 1 (bundle) must end with 12 TRAILING and ends with 0"
    )


def test_results_for_programs(capsys):
    assert main(["run", "--client", BROKEN, *ONE, "--format", "json"]) == FAILED
    told = json.loads(capsys.readouterr().out)
    assert told["counts"] == {"failed": 1}
    assert told["cases"][0]["outcome"] == "failed"


def test_results_for_build_servers(capsys):
    assert main(["run", "--client", BROKEN, "--class", "frame", "--format", "junit"]) == FAILED
    suite = ElementTree.fromstring(capsys.readouterr().out)
    failed = [entry.get("name") for entry in suite if entry.find("failure") is not None]
    assert suite.get("failures") == str(len(failed)) == "7"
    assert "trailing-zero" in failed


def test_cases_can_be_written_and_looked_at(tmp_path, capsys):
    assert main(["write", "--out", str(tmp_path / "cases"), "--class", "freeze"]) == PASSED
    told = json.loads((tmp_path / "cases" / "expected.json").read_text())
    assert all((tmp_path / "cases" / case["id"] / "case.json").is_file() for case in told)
    assert main(["write", "--out", str(tmp_path / "cases")]) == USAGE
    assert "name a new folder" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["list", "--case", "none"], ["run", "--client", "no-such-program"]])
def test_what_is_not_there_is_named(words, capsys):
    assert main(words) == USAGE
    assert capsys.readouterr().err.startswith("error: ")


def test_a_client_that_answers_nothing_is_no_client(capsys):
    assert main(["run", "--client", "true", "--class", "fork"]) == UNANSWERED
    assert "docs/conformance.md" in capsys.readouterr().err


def test_the_command_is_installed():
    done = subprocess.run(
        [sys.executable, "-m", "protocol.conformance.cli", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("ecan-conformance ")
