"""Encode protobuf canonically: one message has one byte string.

A message can thus carry nothing but its fields.

Plain protobuf keeps unknown fields, accepts a field twice, in any order, and numbers in longer forms than
needed; each of these is room for bytes that no schema shows. No field is longer than the table in
`protocol.wire.limits` says, on the way out as on the way in.
"""

from collections.abc import Callable
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from protocol.errors import Code, MalformedError
from protocol.wire.limits import FIELD_LIMITS

M = TypeVar("M", bound=Message)


def encode(message: Message) -> bytes:
    """Return the canonical bytes of a message.

    Raises:
        MalformedError: a field is beyond its limit.
    """
    _check_limits(message)
    return message.SerializeToString(deterministic=True)


def decoder(message_type: type[M]) -> Callable[[bytes], M]:
    """Make a parser of ``message_type`` for canonical bytes alone.

    It refuses every other byte string.

    Returns:
        A function from bytes to the message, raising `MalformedError`: NOT_CANONICAL, or LENGTH or OFFSET where a field
        is beyond its limit.
    """

    def decode(data: bytes) -> M:
        message = message_type()
        try:
            message.ParseFromString(data)
        except DecodeError as error:
            raise _refusal(message_type) from error
        message.DiscardUnknownFields()  # type: ignore[attr-defined]  # the stubs lack it
        if message.SerializeToString(deterministic=True) != data:
            raise _refusal(message_type)
        _check_limits(message)
        return message

    return decode


def _check_limits(message: Message) -> None:
    for field, value in message.ListFields():
        limit = FIELD_LIMITS[f"{message.DESCRIPTOR.name}.{field.name}"]
        if isinstance(value, int) and value > limit:
            raise MalformedError(Code.OFFSET, "An offset or a number lies beyond its limit; run the command again.")
        if isinstance(value, bytes) and len(value) > limit:
            raise MalformedError(
                Code.LENGTH,
                f"A field of the {message.DESCRIPTOR.name} message is too long; "
                "install the same release of ecan-ser at both sites.",
            )


def _refusal(message_type: type[Message]) -> MalformedError:
    return MalformedError(
        Code.NOT_CANONICAL,
        f"The {message_type.DESCRIPTOR.name} message is not in its canonical form; "
        "install the same release of ecan-ser at both sites.",
    )
