"""Frames between the two processes of a site."""

import io
import json
import struct

import numpy as np
import pytest

from protocol.errors import MalformedError
from protocol.federation import messages
from protocol.federation.messages import (
    FAILED,
    MAX_HEAD_BYTES,
    REFUSED,
    Answer,
    Question,
    answer_frame,
    checked_fields,
    question_frame,
    read_answer,
    read_question,
)

ARRAYS = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "u": np.array([7], dtype=np.uint64)}
QUESTION = Question(run=2**63 + 5, kind="train", fields={"round": 1, "plan": "{}", "rate": 0.5}, arrays=ARRAYS)


def frame(head: object, body: bytes = b"") -> io.BytesIO:
    told = json.dumps(head).encode()
    return io.BytesIO(struct.pack("<IQ", len(told), len(body)) + told + body)


def test_a_question_survives_its_frame():
    read = read_question(io.BytesIO(question_frame(QUESTION)))
    assert (read.run, read.kind, read.fields) == (QUESTION.run, QUESTION.kind, QUESTION.fields)
    assert {name: array.tobytes() for name, array in read.arrays.items()} == {
        name: array.tobytes() for name, array in ARRAYS.items()
    }
    assert read.digest() == QUESTION.digest()


@pytest.mark.parametrize("error", ["", REFUSED, FAILED])
def test_an_answer_survives_its_frame(error):
    answer = Answer(error=error, fields={"offer": "ab"})
    assert read_answer(io.BytesIO(answer_frame(answer))) == answer


def test_a_stream_that_has_ended_holds_no_question_and_no_answer():
    assert read_question(io.BytesIO()) is None
    assert read_answer(io.BytesIO()) is None


@pytest.mark.parametrize("length", [1, 11, 13, -1])
def test_a_frame_that_is_cut_short_is_refused(length):
    with pytest.raises(MalformedError, match="cut short"):
        read_question(io.BytesIO(question_frame(QUESTION)[:length]))


@pytest.mark.parametrize("lengths", [(MAX_HEAD_BYTES + 1, 0), (2, messages.MAX_BODY_BYTES + 1), (2**32 - 1, 2**64 - 1)])
def test_lengths_are_bounded_before_anything_is_read(lengths):
    with pytest.raises(MalformedError, match="longer"):
        read_answer(io.BytesIO(struct.pack("<IQ", *lengths)))


@pytest.mark.parametrize(
    "head",
    [
        [],
        {"run": 1, "kind": "train"},
        {"run": 1, "kind": "train", "fields": {}, "more": 1},
        {"run": True, "kind": "train", "fields": {}},
        {"run": "1", "kind": "train", "fields": {}},
        {"run": 1, "kind": 7, "fields": {}},
        {"run": 1, "kind": "train", "fields": []},
        {"run": 1, "kind": "train", "fields": {"x": None}},
        {"run": 1, "kind": "train", "fields": {"x": True}},
        {"run": 1, "kind": "train", "fields": {"x": [1]}},
    ],
)
def test_a_question_has_one_head(head):
    with pytest.raises(MalformedError):
        read_question(frame(head))


def test_an_answer_says_one_of_two_words_and_no_other():
    with pytest.raises(MalformedError, match="another head"):
        read_answer(frame({"error": "/home/ward/speech.wav is gone", "fields": {}}))


@pytest.mark.parametrize("body", [b"\0" * 9, b"\xff" * 100])
def test_a_body_that_is_no_safetensors_is_refused(body):
    with pytest.raises(MalformedError, match="safetensors"):
        read_answer(frame({"error": "", "fields": {}}, body))


def test_fields_are_few_and_short():
    assert checked_fields({"a": 1}) == {"a": 1}
    for fields in ({f"f{number}": 1 for number in range(65)}, {"a": "x" * 70_000}, {1: "a"}, {"a": b"x"}, [1]):
        with pytest.raises(MalformedError):
            checked_fields(fields)


def test_what_no_frame_can_hold_is_refused_where_it_is_written():
    for question in (
        Question(run=1, kind="train", fields={"n" * 2 * MAX_HEAD_BYTES: 1}),
        Question(run=1, kind="train", fields={f"f{number}": "x" * 60_000 for number in range(30)}),
    ):
        with pytest.raises(MalformedError, match="longer"):
            question_frame(question)


def test_two_questions_have_one_digest_only_if_they_are_the_same_but_for_what_is_left_out():
    same = Question(run=1, kind="train", fields={"a": 1, "offers": "x"}, arrays=ARRAYS)
    left_out = frozenset({"offers"})
    other_offers = Question(run=1, kind="train", fields={"a": 1, "offers": "y"}, arrays=ARRAYS)
    assert same.digest(without=left_out) == other_offers.digest(without=left_out)
    flat = {name: array.ravel() for name, array in ARRAYS.items()}
    others = [
        Question(run=2, kind="train", fields={"a": 1}, arrays=ARRAYS),
        Question(run=1, kind="query", fields={"a": 1}, arrays=ARRAYS),
        Question(run=1, kind="train", fields={"a": "1"}, arrays=ARRAYS),
        Question(run=1, kind="train", fields={"a": 1}, arrays=flat),
        Question(run=1, kind="train", fields={"a": 1}, arrays={}),
    ]
    digests = {one.digest(without=left_out) for one in (same, *others)}
    assert len(digests) == 1 + len(others)
