"""Write fingerprints and other digests as people read them."""

_GROUP = 4


def in_fours(digits: str) -> str:
    """Return hexadecimal digits in groups of four, to compare by eye."""
    return " ".join(digits[place : place + _GROUP] for place in range(0, len(digits), _GROUP))
