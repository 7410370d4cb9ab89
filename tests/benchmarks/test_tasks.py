import pytest

from benchmarks.tasks import (
    best_estimate,
    details,
    kept_by_product,
    main_table,
    paired_test,
    rank_within,
    regret,
    selection,
    verdicts,
    without_product,
)
from tests.benchmarks.lines import a_whole_run, line


def test_the_main_table_has_a_row_per_method_and_marks_the_best():
    rows = main_table(a_whole_run()).split("\n\n")[0].splitlines()
    assert rows[0] == "| normalized by | method | a → b | b → a | mean (95 %) |"
    assert len(rows) == 2 + 3 * len({line["method"] for line in a_whole_run()})
    assert [row for row in rows if "| **59.0** ± 2.5 |" in row] == [row for row in rows if "the product" in row]
    assert "| speaker | no adaptation | 50.0 | 60.0 | 55.0 ± 0.0 |" in rows


def test_in_brief_the_table_shows_the_best_single_method():
    rows = main_table(a_whole_run(), brief=True).split("\n\n")[0].splitlines()[2:]
    methods = ["no adaptation", "ECAN", "**the product**"]
    assert [row.split(" | ")[1] for row in rows] == 3 * methods  # SHOT-IM ties with ECAN, which is shown already


def test_the_details_name_what_no_site_has():
    text = details(a_whole_run())
    assert "oracle" in text
    assert "against" in text
    assert "Spearman" in text


def test_the_paired_test_pairs_by_pair_and_seed():
    lines = [line("a-b", "corpus", "ecan", seed, 0.6 + 0.1 * seed) for seed in range(2)]
    lines += [line("a-b", "corpus", "none", seed, 0.5 + 0.1 * seed) for seed in reversed(range(2))]
    lines += [line("b-a", "corpus", "ecan", 0, 0.7), line("b-a", "corpus", "none", 0, 0.4)]
    difference, over_pairs, over_runs = paired_test(lines, "ecan", "none")
    assert difference == "+16.7"
    assert over_pairs.endswith("n = 2")
    assert over_runs.endswith("n = 3")


def test_rank_and_regret_follow_the_label_free_score():
    good = [line("a-b", "corpus", name, 0, uar) for name, uar in (("none", 0.4), ("ecan", 0.5), ("aad", 0.6))]
    assert rank_within(good) == pytest.approx(1.0)
    assert regret(good, best_estimate) == 0.0
    misled = [row | {"gain": -row["gain"]} for row in good]
    assert rank_within(misled) == pytest.approx(-1.0)
    assert regret(misled, best_estimate) == pytest.approx(20.0)


def test_the_product_takes_no_part_where_estimates_are_ranked():
    lines = []
    for normalization in ("speaker", "corpus", "voice"):
        singles = [
            line("a-b", normalization, name, 0, uar) for name, uar in (("none", 0.4), ("ecan", 0.5), ("aad", 0.6))
        ]
        product = line("a-b", normalization, "product", 0, 0.9, gain=-9.0, uar_selected=0.7)
        lines += [*singles, product]
        assert without_product([*singles, product]) == singles
    (row,) = [row for row in selection(lines).splitlines() if row.startswith("| all | all methods |")]
    assert row.startswith("| all | all methods | 1.00 | 0.0 | 20.0 |")


def test_verdicts_count_harm_that_was_caught_and_help_that_was_lost():
    lines = [
        line("a-b", "corpus", "none", 0, 0.5),
        line("a-b", "corpus", "ecan", 0, 0.4, verdict="reverted", uar_selected=0.5),
        line("a-b", "corpus", "shot", 0, 0.4),
        line("a-b", "corpus", "aad", 0, 0.7, verdict="reverted", uar_selected=0.5),
    ]
    assert verdicts(lines) == ["2, 1 (50 %)", "1, 1 (100 %)", "50.0", "46.7"]


def test_a_change_of_a_point_is_neither_harm_nor_help():
    lines = [line("a-b", "corpus", "none", 0, 0.5), line("a-b", "corpus", "ecan", 0, 0.491)]
    assert verdicts(lines)[:2] == ["0, 0", "0, 0"]


def test_the_product_is_charged_what_it_keeps():
    lines = [line("a-b", "corpus", "none", 0, 0.5), line("a-b", "corpus", "product", 0, 0.7, uar_selected=0.5)]
    assert regret(lines, kept_by_product) == pytest.approx(20.0)
