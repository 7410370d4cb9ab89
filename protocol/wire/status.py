"""Decide which faults a peer may hear of.

One table, so that no free text ever crosses as an error.

A fault leaves the source as its gRPC status and one fixed sentence; the target looks the sentence up in the
same table and never shows a text that it does not know.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import grpc

from protocol.errors import (
    Code,
    MalformedError,
    PeerError,
    ProtocolError,
    RefusedError,
    TimedOutError,
)


@dataclass(frozen=True)
class PublicFault:
    """Describe how a fault looks to the peer.

    Attributes:
        status: the gRPC status.
        error: what the target raises.
        sentence: the text that crosses, with the remedy.
    """

    status: grpc.StatusCode
    error: type[ProtocolError]
    sentence: str


_CANNOT_SERVE = PublicFault(
    grpc.StatusCode.UNAVAILABLE,
    PeerError,
    "The source cannot serve at the moment; ask its operator to look at its storage and try again.",
)

PUBLIC_FAULTS = {
    Code.IDENTITY: PublicFault(
        grpc.StatusCode.UNAUTHENTICATED,
        PeerError,
        "The source does not serve this site: its keys are not those of a request that it exports for; "
        "ask its operator to export with this site's request.",
    ),
    Code.GRANT: PublicFault(
        grpc.StatusCode.NOT_FOUND,
        RefusedError,
        "The source does not serve this request; ask its operator to export with this site's latest request.",
    ),
    Code.STATE: PublicFault(
        grpc.StatusCode.FAILED_PRECONDITION,
        RefusedError,
        "This grant has ended: its bundle was delivered, or may not be any more; "
        "make a new request and ask the source to export again.",
    ),
    Code.DIGEST: PublicFault(
        grpc.StatusCode.FAILED_PRECONDITION,
        RefusedError,
        "The source has another bundle for this grant than the one asked for; run the command again.",
    ),
    Code.OFFSET: PublicFault(
        grpc.StatusCode.OUT_OF_RANGE,
        MalformedError,
        "A download goes on at the start of a chunk; remove the partial file and run the command again.",
    ),
    Code.QUOTA: PublicFault(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        RefusedError,
        "This grant's bundle was sent too often without a receipt; "
        "make a new request and ask the source to export again.",
    ),
    Code.BUSY: PublicFault(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        PeerError,
        "The source answers as many calls as it can, or one of this site already; wait and run the command again.",
    ),
    Code.METADATA: PublicFault(
        grpc.StatusCode.INVALID_ARGUMENT,
        MalformedError,
        "The call carries metadata of its own; install the same release of ecan-ser at both sites.",
    ),
    Code.RECEIPT: PublicFault(
        grpc.StatusCode.FAILED_PRECONDITION,
        RefusedError,
        "The receipt is not this site's word on this bundle; receive the bundle again.",
    ),
    Code.NOT_CANONICAL: PublicFault(
        grpc.StatusCode.INVALID_ARGUMENT,
        MalformedError,
        "A message is not in its canonical form; install the same release of ecan-ser at both sites.",
    ),
    Code.LENGTH: PublicFault(
        grpc.StatusCode.INVALID_ARGUMENT,
        MalformedError,
        "A field of a message is longer than any can be; install the same release of ecan-ser at both sites.",
    ),
    Code.PROTOCOL: PublicFault(
        grpc.StatusCode.FAILED_PRECONDITION,
        MalformedError,
        "The calls come in the wrong order; install the same release of ecan-ser at both sites.",
    ),
    Code.DEADLINE: PublicFault(
        grpc.StatusCode.INVALID_ARGUMENT,
        TimedOutError,
        "A call must set a deadline of at most ten minutes; set a shorter time-out.",
    ),
    Code.STORAGE: _CANNOT_SERVE,
    Code.LEDGER: _CANNOT_SERVE,
    Code.INTERNAL: PublicFault(
        grpc.StatusCode.INTERNAL,
        PeerError,
        "The source met a fault of its own; ask its operator to look at its messages.",
    ),
}
"""Faults that cross as what they are; any other crosses as INTERNAL."""

_TOO_MANY_CALLS = "Concurrent RPC limit exceeded!"
"""What Python's gRPC server says by itself when it has no thread left for a call."""

_BY_SENTENCE = {fault.sentence: (code, fault) for code, fault in PUBLIC_FAULTS.items()}


def public_fault(code: Code) -> PublicFault:
    """Return what a peer hears of a fault with this code."""
    return PUBLIC_FAULTS.get(code, PUBLIC_FAULTS[Code.INTERNAL])


@contextlib.contextmanager
def explained_faults(peer: str) -> Iterator[None]:
    """Turn what gRPC raises in the block into an error of ours.

    Args:
        peer: how to call the peer in messages, such as its address.
    """
    try:
        yield
    except grpc.RpcError as error:
        raise _explained(error.code(), error.details(), peer) from error


def _explained(status: grpc.StatusCode, details: str | None, peer: str) -> ProtocolError:
    if details in _BY_SENTENCE:
        code, fault = _BY_SENTENCE[details]
        return fault.error(code, fault.sentence)
    if details == _TOO_MANY_CALLS:
        return PeerError(Code.BUSY, PUBLIC_FAULTS[Code.BUSY].sentence)
    if status is grpc.StatusCode.DEADLINE_EXCEEDED:
        return TimedOutError(
            Code.DEADLINE, f"{peer} did not answer in time; run the command again: it goes on where it was."
        )
    if status in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return PeerError(
            Code.CONNECTION,
            f"{peer} cut the connection: it has ended, the call was too slow, or it serves other sites; "
            "check that it exports with this site's request and run the command again.",
        )
    return PeerError(
        Code.PROTOCOL,
        f"{peer} gives an unknown answer; install the same release of ecan-ser at both sites.",
    )
