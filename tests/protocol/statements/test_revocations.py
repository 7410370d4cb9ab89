import json
from dataclasses import replace

import pytest

from protocol.errors import MalformedError, ProtocolError, UnauthenticError
from protocol.identity import signing
from protocol.statements.revocations import (
    MAX_REVOCATIONS_BYTES,
    MAX_REVOKED,
    PAYLOAD_TYPE,
    Revocations,
    join_digests,
    open_revocations,
    sign_revocations,
)
from tests.protocol.samples import ISSUER, OTHER_KEY, RELEASE_KEY, TODAY, code_only, flipped

LOW, HIGH = bytes(32), bytes([255]) * 32
LIST = Revocations(version=3, day=TODAY, weights=frozenset({HIGH, LOW}), keys=frozenset({ISSUER}))
SEALED = sign_revocations(LIST, RELEASE_KEY)


def signed(payload_type: str = PAYLOAD_TYPE, **changes: object) -> bytes:
    """A list with a valid signature that says something else."""
    value = json.loads(signing.parse_envelope(SEALED).payload)
    value.update(changes)
    return signing.sign(payload_type, json.dumps(value, sort_keys=True, separators=(",", ":")).encode(), RELEASE_KEY)


def test_what_was_withdrawn_is_read_as_it_was_written() -> None:
    assert open_revocations(SEALED, ISSUER) == LIST
    assert LIST.revoked == {LOW, HIGH, ISSUER}


def test_an_empty_list_is_a_list() -> None:
    empty = Revocations(version=1, day=TODAY, weights=frozenset(), keys=frozenset())
    assert open_revocations(sign_revocations(empty, RELEASE_KEY), ISSUER) == empty


def test_the_longest_list_fits_and_a_longer_one_is_not_written() -> None:
    digests = frozenset(bytes([number]) * 32 for number in range(MAX_REVOKED))
    longest = replace(LIST, weights=digests, keys=digests)
    data = sign_revocations(longest, RELEASE_KEY)
    assert len(data) <= MAX_REVOCATIONS_BYTES
    assert open_revocations(data, ISSUER) == longest
    with pytest.raises(MalformedError):
        sign_revocations(replace(longest, keys=digests | {HIGH}), RELEASE_KEY)


@pytest.mark.parametrize("version", [0, -1, 1 << 16])
def test_a_number_that_is_out_of_range_is_not_written(version: int) -> None:
    with pytest.raises(MalformedError) as caught:
        sign_revocations(replace(LIST, version=version), RELEASE_KEY)
    assert caught.value.code == "RANGE"


def test_the_list_of_another_source_is_refused() -> None:
    with pytest.raises(UnauthenticError) as caught:
        open_revocations(sign_revocations(LIST, OTHER_KEY), ISSUER)
    assert caught.value.code == "KEY_UNKNOWN"


def test_another_signed_record_is_no_list() -> None:
    with pytest.raises(UnauthenticError) as caught:
        open_revocations(signed("application/vnd.ecan.receipt.v1+json"), ISSUER)
    assert caught.value.code == "PAYLOAD_TYPE"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (signed(v=2), "ENUM"),
        (signed(version=0), "RANGE"),
        (signed(version=True), "TYPE"),
        (signed(weights=HIGH.hex() + LOW.hex()), "NOT_CANONICAL"),
        (signed(weights=LOW.hex() * 2), "NOT_CANONICAL"),
        (signed(weights=LOW.hex()[:-1]), "NOT_CANONICAL"),
        (signed(weights="F" * 64), "NOT_CANONICAL"),
        (signed(weights=LOW.hex() + "\n"), "NOT_CANONICAL"),
        (signed(keys="x" * 64), "NOT_CANONICAL"),
        (signed(keys=LOW.hex() + " "), "NOT_CANONICAL"),
        (signed(keys=[]), "TYPE"),
        (signed(keys="0" * (64 * MAX_REVOKED + 1)), "RANGE"),
        (signed(note="because"), "UNKNOWN_FIELD"),
        (b"", "NOT_CANONICAL"),
    ],
    ids=code_only,
)
def test_a_list_has_one_form_only(data: bytes, code: str) -> None:
    with pytest.raises(MalformedError) as caught:
        open_revocations(data, ISSUER)
    assert caught.value.code == code


def test_every_flipped_bit_is_refused() -> None:
    for bit in range(0, 8 * len(SEALED), 3):
        with pytest.raises(ProtocolError):
            open_revocations(flipped(SEALED, bit), ISSUER)


def test_a_set_has_one_form_whatever_its_order() -> None:
    assert join_digests({HIGH, LOW}) == join_digests({LOW, HIGH}) == LOW.hex() + HIGH.hex()
