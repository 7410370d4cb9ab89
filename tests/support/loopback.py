"""Where even the loopback is cut off (`unshare -rn`), tests of real connections have nothing to show."""

import functools
import socket

import pytest


@functools.cache
def loopback_is_up() -> bool:
    """Whether this machine can be reached from itself."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        try:
            socket.create_connection(listener.getsockname(), timeout=1).close()
        except OSError:
            return False
    return True


needs_loopback = pytest.mark.skipif(not loopback_is_up(), reason="the loopback interface is down")


def require_loopback() -> None:
    """Skip the running test if the loopback is down."""
    if not loopback_is_up():
        pytest.skip("the loopback interface is down")
