"""Both sites on hosts of their own, which share a cable for the crossing and nothing afterwards."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.two_hosts import Host, two_hosts

pytestmark = pytest.mark.journey

SOURCE, TARGET = (str(Path(sys.executable).with_name(name)) for name in ("ecan-source", "ecan-target"))
CALL = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)"


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    with two_hosts() as both:
        yield both


def exporting(host: Host, crossing, request: Path, keys: Path) -> tuple[subprocess.Popen[str], str]:
    """Start an export on a host and wait until it listens; the address follows."""
    words = ["export", "--model", crossing.run, "--keys", keys, "--request", request, "--listen", f"{host.address}:0"]
    process = subprocess.Popen([*host.prefix, SOURCE, *map(str, words)], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        found = re.search(r"listening on (\S+:\d+)", line)
        if found:
            return process, found[1]
    raise AssertionError("the export ended before it listened")


def test_a_model_crosses_between_two_hosts_and_is_adapted_where_nobody_can_be_called(hosts, crossing, tmp_path):
    source_host, target_host = hosts
    keys, own = shutil.copytree(crossing.source_keys, tmp_path / "source-keys"), tmp_path / "keys"
    target_host.run(TARGET, "request", "--keys", own, "--out", tmp_path / "site.request", check=True)
    export, address = exporting(source_host, crossing, tmp_path / "site.request", keys)
    with export:
        way = ("--from", address, "--trust", crossing.fingerprint)
        looked = target_host.run(TARGET, "doctor", "--keys", own, "--out", tmp_path, *way)
        assert looked.returncode == 0, looked.stdout + looked.stderr
        received = target_host.run(TARGET, "receive", "--keys", own, *way, "--out", tmp_path / "model.ecan")
        assert received.returncode == 0, received.stderr
        assert export.wait(60) == 0
    target_host.run("ip", "link", "delete", "cable", check=True)
    name = ("--by", "Ada Byron", "--purpose", "research")
    target_host.run(TARGET, "approve", "--bundle", tmp_path / "model.ecan", "--keys", own, *name, check=True)
    audio, out = crossing.target_labels, tmp_path / "adapted"
    adapted = target_host.run(TARGET, "adapt", "--bundle", tmp_path / "model.ecan", "--audio", audio, "--out", out)
    assert adapted.returncode in (0, 14), adapted.stderr
    assert (out / "report.html").is_file()


def test_the_hosts_share_nothing_but_their_cable(hosts):
    here, there = hosts
    listening = (
        "import socket; s = socket.create_server(('192.0.2.1', 0)); print(s.getsockname()[1], flush=True); s.accept()"
    )
    with subprocess.Popen([*here.prefix, sys.executable, "-c", listening], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        outside = subprocess.run([sys.executable, "-c", CALL, here.address, port], capture_output=True, check=False)
        over_the_cable = there.run(sys.executable, "-c", CALL, here.address, port)
    assert (outside.returncode, over_the_cable.returncode) == (1, 0), over_the_cable.stderr
