"""Translate between a federation's messages and Flower's records.

In both directions.
"""

from collections.abc import Mapping

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.common.constant import ErrorCode

from protocol.federation.messages import (
    FAILED,
    MAX_BODY_BYTES,
    Answer,
    Arrays,
    Field,
    Question,
    checked_arrays,
    checked_fields,
    malformed,
)

FIELDS, ARRAYS, METRICS = "config", "arrays", "metrics"
"""Names of the records of a message, as Flower's strategies use them."""
WEIGHT, EQUAL = "weight", 1
"""What an answer counts for in Flower's average: every site counts the same."""
_SERIAL = "numpy.ndarray"


def content_of(fields: Mapping[str, Field], arrays: Arrays) -> RecordDict:
    """Write fields and arrays as the content of a Flower message."""
    content = RecordDict()
    if fields:
        content[FIELDS] = ConfigRecord(dict(fields))
    if arrays:
        content[ARRAYS] = record_of(arrays)
    return content


def reply_of(answer: Answer, asked: Message) -> Message:
    """Write an answer as Flower's reply.

    A failure is one fixed word and nothing else.
    """
    if answer.error:
        reason = Error(code=ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason=answer.error)
        return Message(reason, reply_to=asked)
    content = content_of(answer.fields, answer.arrays)
    content[METRICS] = MetricRecord({WEIGHT: EQUAL})
    return Message(content, reply_to=asked)


def question_of(message: Message) -> Question:
    """Read what a Flower message asks.

    Anything that is no question of this schema is refused.

    Raises:
        MalformedError: it has other records, values or types than a question has, or is too long.
    """
    fields, arrays = _parts(message.content)
    return Question(run=message.metadata.run_id, kind=message.metadata.message_type, fields=fields, arrays=arrays)


def answer_of(reply: Message) -> Answer:
    """Read what a Flower reply answers.

    Raises:
        MalformedError: it has other values or types than an answer has, or is too long.
    """
    if reply.has_error():
        return Answer(error=FAILED)
    fields, arrays = _parts(reply.content)
    return Answer(fields=fields, arrays=arrays)


def record_of(arrays: Arrays) -> ArrayRecord:
    """Write arrays as Flower carries them."""
    return ArrayRecord({name: Array(array) for name, array in arrays.items()})


def arrays_of(record: ArrayRecord) -> Arrays:
    """Read arrays as Flower brought them; nothing in them is executed.

    Raises:
        MalformedError: they are damaged, of another type, or too long.
    """
    # `Array.numpy` reads with allow_pickle=False; the bytes are counted first, since a header may promise any shape.
    if sum(len(array.data) for array in record.values()) > MAX_BODY_BYTES:
        raise malformed("is longer than a frame may be")
    if any(array.stype != _SERIAL for array in record.values()):
        raise malformed("has an array in another encoding")
    try:
        arrays = {name: np.array(array.numpy()) for name, array in record.items()}
    except (ValueError, EOFError, SyntaxError, MemoryError) as error:
        raise malformed("has a damaged array") from error
    return checked_arrays(arrays)


def _parts(content: RecordDict) -> tuple[dict[str, Field], Arrays]:
    kinds: dict[str, Mapping[str, object]] = {
        FIELDS: content.config_records,
        ARRAYS: content.array_records,
        METRICS: content.metric_records,
    }
    if not all(name in kinds.get(name, ()) for name in content):
        raise malformed("has records that nobody asked for")
    fields = checked_fields(dict(content.config_records[FIELDS])) if FIELDS in content else {}
    return fields, arrays_of(content.array_records[ARRAYS]) if ARRAYS in content else {}
