"""What the suite makes of clients that crash, are silent, talk nonsense, or know less."""

import json
import sys
from pathlib import Path

import pytest

from protocol.conformance import runner
from protocol.conformance.case import ACCEPTED, Case, Ending, SiteFacts, Step, malformed
from protocol.conformance.runner import Result, run_client
from protocol.errors import Code

SITE = SiteFacts(source=bytes(32), audience=bytes(32), grants=(bytes(16),), receipt_key=b"r", sealing_key=b"s")
STEPS = (
    Step(kind="bundle", content=b"one", ending=ACCEPTED, facts={"today": 1}),
    Step(kind="bundle", content=b"two", ending=malformed(Code.MAGIC), facts={"today": 2}, beside={"more": b"three"}),
)
CASES = [
    Case(group="group", name=f"case-{number}", rule="rule", proves="something", site=SITE, steps=STEPS)
    for number in range(3)
]
RIGHT = '[{"exit": 0}, {"exit": 12, "code": "MAGIC"}]'


@pytest.fixture
def client(tmp_path):
    """Makes a client of the body of a loop over its cases."""

    def make(body: str) -> str:
        path = tmp_path / "client.py"
        head = "import json, sys, os\nfrom pathlib import Path\nfor place, name in enumerate(sys.argv[1:]):\n    "
        path.write_text(head + body.replace("\n", "\n    "))
        return f"{sys.executable} {path}"

    return make


def say(answers: str) -> str:
    return f"print(json.dumps({{'case': name, 'answers': json.loads('{answers}')}}))"


def outcomes(results: list[Result]) -> list[bool]:
    return [result.has_passed for result in results]


def test_a_client_that_answers_rightly_passes(client):
    assert outcomes(run_client(client(say(RIGHT)), CASES, are_codes_compared=True)) == [True] * 3


def test_a_case_is_a_folder_with_its_files(client):
    body = "told = json.loads((Path(name) / 'case.json').read_text())\nstep = told['steps'][1]\n"
    body += "assert (Path(name) / step['file']).read_bytes() == b'two'\n"
    body += "assert (Path(name) / step['more']).read_bytes() == b'three'\n"
    body += "assert told['site']['grants'] == ['00' * 16] and step['today'] == 2\n"
    assert outcomes(run_client(client(body + say(RIGHT)), CASES)) == [True] * 3


def test_code_words_count_where_they_are_asked_for(client):
    command = client(say('[{"exit": 0}, {"exit": 12, "code": "LENGTH"}]'))
    assert outcomes(run_client(command, CASES)) == [True] * 3
    (result, *_) = run_client(command, CASES, are_codes_compared=True)
    assert result.fault == "step 2 (bundle) must end with 12 MAGIC and ends with 12 LENGTH"


@pytest.mark.parametrize(
    ("answers", "fault"),
    [
        ('[{"exit": 0}, {"exit": 0}]', "step 2 (bundle) must end with 12 MAGIC and ends with 0"),
        ('[{"exit": 10}, {"exit": 12}]', "step 1 (bundle) must end with 0 and ends with 10"),
        ('[{"exit": 0}]', "1 answers to 2 steps"),
        ('[{"exit": false}, {"exit": 12}]', "no answer that can be read"),
        ('[{"ended": 0}, {"exit": 12}]', "no answer that can be read"),
        ("7", "no answer that can be read"),
    ],
)
def test_a_wrong_answer_is_told(client, answers, fault):
    assert {result.fault for result in run_client(client(say(answers)), CASES)} == {fault}


def test_a_case_with_a_kind_of_step_that_a_client_does_not_know_is_left_out(client):
    results = run_client(client(say('[{"exit": 0}, {"exit": null}]')), CASES)
    assert [result.is_skipped for result in results] == [True] * 3
    assert outcomes(results) == [False] * 3


def test_what_a_crash_leaves_unanswered_is_asked_again_one_by_one(client):
    body = say(RIGHT) + "\nsys.stdout.flush()\nif place == 0 and len(sys.argv) > 2: os._exit(1)"
    assert outcomes(run_client(client(body), CASES)) == [True] * 3


def test_other_lines_and_other_cases_are_overlooked(client):
    body = "print('hello'); print('{}'); print(json.dumps({'case': 'x', 'answers': []}))\n" + say(RIGHT)
    assert outcomes(run_client(client(body), CASES)) == [True] * 3


def test_a_client_that_never_ends_has_answered_nothing(client, monkeypatch):
    monkeypatch.setattr(runner, "TIMEOUT_S", 0.3)
    (result,) = run_client(client("import time; time.sleep(60)"), CASES[:1])
    assert result.answers is None


def test_an_ending_reads_as_a_class_and_a_word():
    assert (str(ACCEPTED), str(Ending(12, "MAGIC"))) == ("0", "12 MAGIC")


def test_the_folders_that_a_client_sees_have_numbers_for_names(client):
    body = "assert Path(name).name in ('0000', '0001', '0002'), name\n" + say(RIGHT)
    assert outcomes(run_client(client(body), CASES)) == [True] * 3
    assert json.loads(RIGHT)[1]["code"] == Path("MAGIC").name
