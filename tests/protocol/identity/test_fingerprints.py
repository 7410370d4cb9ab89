"""Digests as people read them."""

from protocol.identity.fingerprints import in_fours


def test_digits_stand_in_groups_of_four_and_none_is_lost():
    digits = "0123456789abcdef" * 4
    assert in_fours(digits).split()[:2] == ["0123", "4567"]
    assert in_fours(digits).replace(" ", "") == digits
