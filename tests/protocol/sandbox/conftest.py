"""Places to try walls in."""

import os
import socket

import pytest


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folders with something in each."""
    place = tmp_path_factory.mktemp("walls")
    for name in ("readable", "writable", "removable", "outside"):
        (place / name).mkdir()
    files = ("readable/file", "readable/cut", "writable/file", "removable/file", "removable/kept")
    for name in (*files, "outside/secret", "outside/cut"):
        (place / name).write_bytes(b"some")
    (place / "readable" / "link").symlink_to(place / "outside" / "secret")
    with socket.socket(socket.AF_UNIX) as planted:
        # By a short name: the path may be longer than a socket's address.
        here = os.open(place / "outside", os.O_RDONLY)
        planted.bind(f"/proc/self/fd/{here}/socket")
        os.close(here)
        planted.listen()
        yield place


@pytest.fixture
def ports():
    """Two ports of the loopback interface that answer."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        yield one.getsockname()[1], other.getsockname()[1]
