"""The published schema of the outputs: it takes real ones, and nothing else."""

import json

import pytest
from jsonschema import Draft202012Validator

from target_site.results.days import folder_of
from tests.support.days import a_call, a_run, predicted
from tests.support.outputs import SCHEMA, faults_in, faults_of

DAY = 20_422
REFUSAL = {"channel": 1, "begin_ms": 0, "end_ms": 800, "reason": "MUSIC", "message": "This is music and no speech."}


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    for day in range(DAY - 9, DAY + 1):
        calls = [a_call(f"/calls/{day}-{number}.wav", anger=number % 3, joy=1, uncertain=1) for number in range(10)]
        lost = a_call("/gone.wav", 0, size_bytes=None, mtime_ns=None, sha256=None, is_lost=True, refused=[REFUSAL])
        predicted(out, a_run(day, *calls, lost))
    return out


def test_the_schema_is_one():
    Draft202012Validator.check_schema(json.loads(SCHEMA.read_text()))


@pytest.mark.parametrize("day", [DAY - 9, DAY])
def test_what_is_written_is_as_the_schema_says(out, day):
    folder = folder_of(out, day)
    assert (json.loads((folder / "summary.json").read_text())["drift"] is not None) == (day == DAY)
    assert faults_in(folder) == []


@pytest.mark.parametrize(("kind", "file"), [("segment", "segments.jsonl"), ("call", "calls.jsonl")])
def test_another_field_a_missing_one_and_a_wrong_one_are_refused(out, kind, file):
    line = json.loads((folder_of(out, DAY) / file).read_text().splitlines()[0])
    assert faults_of(kind, line | {"label_of_a_person": "x"})
    assert faults_of(kind, {name: value for name, value in line.items() if name != "recording"})
    assert faults_of(kind, line | {"abstained": "no"})
