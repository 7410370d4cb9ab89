"""Two hosts with a cable between them: network namespaces of a test's own, which reach each other and nothing else."""

import contextlib
import functools
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

HERE, THERE = "192.0.2.1", "192.0.2.2"
"""Addresses that are kept for examples: nobody has them."""


@dataclass(frozen=True, kw_only=True)
class Host:
    """A network namespace that a waiting process keeps.

    Attributes:
        address: its end of the cable.
        process: the one that waits.
    """

    address: str
    process: subprocess.Popen[str]

    @property
    def prefix(self) -> tuple[str, ...]:
        """What makes a command run on this host."""
        return ("nsenter", "--preserve-credentials", "--user", "--net", "--target", str(self.process.pid))

    def run(self, *words: object, check: bool = False) -> subprocess.CompletedProcess[str]:
        """Run a command here."""
        command = [*self.prefix, *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, check=check, timeout=300)


@contextlib.contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Both hosts, connected; they end with the block."""
    require_namespaces()
    with waiting("unshare", "--user", "--map-root-user", "--net") as first:
        here = Host(address=HERE, process=first)
        with waiting(*here.prefix, "unshare", "--net") as second:
            there = Host(address=THERE, process=second)
            here.run("ip", "link", "add", "cable", "type", "veth", "peer", "cable", "netns", second.pid, check=True)
            for host in (here, there):
                host.run("ip", "address", "add", f"{host.address}/24", "dev", "cable", check=True)
                host.run("ip", "link", "set", "lo", "up", check=True)
                host.run("ip", "link", "set", "cable", "up", check=True)
            yield here, there


@contextlib.contextmanager
def waiting(*prefix: str) -> Iterator[subprocess.Popen[str]]:
    """A process behind a prefix that says when it is there, and then waits for its end."""
    script = "echo there; read end"
    with subprocess.Popen(
        [*prefix, "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "there\n"
            yield process
        finally:
            process.stdin.close()


@functools.cache
def _works() -> bool:
    probe = ["unshare", "--user", "--map-root-user", "--net", "ip", "link", "add", "one", "type", "veth"]
    with contextlib.suppress(OSError):
        return subprocess.run(probe, capture_output=True, check=False, timeout=30).returncode == 0
    return False


def require_namespaces() -> None:
    """Skip the running test where no namespaces can be made."""
    if not _works():
        pytest.skip("this machine lets nobody make network namespaces with a cable")
