"""Between Flower's records and the plain messages of a federation."""

import io

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from protocol.errors import MalformedError
from protocol.federation import records
from protocol.federation.messages import FAILED, REFUSED, Answer
from protocol.federation.records import answer_of, arrays_of, content_of, question_of, record_of, reply_of

ARRAYS = {"w": np.arange(6, dtype=np.float32).reshape(2, 3)}


@pytest.fixture(autouse=True)
def of_a_run():
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 7, 1, 1


def message(content: RecordDict) -> Message:
    made = Message(content, 5, "train")
    made.metadata.__dict__["_message_id"] = "a message"
    return made


def test_a_question_is_read_as_it_was_written():
    question = question_of(message(content_of({"round": 1, "plan": "{}"}, ARRAYS)))
    assert (question.run, question.kind, question.fields) == (7, "train", {"round": 1, "plan": "{}"})
    assert np.array_equal(question.arrays["w"], ARRAYS["w"])


def test_an_answer_is_read_as_it_was_written():
    answer = answer_of(reply_of(Answer(fields={"offer": "ab"}, arrays=ARRAYS), message(RecordDict())))
    assert answer.fields == {"offer": "ab"}
    assert np.array_equal(answer.arrays["w"], ARRAYS["w"])


@pytest.mark.parametrize("word", [REFUSED, FAILED])
def test_a_reply_of_a_failure_holds_one_word(word):
    reply = reply_of(Answer(error=word, fields={"secret": 1}, arrays=ARRAYS), message(RecordDict()))
    assert reply.has_error()
    assert not reply.has_content()
    assert reply.error.reason == word
    assert answer_of(reply).error == FAILED


@pytest.mark.parametrize(
    "content",
    [
        RecordDict({"fitins": ConfigRecord({"a": 1})}),
        RecordDict({records.FIELDS: ArrayRecord({})}),
        RecordDict({records.ARRAYS: ConfigRecord({})}),
        RecordDict({records.FIELDS: ConfigRecord({"a": b"x"})}),
        RecordDict({records.FIELDS: ConfigRecord({"a": [1]})}),
        RecordDict({records.FIELDS: MetricRecord({"a": 1})}),
    ],
)
def test_records_that_are_no_question_are_refused(content):
    with pytest.raises(MalformedError):
        question_of(message(content))


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("data", "stype"),
    [
        (npy(np.array([print], dtype=object)), "numpy.ndarray"),
        (npy(np.zeros(1, np.float16)), "numpy.ndarray"),
        (npy(np.zeros(1, np.float32))[:-1], "numpy.ndarray"),
        (b"", "numpy.ndarray"),
        (npy(np.zeros(1, np.float32)), "pickle"),
    ],
)
def test_an_array_that_is_damaged_or_would_run_something_is_refused(data, stype):
    with pytest.raises(MalformedError):
        arrays_of(ArrayRecord({"w": Array("float32", (1,), stype, data)}))


def test_bytes_are_counted_before_an_array_is_read(monkeypatch):
    monkeypatch.setattr(records, "MAX_BODY_BYTES", 10)
    with pytest.raises(MalformedError, match="longer"):
        arrays_of(record_of(ARRAYS))
