import pytest

from benchmarks.calibration import line_through, line_without, table
from benchmarks.record import RESULTS
from benchmarks.tables import distinct, read_lines
from ecan_core.adaptation.calibrate import LINE, WITH_VIEWS

EVERY = read_lines(RESULTS / "calibration.jsonl")
LINES = [line for line in EVERY if line["views"] is not None]


def test_the_product_s_lines_are_those_through_the_measured_runs():
    alone = [line for line in EVERY if line["views"] is None]
    assert pytest.approx(line_through(alone), abs=0.005) == LINE
    assert pytest.approx(line_through(LINES), abs=0.005) == (WITH_VIEWS, 1.0)


def test_no_run_is_judged_by_a_line_that_its_own_target_had_part_in():
    for target in distinct(LINES, "target"):
        others = [line for line in LINES if line["target"] != target]
        assert line_without(target, LINES) == line_through(others)
        assert line_without(target, LINES) != line_through(LINES)


def test_the_table_has_a_row_for_every_pair_and_the_mean():
    rows = [line for line in table(LINES).splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + len(distinct(LINES, "pair")) + 1
