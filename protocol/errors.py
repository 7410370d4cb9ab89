"""Name everything that can go wrong between the two sites, as one tree.

ProtocolError              exit code 1
├── KeyFileError                   3   a key file is missing, exposed, damaged or already there
├── PeerError                      4   no connection, or the peer is not who it should be
├── TimedOutError                  5   the peer did not answer in time
├── UnauthenticError              10   a signature, a key or an endorsement does not hold
├── RefusedError                  11   authentic, but the policy says no
├── MalformedError                12   the bytes are not what the format says
├── ContainmentError              15   a process cannot be confined, or its walls do not hold
└── FileError                     16   the disk is full, read-only or out of reach

Each error carries a code for machines, from one closed vocabulary, and for people one sentence with the
remedy.
"""

from dataclasses import dataclass
from enum import StrEnum


class Code(StrEnum):
    """List the closed vocabulary of faults.

    Only these words may follow an error across the wire.
    """

    # Bytes that are not what the format says.
    TRUNCATED = "TRUNCATED"
    TRAILING = "TRAILING"
    MAGIC = "MAGIC"
    VERSION = "VERSION"
    FLAGS = "FLAGS"
    LENGTH = "LENGTH"
    DEPTH = "DEPTH"
    DUP_KEY = "DUP_KEY"
    NOT_CANONICAL = "NOT_CANONICAL"
    UNKNOWN_FIELD = "UNKNOWN_FIELD"
    MISSING = "MISSING"
    TYPE = "TYPE"
    RANGE = "RANGE"
    ENUM = "ENUM"
    DIGEST = "DIGEST"
    SHAPE = "SHAPE"
    HEADER_MISMATCH = "HEADER_MISMATCH"
    VALUE = "VALUE"
    UNIT_ORDER = "UNIT_ORDER"
    # Signatures and identities.
    SIG_MISSING = "SIG_MISSING"
    SIG_INVALID = "SIG_INVALID"
    KEY_UNKNOWN = "KEY_UNKNOWN"
    PAYLOAD_TYPE = "PAYLOAD_TYPE"
    IDENTITY = "IDENTITY"
    STATE_LOST = "STATE_LOST"
    # Sealing to one recipient.
    RECIPIENT = "RECIPIENT"
    DECRYPT = "DECRYPT"
    # Policy.
    EGRESS = "EGRESS"
    UTILITY = "UTILITY"
    REPRO = "REPRO"
    AUDIT = "AUDIT"
    AUDIT_BINDING = "AUDIT_BINDING"
    AUDIT_FAILED = "AUDIT_FAILED"
    NOT_MEASURABLE = "NOT_MEASURABLE"
    HOLDOUT_DUP = "HOLDOUT_DUP"
    DP_BROKEN = "DP_BROKEN"
    CLASS_SUPPORT = "CLASS_SUPPORT"
    SINGLE_SPEAKER = "SINGLE_SPEAKER"
    CAPACITY = "CAPACITY"
    RELEASE_BUDGET = "RELEASE_BUDGET"
    POLICY = "POLICY"
    AUDIENCE = "AUDIENCE"
    GRANT = "GRANT"
    NOT_YET = "NOT_YET"
    EXPIRED = "EXPIRED"
    ROLLBACK = "ROLLBACK"
    FAST_FORWARD = "FAST_FORWARD"
    REVOKED = "REVOKED"
    CONTAINMENT = "CONTAINMENT"
    PROBE = "PROBE"
    # The exchange between the sites.
    STATE = "STATE"
    OFFER = "OFFER"
    SWAP = "SWAP"
    QUOTA = "QUOTA"
    BUSY = "BUSY"
    METADATA = "METADATA"
    OFFSET = "OFFSET"
    RECEIPT = "RECEIPT"
    PROTOCOL = "PROTOCOL"
    CONNECTION = "CONNECTION"
    ADDRESS = "ADDRESS"
    DEADLINE = "DEADLINE"
    INTERNAL = "INTERNAL"
    # Keys and files.
    KEY_EXISTS = "KEY_EXISTS"
    KEY_MISSING = "KEY_MISSING"
    KEY_EXPOSED = "KEY_EXPOSED"
    KEY_DAMAGED = "KEY_DAMAGED"
    KEY_LOCKED = "KEY_LOCKED"
    NOT_REGULAR = "NOT_REGULAR"
    NOT_FOUND = "NOT_FOUND"
    STORAGE = "STORAGE"
    LOCKED = "LOCKED"
    LEDGER = "LEDGER"


@dataclass(frozen=True, kw_only=True)
class Violation:
    """Describe one broken rule.

    Which, where (a tensor's name) and why, as half a sentence.
    """

    rule: Code
    where: str
    why: str

    def __str__(self) -> str:
        return f"{self.where} {self.why}"


class ProtocolError(Exception):
    """Report any failure that the protocol can explain.

    Attributes:
        code: what went wrong, for machines.
        exit_code: the command line's exit status.
    """

    exit_code = 1

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code


class KeyFileError(ProtocolError):
    """Report a key file: missing, exposed, damaged or already there."""

    exit_code = 3


class PeerError(ProtocolError):
    """Report that there is no connection, or the wrong peer.

    The peer is not who it should be.
    """

    exit_code = 4


class TimedOutError(ProtocolError):
    """Report that the peer did not answer in time."""

    exit_code = 5


class UnauthenticError(ProtocolError):
    """Report that a signature, a key or an endorsement does not hold."""

    exit_code = 10


class RefusedError(ProtocolError):
    """Report that a request is authentic, but the policy says no."""

    exit_code = 11


class MalformedError(ProtocolError):
    """Report that bytes are not what the format says."""

    exit_code = 12


class ContainmentError(ProtocolError):
    """Report that a process cannot be confined, or is not.

    It cannot be confined as it must be, or its walls do not hold.
    """

    exit_code = 15


class FileError(ProtocolError):
    """Report that a file cannot be read or written.

    It is missing, or the disk is full, read-only or out of reach.
    """

    exit_code = 16
