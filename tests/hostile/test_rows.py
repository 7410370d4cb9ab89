"""The document of the hostile rows says what the tests say."""

import re
import subprocess
import sys

from tests.hostile.conftest import COLLECTED, HERE
from tests.hostile.rows import PAGE, ROOT, TABLES, Row, page, rows_of

REMEDY = "run `python -m tests.hostile.rows`, and look at what it changes"


def test_the_document_is_as_the_tests_are(request):
    """By what this run has collected if that is all, and by a collection of its own otherwise."""
    collected = request.config.stash[COLLECTED]
    if {item.path for item in collected} == {*HERE.glob("test_*.py")} and "::" not in "".join(request.config.args):
        assert PAGE.read_text() == page(rows_of(collected)), REMEDY
    else:
        asked = [sys.executable, "-m", "tests.hostile.rows", "--check"]
        assert subprocess.run(asked, cwd=ROOT, capture_output=True, timeout=200).returncode == 0, REMEDY


def test_every_id_of_the_document_belongs_to_a_table():
    ids = re.findall(r"^\| ([A-Z]\w*) \|", PAGE.read_text(), re.MULTILINE)
    assert len(ids) > 1000
    assert {name[0] for name in ids} == TABLES.keys()


def test_what_is_tried_cannot_break_the_table():
    text = page([Row("B01", "a | b\n<c>\x1b", "12", "t")])
    (line,) = [line for line in text.splitlines() if line.startswith("| B01")]
    assert line == r"| B01 | a \| b\\x0a&lt;c>\\x1b | 12 | `t` |"
