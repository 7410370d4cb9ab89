"""What a site answers by its own book: every question once, in order, under the terms that the run began with."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Code, RefusedError
from protocol.federation.site.conduct import (
    MAX_ROUNDS,
    Fresh,
    Repeat,
    admit_run,
    admit_step,
    admit_tally,
    answer_entry,
    run_entry,
    spent,
    tally_number,
    terms_digest,
)

RUN, TERMS, ROUNDS = "7", b"t" * 32, 3
Q1, Q2, A1 = b"1" * 32, b"2" * 32, b"a" * 32


def answered(number, question=Q1, run=RUN, noise=1.5, steps=10):
    return answer_entry(run, number, question, A1, noise_multiplier=noise, steps=steps)


BEGUN = [run_entry(RUN, TERMS, ROUNDS)]
AFTER_ONE = [*BEGUN, answered(1)]
AFTER_TWO = [*AFTER_ONE, answered(2, Q2)]
AFTER_ALL = [*AFTER_TWO, answered(3)]
TALLIED = [*AFTER_ALL, answered(4, Q2)]


def test_a_new_run_is_fresh_and_the_same_again_a_repeat():
    assert admit_run([], RUN, TERMS, ROUNDS, max_runs=1) == Fresh()
    assert admit_run(AFTER_TWO, RUN, TERMS, ROUNDS, max_runs=1) == Repeat(BEGUN[0])


@pytest.mark.parametrize(
    ("entries", "run", "terms", "rounds", "max_runs", "code"),
    [
        (BEGUN, RUN, b"x" * 32, ROUNDS, 5, Code.SWAP),
        (AFTER_ALL, RUN, b"x" * 32, ROUNDS, 5, Code.SWAP),
        (BEGUN, RUN, TERMS, ROUNDS + 1, 5, Code.SWAP),
        (BEGUN, "8", TERMS, ROUNDS, 1, Code.QUOTA),
        ([], RUN, TERMS, ROUNDS, 0, Code.QUOTA),
        ([], RUN, TERMS, 0, 1, Code.RANGE),
        ([], RUN, TERMS, -1, 1, Code.RANGE),
        ([], RUN, TERMS, MAX_ROUNDS + 1, 1, Code.RANGE),
        ([], RUN, TERMS, True, 1, Code.RANGE),
    ],
)
def test_a_run_that_is_another_or_one_too_many_is_refused(entries, run, terms, rounds, max_runs, code):
    with pytest.raises(RefusedError) as caught:
        admit_run(entries, run, terms, rounds, max_runs)
    assert (caught.value.code, caught.value.exit_code) == (code, 11)


def test_the_terms_are_the_plan_the_classes_in_their_order_and_the_sites():
    same = terms_digest("plan", ["anger", "joy"], Q1)
    assert same == terms_digest("plan", ("anger", "joy"), Q1)
    others = [
        terms_digest("Plan", ["anger", "joy"], Q1),
        terms_digest("plan", ["joy", "anger"], Q1),
        terms_digest("plan", ["angerjoy"], Q1),
        terms_digest("plan", ["anger", "joy"], Q2),
    ]
    assert len({same, *others}) == 5


@pytest.mark.parametrize(("entries", "number"), [(BEGUN, 1), (AFTER_ONE, 2), (AFTER_TWO, 3)])
def test_the_next_round_is_fresh(entries, number):
    assert admit_step(entries, RUN, number, Q2) == Fresh()


@pytest.mark.parametrize(("entries", "number", "question"), [(AFTER_ONE, 1, Q1), (AFTER_TWO, 2, Q2)])
def test_the_last_round_asked_alike_is_answered_as_it_was(entries, number, question):
    assert admit_step(entries, RUN, number, question) == Repeat(entries[-1])


@pytest.mark.parametrize(
    ("entries", "run", "number", "question", "code"),
    [
        (BEGUN, RUN, 2, Q1, Code.FAST_FORWARD),
        (BEGUN, RUN, 0, Q1, Code.RANGE),
        (BEGUN, RUN, -1, Q1, Code.RANGE),
        (BEGUN, RUN, 1_000_000, Q1, Code.RANGE),
        (BEGUN, RUN, ROUNDS + 1, Q1, Code.RANGE),
        (BEGUN, RUN, True, Q1, Code.RANGE),
        (BEGUN, RUN, 1.0, Q1, Code.RANGE),
        (BEGUN, RUN, "1", Q1, Code.RANGE),
        (AFTER_ONE, RUN, 3, Q1, Code.FAST_FORWARD),
        (AFTER_ONE, RUN, 1, Q2, Code.SWAP),
        (AFTER_TWO, RUN, 1, Q1, Code.ROLLBACK),
        (AFTER_TWO, RUN, 2, Q1, Code.SWAP),
        (TALLIED, RUN, 3, Q1, Code.ROLLBACK),
        (AFTER_ONE, "8", 1, Q1, Code.STATE),
        ([], RUN, 1, Q1, Code.STATE),
    ],
)
def test_a_round_out_of_turn_or_with_another_question_is_refused(entries, run, number, question, code):
    with pytest.raises(RefusedError) as caught:
        admit_step(entries, run, number, question)
    assert caught.value.code is code


def test_the_tally_comes_once_after_the_last_round():
    assert admit_tally(AFTER_ALL, RUN, Q2) == Fresh()
    assert tally_number(AFTER_ALL, RUN) == 4
    assert admit_tally(TALLIED, RUN, Q2) == Repeat(TALLIED[-1])


@pytest.mark.parametrize(
    ("entries", "run", "question", "code"),
    [
        (BEGUN, RUN, Q1, Code.FAST_FORWARD),
        (AFTER_TWO, RUN, Q1, Code.FAST_FORWARD),
        (TALLIED, RUN, Q1, Code.SWAP),
        (TALLIED, "8", Q1, Code.STATE),
    ],
)
def test_a_tally_too_early_or_with_another_question_is_refused(entries, run, question, code):
    with pytest.raises(RefusedError) as caught:
        admit_tally(entries, run, question)
    assert caught.value.code is code


def test_what_was_spent_counts_over_all_runs_and_answers_without_noise_stand_out():
    entries = [
        *AFTER_TWO,
        run_entry("8", TERMS, 2),
        answered(1, run="8", noise=0.737, steps=5),
        answered(2, run="8", noise=0.0, steps=3),
        answered(3, run="8", steps=0),
    ]
    assert spent(entries) == [(1.5, 10), (1.5, 10), (0.73, 5), (0.0, 3)]
    assert spent([]) == []


questions = st.tuples(st.sampled_from(["7", "8"]), st.integers(-1, 4), st.sampled_from([Q1, Q2]))
begins = st.tuples(st.sampled_from(["7", "8"]), st.sampled_from([b"t" * 32, b"u" * 32]), st.integers(1, 2))


@given(st.lists(st.one_of(questions, begins), max_size=40), st.integers(1, 2))
def test_no_admitted_questions_ever_give_two_answers_to_one_step(asked, max_runs):
    """The answer is numbered by the line it is written in, so that two answers are always told apart."""
    entries = []
    given_out: dict[tuple[str, int], tuple[bytes, str]] = {}
    terms_of: dict[str, tuple[bytes, int]] = {}
    for run, second, third in asked:
        try:
            if isinstance(second, bytes):
                if admit_run(entries, run, second, third, max_runs) == Fresh():
                    entries.append(run_entry(run, second, third))
                assert terms_of.setdefault(run, (second, third)) == (second, third)
                continue
            is_tally = second == 4
            number = tally_number(entries, run) if is_tally else second
            verdict = admit_tally(entries, run, third) if is_tally else admit_step(entries, run, number, third)
        except RefusedError:
            continue
        if verdict == Fresh():
            entries.append(answer_entry(run, number, third, len(entries).to_bytes(32), noise_multiplier=1, steps=1))
        answer = (entries[-1] if verdict == Fresh() else verdict.entry)["answer"]
        assert given_out.setdefault((run, number), (third, answer)) == (third, answer)
    assert len(terms_of) <= max_runs
    assert len(spent(entries)) == len(given_out)
    for run, (_, rounds) in terms_of.items():
        numbers = [number for of, number in given_out if of == run]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) <= rounds + 1
