import pytest

from protocol.errors import (
    Code,
    FileError,
    KeyFileError,
    MalformedError,
    PeerError,
    ProtocolError,
    RefusedError,
    TimedOutError,
    UnauthenticError,
    Violation,
)


@pytest.mark.parametrize(
    ("error_type", "exit_code"),
    [
        (KeyFileError, 3),
        (PeerError, 4),
        (TimedOutError, 5),
        (UnauthenticError, 10),
        (RefusedError, 11),
        (MalformedError, 12),
        (FileError, 16),
    ],
)
def test_every_error_has_the_exit_code_of_the_product(error_type: type[ProtocolError], exit_code: int) -> None:
    error = error_type(Code.STATE, "Something is wrong; do this.")
    assert error.exit_code == exit_code
    assert error.code == "STATE"
    assert str(error) == "Something is wrong; do this."
    assert isinstance(error, ProtocolError)


def test_a_violation_reads_as_half_a_sentence() -> None:
    assert str(Violation(rule=Code.MISSING, where="head.bias", why="is missing")) == "head.bias is missing"
