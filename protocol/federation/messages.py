"""Define the questions and answers of a federation as plain data.

And as bytes between two processes of one site.

The process that speaks to Flower hands each question on as one frame and gets one frame back::

    4 bytes  length H of the head         8 bytes  length B of the body
    H bytes  head: one JSON object        B bytes  body: safetensors, empty where there are no arrays

Neither end believes the other: lengths are bounded before anything is read, and the head has a closed schema.
"""

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from protocol.errors import Code, MalformedError

Arrays = dict[str, np.ndarray]
Field = str | int | float
MAX_HEAD_BYTES, MAX_BODY_BYTES = 1 << 20, 1 << 26
MAX_FIELDS, MAX_TEXT = 64, 1 << 16
_LENGTHS = struct.Struct("<IQ")
_DTYPES = ("float32", "float64", "uint64")
KEYS = "query.keys"
"""Kind of the question for a site's fresh key of a masked step."""
STEP, OFFER, OFFERS, MASKED = "step", "offer", "offers", "masked"
"""Names of what a masked step carries: the step's name, a site's offer, those of all sites, the masked answer."""
REFUSED, FAILED = "refused", "failed"
"""All that a site ever says of a question that it does not answer; why stands in its own log."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """Hold what a coordinator asks of a site.

    Attributes:
        run: Flower's number of the run.
        kind: Flower's type of the message, such as ``train`` or ``query.keys``.
        fields: texts and numbers by name.
        arrays: arrays by name.
    """

    run: int
    kind: str
    fields: Mapping[str, Field] = field(default_factory=dict)
    arrays: Arrays = field(default_factory=dict)

    def digest(self, *, without: frozenset[str] = frozenset()) -> bytes:
        """Hash all that was asked.

        By the hash two sites can tell whether they were asked the same.

        Args:
            without: names of fields that may differ between sites or from one try to the next.
        """
        told = {name: value for name, value in self.fields.items() if name not in without}
        head = json.dumps([self.run, self.kind, told], sort_keys=True, separators=(",", ":")).encode()
        hashed = hashlib.sha256(len(head).to_bytes(8, "little") + head)
        for name, array in sorted(self.arrays.items()):
            part = json.dumps([name, str(array.dtype), list(array.shape)]).encode()
            hashed.update(len(part).to_bytes(8, "little") + part + np.ascontiguousarray(array).tobytes())
        return hashed.digest()


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Hold what leaves a site.

    Attributes:
        fields: texts and numbers by name.
        arrays: arrays by name.
        error: one of `REFUSED` and `FAILED` where the question is not answered; else empty.
    """

    fields: Mapping[str, Field] = field(default_factory=dict)
    arrays: Arrays = field(default_factory=dict)
    error: str = ""


def question_frame(question: Question) -> bytes:
    """Encode a question as one frame.

    Raises:
        MalformedError: it is longer than a frame may be.
        ValueError: a number is not finite.
    """
    return _frame({"run": question.run, "kind": question.kind, "fields": dict(question.fields)}, question.arrays)


def answer_frame(answer: Answer) -> bytes:
    """Encode an answer as one frame."""
    return _frame({"error": answer.error, "fields": dict(answer.fields)}, answer.arrays)


def read_question(stream: BinaryIO) -> Question | None:
    """Read a question from a stream; None where the stream has ended.

    Raises:
        MalformedError: the frame is cut short, longer than it may be, or holds anything else than a question.
    """
    if (parts := _read(stream)) is None:
        return None
    head, arrays = parts
    run, kind = head.get("run"), head.get("kind")
    if head.keys() != {"run", "kind", "fields"} or type(run) is not int or type(kind) is not str:
        raise malformed("has another head")
    return Question(run=run, kind=kind, fields=checked_fields(head["fields"]), arrays=arrays)


def read_answer(stream: BinaryIO) -> Answer | None:
    """Read an answer from a stream; None where the stream has ended.

    Raises:
        MalformedError: the frame is cut short, longer than it may be, or holds anything else than an answer.
    """
    if (parts := _read(stream)) is None:
        return None
    head, arrays = parts
    if head.keys() != {"error", "fields"} or head["error"] not in ("", REFUSED, FAILED):
        raise malformed("has another head")
    return Answer(error=head["error"], fields=checked_fields(head["fields"]), arrays=arrays)


def checked_fields(fields: object) -> dict[str, Field]:
    """Check that fields are few, short, and texts or numbers.

    Raises:
        MalformedError: they are not.
    """
    if not isinstance(fields, Mapping) or len(fields) > MAX_FIELDS:
        raise malformed("has too many fields")
    for name, value in fields.items():
        if type(name) is not str or type(value) not in (str, int, float) or len(str(value)) > MAX_TEXT:
            raise malformed("has a field that is no short text and no number")
    return dict(fields)


def checked_arrays(arrays: Arrays) -> Arrays:
    """Check the size of arrays, all together, and their types.

    They must fit into a frame and be of the types that are exchanged.

    Raises:
        MalformedError: they are not.
    """
    if sum(array.nbytes for array in arrays.values()) > MAX_BODY_BYTES - MAX_HEAD_BYTES:
        raise malformed("is longer than a frame may be")
    if any(array.dtype.name not in _DTYPES for array in arrays.values()):
        raise malformed(f"has an array of another type than {', '.join(_DTYPES)}")
    return arrays


def _frame(head: dict[str, object], arrays: Arrays) -> bytes:
    told = json.dumps(head, allow_nan=False).encode()
    body = save({name: np.ascontiguousarray(array) for name, array in arrays.items()}) if arrays else b""
    if len(told) > MAX_HEAD_BYTES or len(body) > MAX_BODY_BYTES:
        raise malformed("is longer than a frame may be")
    return _LENGTHS.pack(len(told), len(body)) + told + body


def _read(stream: BinaryIO) -> tuple[dict[str, object], Arrays] | None:
    lengths = stream.read(_LENGTHS.size)
    if not lengths:
        return None
    if len(lengths) < _LENGTHS.size:
        raise malformed("is cut short")
    of_head, of_body = _LENGTHS.unpack(lengths)
    if of_head > MAX_HEAD_BYTES or of_body > MAX_BODY_BYTES:
        raise malformed("is longer than a frame may be")
    head, body = stream.read(of_head), stream.read(of_body)
    if len(head) < of_head or len(body) < of_body:
        raise malformed("is cut short")
    return _head(head), _arrays(body)


def _head(data: bytes) -> dict[str, object]:
    try:
        head = json.loads(data)
    except (ValueError, RecursionError):
        head = None
    if not isinstance(head, dict):
        raise malformed("has a head that is no JSON object")
    return head


def _arrays(body: bytes) -> Arrays:
    if not body:
        return {}
    try:
        return checked_arrays(load(body))
    except (SafetensorError, ValueError, KeyError) as error:
        raise malformed("has a body that is no safetensors") from error


def malformed(what: str) -> MalformedError:
    """Say what is wrong with a message; the remedy is always the same."""
    return MalformedError(Code.PROTOCOL, f"A message of the federation {what}; let all sites install the same version.")
