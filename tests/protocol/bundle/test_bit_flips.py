"""No bundle with a changed bit is accepted. All of its bits are tried by benchmarks/bit_flips.py."""

import hashlib
import random
from collections.abc import Iterable

import pytest

from protocol.bundle import frame, trust
from protocol.bundle.architecture import tensor_specs
from protocol.bundle.weights import header
from protocol.errors import ProtocolError
from tests.protocol.samples import ANCHOR, FORM, sealed

NUM_SAMPLED = 10_000
HEAD_BITS = 8 * (len(sealed()) - len(frame.split(sealed()).weights) + len(header(tensor_specs(FORM))))
"""The bits of everything before the first tensor: head, envelope and the header of the weights."""


def accepted_flips(bits: Iterable[int]) -> list[int]:
    """Flip one bit after the other in one buffer, back each time, and return those that `trust.verify` overlooks."""
    data = bytearray(sealed())
    accepted = []
    for bit in bits:
        data[bit // 8] ^= 1 << bit % 8
        try:
            trust.verify(data, ANCHOR)
        except ProtocolError:
            pass
        else:
            accepted.append(bit)
        data[bit // 8] ^= 1 << bit % 8
    assert trust.verify(data, ANCHOR).digest == hashlib.sha256(sealed()).digest()
    return accepted


@pytest.mark.parametrize("quarter", range(4))
def test_every_flipped_bit_before_the_tensors_is_refused(quarter: int) -> None:
    assert accepted_flips(range(quarter, HEAD_BITS, 4)) == []


def test_flipped_bits_in_every_part_of_the_tensors_are_refused() -> None:
    end = 8 * len(sealed())
    step = (end - HEAD_BITS) / NUM_SAMPLED
    places = random.Random(0)
    assert accepted_flips(HEAD_BITS + int(step * (index + places.random())) for index in range(NUM_SAMPLED)) == []


def test_the_count_notices_what_is_accepted() -> None:
    assert accepted_flips([]) == []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trust, "_check_weights", lambda stated, packed: {})
        assert accepted_flips([8 * len(sealed()) - 1]) == [8 * len(sealed()) - 1]
