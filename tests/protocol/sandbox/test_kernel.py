"""A kernel that cannot do what the walls need is refused with the remedy."""

import pytest

from protocol.sandbox import kernel
from protocol.sandbox.landlock import landlock_abi
from tests.protocol.sandbox.behind_walls import ROOT, result
from tests.support import old_kernel

pytestmark = pytest.mark.skipif(landlock_abi() == 0, reason="this kernel has no Landlock")


def test_a_kernel_without_landlock_is_refused_with_the_remedy(place):
    code = """
try:
    confine(network=Network.NONE, **folders)
except sandbox.ContainmentError as fault:
    print(json.dumps([fault.exit_code, str(fault)]))
"""
    exit_code, message = result(code, place, before=old_kernel.forget_landlock)
    assert exit_code == 15
    assert "accept the risk" in message
    assert f"use {kernel.OLDEST_KERNEL} or newer" in message


def test_the_manual_names_the_same_kernel():
    (row,) = (
        line for line in (ROOT / "docs/operations.md").read_text("utf-8").splitlines() if line.startswith("| 15 ")
    )
    assert f"use {kernel.OLDEST_KERNEL} or newer" in row
