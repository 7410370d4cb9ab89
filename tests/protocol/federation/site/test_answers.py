"""A site's record of its answers: what is admitted, kept, repeated and let out."""

import numpy as np
import pytest

from protocol.errors import Code, RefusedError
from protocol.federation.messages import OFFERS, Answer, Question
from protocol.federation.site.answers import KEPT, Answers
from protocol.federation.site.book import Book
from tests.protocol.federation.sites import NODE_KEYS, roster_of

SUBJECT = {"site": 1}
ARRAYS = {"w": np.ones(3, np.float32)}
PLAN, CLASSES = "a plan", ("anger", "fear")


def opened(folder, *, is_masking: bool = False) -> Answers:
    path = folder / "node.book"
    if not path.exists():
        Book.create(path, SUBJECT, "a test", 0)
    return Answers(Book.open(path, SUBJECT), folder / "home", roster_of(0) if is_masking else None, NODE_KEYS[0])


def question(number: int = 1, run: int = 7, **fields) -> Question:
    return Question(run=run, kind="train", fields={"round": number, **fields}, arrays=ARRAYS)


def begun(folder) -> Answers:
    answers = opened(folder)
    answers.begin(question(), PLAN, CLASSES, 2, number=1)
    return answers


def test_a_run_is_begun_once_and_keeps_its_terms(tmp_path):
    answers = opened(tmp_path)
    assert not answers.is_begun(question(), PLAN, CLASSES, 2, max_runs=1)
    answers.begin(question(), PLAN, CLASSES, 2, number=1)
    assert answers.is_begun(question(), PLAN, CLASSES, 2, max_runs=1)
    with pytest.raises(RefusedError, match="another plan"):
        answers.is_begun(question(), "another", CLASSES, 2, max_runs=1)


@pytest.mark.parametrize("number", [0, 2, None, "1", 1.0, True])
def test_a_run_begins_with_its_round_1_and_else_not_at_all(tmp_path, number):
    answers = opened(tmp_path)
    with pytest.raises(RefusedError, match="begins with its round 1"):
        answers.begin(question(), PLAN, CLASSES, 2, number=number)
    assert not answers.is_begun(question(), PLAN, CLASSES, 2, max_runs=1)


def test_an_answer_is_kept_over_a_restart_and_given_again(tmp_path):
    answers = begun(tmp_path)
    step = answers.round(question(), 1)
    assert not step.is_answered
    answers.write_down(step, Answer(arrays=ARRAYS), noise_multiplier=2.0, steps=3)
    again = opened(tmp_path)
    step = again.round(question(), 1)
    assert step.is_answered
    assert np.array_equal(again.given(step.run, step.number).arrays["w"], ARRAYS["w"])
    assert again.spent() == [(2.0, 3)]


@pytest.mark.parametrize(("run", "number"), [("8", 1), ("7", 2)])
def test_what_was_given_to_another_question_is_not_given(tmp_path, run, number):
    answers = begun(tmp_path)
    answers.write_down(answers.round(question(), 1), Answer(arrays=ARRAYS))
    with pytest.raises(RefusedError, match="no longer there"):
        answers.given(run, number)


def test_a_kept_answer_that_was_changed_is_not_given(tmp_path):
    answers = begun(tmp_path)
    step = answers.round(question(), 1)
    answers.write_down(step, Answer(arrays=ARRAYS))
    kept = tmp_path / "home" / KEPT
    data = kept.read_bytes()
    kept.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(RefusedError, match="no longer there"):
        answers.given(step.run, step.number)


@pytest.mark.parametrize("number", ["1", 1.0, None, True])
def test_a_round_is_a_whole_number(tmp_path, number):
    with pytest.raises(RefusedError, match="does not say which round"):
        begun(tmp_path).round(question(), number)


def test_offers_alone_do_not_make_another_question(tmp_path):
    answers = begun(tmp_path)
    answers.write_down(answers.round(question(offers="a"), 1), Answer(arrays=ARRAYS))
    assert answers.round(question(offers="b"), 1).is_answered
    with pytest.raises(RefusedError, match="another question"):
        answers.round(question(note="b"), 1)


def test_what_follows_the_last_round_waits_for_it(tmp_path):
    answers = begun(tmp_path)
    with pytest.raises(RefusedError) as refusal:
        answers.last(question(), "tally")
    assert refusal.value.code is Code.FAST_FORWARD


def test_masking_is_asked_for_where_it_is_required_and_possible_where_it_is_asked_for(tmp_path):
    plain, masking = opened(tmp_path / "a"), opened(tmp_path / "b", is_masking=True)
    with pytest.raises(RefusedError, match="masked sums alone"):
        masking.require_masked(question(), required=True)
    with pytest.raises(RefusedError, match="knows no other sites"):
        plain.require_masked(question(**{OFFERS: "ab"}), required=False)
    masking.require_masked(question(**{OFFERS: "ab"}), required=True)
    plain.require_masked(question(), required=False)


def test_an_answer_leaves_as_it_is_only_where_no_offers_were_brought(tmp_path):
    answers = opened(tmp_path, is_masking=True)
    answers.begin(question(), PLAN, CLASSES, 2, number=1)
    step = answers.round(question(), 1)
    assert answers.leave(question(), step, ARRAYS, largest=8.0).arrays is ARRAYS
    with pytest.raises(RefusedError, match="No key was offered"):
        answers.leave(question(offers="ab"), step, ARRAYS, largest=8.0)
