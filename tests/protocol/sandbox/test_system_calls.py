"""The numbers of calls on both processors."""

import pytest

from protocol.sandbox import system_calls
from protocol.sandbox.landlock import landlock_abi

pytestmark = pytest.mark.skipif(landlock_abi() == 0, reason="this kernel has no Landlock")


def test_the_two_processors_have_a_number_for_every_call():
    tables = (
        system_calls.NEVER,
        system_calls.SOCKET,
        system_calls.CALLING,
        system_calls.SERVING,
        system_calls.SENDING,
        system_calls.CLONE,
        system_calls.IOCTL,
        system_calls.FCNTL,
        system_calls.OPEN,
        system_calls.OWN_SIGNALS,
        system_calls.LIMITS,
        system_calls.PRCTL,
        system_calls.COMPUTING,
        system_calls.MEMORY,
        system_calls.STATUS,
    )
    old = {"chmod", "chown", "lchown", "utime", "utimes", "futimesat", "open", "iopl", "ioperm"}
    for column in (0, 1):
        numbers = [call[column] for table in tables for name, call in table.items() if column == 0 or name not in old]
        assert len(set(numbers)) == len(numbers)
        assert all(0 <= number < 512 for number in numbers)
