"""Canonical protobuf: one message has one byte string, so a message can carry nothing but its fields.

Plain protobuf keeps unknown fields, accepts a field twice, in any order, and numbers in longer forms than
needed; each of these is room for bytes that no schema shows.
"""

from collections.abc import Callable
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from protocol.errors import Code, Malformed

M = TypeVar("M", bound=Message)


def encode(message: Message) -> bytes:
    """The canonical bytes of a message."""
    return message.SerializeToString(deterministic=True)


def decoder(message_type: type[M]) -> Callable[[bytes], M]:
    """A parser of `message_type` that refuses every byte string but the canonical one.

    Returns:
        A function from bytes to the message, raising `Malformed` (NOT_CANONICAL).
    """

    def decode(data: bytes) -> M:
        message = message_type()
        try:
            message.ParseFromString(data)
        except DecodeError as error:
            raise _refusal(message_type) from error
        message.DiscardUnknownFields()  # type: ignore[attr-defined]  # the stubs lack it
        if encode(message) != data:
            raise _refusal(message_type)
        return message

    return decode


def _refusal(message_type: type[Message]) -> Malformed:
    return Malformed(
        Code.NOT_CANONICAL,
        f"The {message_type.DESCRIPTOR.name} message is not in its canonical form; "
        "install the same release of ecan-ser at both sites.",
    )
