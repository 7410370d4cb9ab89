"""What lets root do more than others."""

import os

import pytest

from protocol.sandbox.landlock import landlock_abi
from tests.protocol.sandbox.behind_walls import result

pytestmark = [
    pytest.mark.skipif(landlock_abi() == 0, reason="this kernel has no Landlock"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root has such rights"),
]
SETS = """
def sets():
    lines = Path("/proc/self/status").read_text().splitlines()
    return [int(line.split()[1], 16) for line in lines if line.startswith("Cap")]
from protocol.sandbox.rights import NET_BIND_SERVICE, drop_rights, rights
"""


def test_root_has_none_afterwards_not_even_to_gain():
    code = f"{SETS}before = rights(); drop_rights(); print(json.dumps([before > 0, sets()]))"
    assert result(code, "/") == [True, [0] * 5]


def test_what_serves_a_network_keeps_the_right_to_a_low_port():
    code = f"{SETS}drop_rights(NET_BIND_SERVICE); print(json.dumps([rights(), sets()]))"
    port = 1 << 10
    assert result(code, "/") == [port, [0, port, port, port, 0]]


def test_root_of_a_namespace_of_its_own_has_none_either():
    code = f"""{SETS}
kernel.c_library().unshare(system_calls.NEW_USERS)
before = rights()
drop_rights()
print(json.dumps([before > 0, rights()]))
"""
    assert result(code, "/") == [True, 0]


@pytest.mark.parametrize("walls", ["confine(network=Network.NONE, **folders)", "sandbox.confine_to_computing()"])
def test_walls_take_them(place, walls):
    code = f"{walls}; print(json.dumps([outcome(lambda: os.setuid(1)), outcome(lambda: os.setgid(1))]))"
    assert result(code, place) == ["EPERM", "EPERM"]
