"""A host with a way out that leads nowhere: a network namespace of a test's own, whose every packet is seen.

Its default route ends at a cable that nobody holds, so that whatever would call somebody outside, or ask for a name,
sends its packets there, where they are counted and go no further.
"""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.two_hosts import HERE, Host, require_namespaces, waiting

STRANGER = "198.51.100.7"
"""An address that is kept for examples: nobody has it."""
TCP, UDP = 6, 17
CAPTURE = Path(__file__).with_name("capture.py")
_CALL = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'control', ('{}', 9))"


@dataclass
class Capture:
    """What was seen in a block, known when it has ended.

    Attributes:
        outside: how many packets of each kind wanted out.
        loopback: how many connections or packets of each kind stayed on the host.
    """

    outside: dict[str, int] = field(default_factory=dict)
    loopback: dict[str, int] = field(default_factory=dict)

    def ports(self) -> set[int]:
        """Where connections on the host led."""
        assert all(kind.startswith(f"{TCP} 127.0.0.1:") for kind in self.loopback), self.loopback
        return {int(kind.rpartition(":")[2]) for kind in self.loopback}


@contextlib.contextmanager
def lone_host() -> Iterator[Host]:
    """The host; it ends with the block."""
    require_namespaces()
    with waiting("unshare", "--user", "--map-root-user", "--net") as process:
        host = Host(address=HERE, process=process)
        host.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")  # the kernel itself would call for routers
        for words in (
            ("link", "add", "outside", "type", "veth", "peer", "nowhere"),
            ("address", "add", f"{HERE}/24", "dev", "outside"),
            ("link", "set", "outside", "arp", "off", "up"),
            ("link", "set", "nowhere", "up"),
            ("link", "set", "lo", "up"),
            ("route", "add", "default", "dev", "outside"),
        ):
            host.run("ip", *words, check=True)
        yield host


@contextlib.contextmanager
def captured(host: Host) -> Iterator[Capture]:
    """See every packet of the block, and show in the end that one that wanted out would have been seen."""
    capture = Capture()
    command = [*host.prefix, sys.executable, str(CAPTURE), "lo", "outside"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        yield capture
        host.run(sys.executable, "-c", _CALL.format(STRANGER), check=True)
        said, _ = process.communicate("", timeout=60)
    told = json.loads(said)
    assert told["missed"] == 0
    for kind, count in told["seen"].items():
        interface, _, rest = kind.partition(" ")
        (capture.loopback if interface == "lo" else capture.outside)[rest] = count
    assert capture.outside.pop(f"{UDP} {STRANGER}:9", 0) == 1, "the control was not seen"
