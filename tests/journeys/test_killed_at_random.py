"""A few rounds of the loop that kills both sites at random; `benchmarks/kill_loop.py` runs a thousand and more."""

import pytest

from benchmarks.kill_loop import kill_loop
from tests.support.loopback import needs_loopback

pytestmark = [pytest.mark.journey, pytest.mark.slow, needs_loopback]


def test_a_grant_has_one_digest_and_is_never_lost_whatever_is_killed(tmp_path):
    seen = kill_loop(tmp_path, kills=20, seed=1)
    assert sum(seen["kills"].values()) >= 20
    assert (seen["grants_with_two_digests"], seen["grants_lost"]) == (0, 0)
