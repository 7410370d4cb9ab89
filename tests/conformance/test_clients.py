"""Ours and the second reader pass every case; clients that are broken on purpose fail where they should alone."""

import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from protocol.conformance.case import Case
from protocol.conformance.runner import Result, ask
from tests.conformance.broken import BROKEN

CLIENTS = ("target_site.conformance", "tests.conformance.second")
RULES_OF_NO_CLIENT = {"honest"}


def results_of(laid_out: Mapping[str, Case], module: str, *, are_codes_compared: bool = True) -> list[Result]:
    """How a client of ours does; one process answers all cases."""
    said = ask(f"{sys.executable} -m {module}", list(laid_out), batch=len(laid_out))
    return [
        Result(case=case, answers=said.get(folder), are_codes_compared=are_codes_compared)
        for folder, case in laid_out.items()
    ]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_ends_every_step_as_it_must_down_to_the_code_word(laid_out, client, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(Path(next(iter(laid_out))).parent))
    results = results_of(laid_out, client)
    assert [f"{result.case.id}: {result.fault}" for result in results if not result.has_passed] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_client_fails_where_it_should_and_nowhere_else(laid_out, name):
    results = results_of(laid_out, f"tests.conformance.broken {name}", are_codes_compared=False)
    failed = {result.case.id for result in results if not result.has_passed}
    concerned = {case.id for case in laid_out.values() if case.rule in BROKEN[name].rules}
    assert failed == concerned
    assert len(concerned) >= 2


def test_there_are_hundreds_of_cases_and_most_of_them_must_be_refused(laid_out):
    cases = list(laid_out.values())
    groups = Counter(case.group for case in cases)
    assert len(cases) >= 700
    assert sum(case.expected[-1].exit > 0 for case in cases) >= 600
    assert {"frame", "envelope", "manifest", "signature", "sealed", "weights", "revocation"} <= groups.keys()
    assert {"freeze", "chain", "fork", "recovery", "hand-over", "time", "ledger", "vector"} <= groups.keys()
    assert min(groups.values()) >= 8


def test_every_rule_of_a_broken_client_is_one_of_the_suite(laid_out):
    rules = {case.rule for case in laid_out.values()}
    assert set().union(*(fault.rules for fault in BROKEN.values())) <= rules - RULES_OF_NO_CLIENT


def test_a_case_tells_a_client_nothing_of_how_it_must_end(laid_out):
    for folder, case in laid_out.items():
        text = (Path(folder) / "case.json").read_text()
        assert not any(word in text for word in ("exit", "ending", "proves", case.proves))


def test_the_page_counts_the_cases_and_names_every_class_and_kind(laid_out):
    cases = list(laid_out.values())
    steps = [step for case in cases for step in case.steps]
    refusing = sum(any(ending.exit for ending in case.expected) for case in cases)
    page = " ".join((Path(__file__).parents[2] / "docs" / "conformance.md").read_text().split())
    assert f"all {len(cases)} cases ({len(steps):,} steps, {refusing} cases with something to refuse)" in page
    assert {name for name in {case.group for case in cases} if f"`{name}`" not in page} == set()
    assert {kind for kind in {step.kind for step in steps} if f"| `{kind}` |" not in page} == set()
