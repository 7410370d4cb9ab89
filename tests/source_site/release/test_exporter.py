"""The exporter as a real process: what the command becomes, what it can reach, and how it ends."""

import json
import os
import shlex
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from benchmarks.crossing import Command
from benchmarks.crossing import source as run_source
from protocol.identity.key_files import load_identity
from protocol.ledger.grants import GrantState
from protocol.sandbox.landlock import landlock_abi
from protocol.wire.address import Address
from source_site.keys.folder import init_keys, open_ledger
from tests.source_site.release.test_grant import OTHER_SITE, SITE, outbox, receipt_of
from tests.source_site.training.runs import write_run
from tests.support import cli
from tests.support.calls import calling
from tests.support.loopback import needs_loopback

ROOT = Path(__file__).resolve().parents[3]
PASSPHRASE = b"correct horse battery staple"
pytestmark = [
    pytest.mark.journey,
    needs_loopback,
    pytest.mark.skipif(landlock_abi() == 0, reason="this kernel has no Landlock"),
]


@pytest.fixture
def place(tmp_path):
    """A source with a trained run and two requests on its desk."""
    init_keys(tmp_path / "keys")
    write_run(tmp_path / "run")
    (tmp_path / "site.request").write_bytes(SITE.request)
    (tmp_path / "other.request").write_bytes(OTHER_SITE.request)
    return tmp_path


def words(place, *more):
    return ("export", "--model", place / "run", "--keys", place / "keys", "--request", place / "site.request", *more)


def exporting(place, *more):
    return Command(place, "ecan-source", *words(place, "--listen", "127.0.0.1:0", *more))


def take(place, export, site=SITE, passphrase=None):
    """Fetch and acknowledge as an honest site does."""
    source = load_identity(place / "keys", passphrase)
    with calling(Address("127.0.0.1", export.port()), site, source) as calls:
        data = b"".join(chunk.data for chunk in calls.fetch(calls.open().sealed_sha256))
        calls.ack(receipt_of(data, site))
    return data


def facts_of(process) -> dict[str, str]:
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def seen_from_outside(process) -> bytes:
    return b"".join(Path(f"/proc/{process.pid}/{name}").read_bytes() for name in ("cmdline", "environ"))


def state(place, site=SITE):
    return open_ledger(place / "keys").find(site.grant).state


def test_the_command_becomes_a_confined_process_and_serves_every_site(place):
    export = exporting(place, "--request", place / "other.request", "--format", "json")
    export.port()
    assert b"source_site.release.exporter" in seen_from_outside(export.process)
    facts = facts_of(export.process)
    assert (facts["Seccomp"], facts["NoNewPrivs"]) == ("2", "1")
    take(place, export)
    take(place, export, OTHER_SITE)
    ended = export.wait()
    assert [one["closed"] for one in ended.json()["grants"]] == [True, True]
    assert ended.stderr.count("this grant is closed") == 2
    assert outbox(place) == []


def test_what_was_granted_before_is_served_without_the_model(place):
    granted = run_source(place, "grant", *words(place)[1:], "--format", "json")
    (one,) = granted.json()["grants"]
    assert (one["state"], one["audience"]) == ("ISSUED", SITE.identity.fingerprint.hex())
    assert SITE.identity.fingerprint.hex() in granted.stderr
    assert "compare each site's fingerprint" in granted.stderr
    export = Command(place, "ecan-source", "export", "--keys", place / "keys", "--listen", "127.0.0.1:0")
    assert one["bytes"] == len(take(place, export))
    export.wait()
    assert state(place) is GrantState.CLOSED


def test_of_the_keys_an_exporter_reaches_the_ledger_the_outbox_and_what_is_public(place):
    run_source(place, "grant", *words(place)[1:])
    code = """
import errno, json, os, sys
from pathlib import Path
from source_site.release.exporter import wall_off
keys, run = Path(sys.argv[1]), Path(sys.argv[2])
def reach(path):
    try:
        os.listdir(path) if path.is_dir() else path.read_bytes()
        return True
    except PermissionError:
        return False
def sight():
    return {name: reach(keys / name) for name in sorted(names)} | {"run": reach(run / "run.json"), "keys": reach(keys)}
names = [str(path.relative_to(keys)) for path in keys.rglob("*")]
before = sight()
wall_off(keys, [run], unconfined=False)
after = sight()
(keys / "outbox").iterdir().__next__().unlink()
print(json.dumps([before, after]))
"""
    here = [sys.executable, "-I", "-c", code, str(place / "keys"), str(place / "run")]
    done = subprocess.run(here, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    before, after = json.loads(done.stdout)
    assert all(before.values())
    reached = {name.partition("/")[0] for name, within in after.items() if within}
    assert reached == {"ledger", "outbox", "public"}
    assert {"signing.key", "tls.key", "online.key", "released", "run", "keys"} <= after.keys() - reached


def test_an_exporter_that_can_see_what_it_must_not_does_not_listen(place):
    run_source(place, "grant", *words(place)[1:])
    module = [sys.executable, "-I", "-m", "source_site.release.exporter", "--keys", place / "keys"]
    more = ["--listen", "127.0.0.1:0", "--timeout", "5", "--out-of-reach", ROOT / "source_site"]
    done = subprocess.run([*module, *more], capture_output=True, text=True, check=False)
    assert done.returncode == 15
    assert "within reach" in done.stderr
    assert "listening" not in done.stderr


@pytest.mark.parametrize("command", ["grant", "export"])
def test_on_a_kernel_without_walls_nothing_happens_unless_that_is_accepted(place, command):
    def on_an_old_kernel(*more):
        script = Path(sysconfig.get_path("scripts")) / "ecan-source"
        start = [sys.executable, "-m", "tests.support.old_kernel", sys.executable, script]
        line = [command, *words(place)[1:], *more]
        return subprocess.run([*start, *line], cwd=ROOT, capture_output=True, text=True, check=False)

    more = () if command == "grant" else ("--listen", "127.0.0.1:0", "--timeout", "1")
    refused = on_an_old_kernel(*more)
    assert refused.returncode == 15
    assert "accept the risk" in refused.stderr
    assert open_ledger(place / "keys").find(SITE.grant) is None
    accepted = on_an_old_kernel(*more, "--unconfined", "--quiet")
    assert accepted.returncode == (0 if command == "grant" else 5)  # nobody came to fetch it
    assert "UNCONFINED" in accepted.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_it_and_the_same_command_goes_on(place, number, code):
    first = exporting(place)
    first.port()
    sealed = (place / "keys" / "outbox" / f"{SITE.grant.hex()}.sealed").read_bytes()
    first.process.send_signal(number)
    said = first.wait(expect=code).stderr
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith("error: ")
    assert "run the same command again" in said
    assert state(place) is GrantState.ISSUED
    second = exporting(place)
    assert take(place, second) == sealed
    second.wait()


def test_without_a_receipt_in_time_the_command_says_so_and_the_grant_stays_open(place):
    late = exporting(place, "--timeout", "1").wait(expect=5)
    assert "run the command again" in late.stderr
    assert state(place) is GrantState.ISSUED


def test_the_passphrase_reaches_the_exporter_and_nobody_who_looks(place, monkeypatch):
    init_keys(place / "locked", passphrase=PASSPHRASE)
    (place / "keys").rename(place / "open")
    (place / "locked").rename(place / "keys")
    (place / "passphrase").write_bytes(PASSPHRASE)
    (place / "passphrase").chmod(0o600)
    exporting(place, "--timeout", "5").wait(expect=3)
    monkeypatch.setenv("ECAN_PASSPHRASE_FILE", str(place / "passphrase"))
    export = exporting(place)
    export.port()
    assert PASSPHRASE not in seen_from_outside(export.process)
    take(place, export, passphrase=PASSPHRASE)
    export.wait()


def test_an_exporter_takes_little_from_its_surroundings(place, monkeypatch):
    monkeypatch.setenv("SSLKEYLOGFILE", str(place / "session-keys"))
    monkeypatch.setenv("GRPC_VERBOSITY", "debug")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    export = exporting(place)
    export.port()
    names = {line.partition(b"=")[0] for line in Path(f"/proc/{export.process.pid}/environ").read_bytes().split(b"\0")}
    assert not names & {b"SSLKEYLOGFILE", b"GRPC_VERBOSITY", b"PYTHONPATH", b"HOME"}
    take(place, export)
    export.wait()
    assert not (place / "session-keys").exists()


def test_a_closed_grant_is_refused_before_anything_listens(place):
    export = exporting(place)
    take(place, export)
    export.wait()
    again = exporting(place).wait(expect=11)
    assert "new request" in again.stderr
    assert "listening" not in again.stderr


def test_a_grant_that_is_denied_meanwhile_ends_the_export_without_a_receipt(place):
    export = exporting(place)
    export.port()
    open_ledger(place / "keys").deny(SITE.grant, now_s=0)
    assert "ended without a receipt (denied)" in export.wait(expect=11).stderr
    assert outbox(place) == []


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ((), "either --listen"),
        (("--listen", "127.0.0.1:0", "--file", "x"), "either --listen"),
        (("--file", "x", "--request", "other.request"), "exactly one --request"),
    ],
)
def test_what_does_not_go_together_is_a_matter_of_usage(place, monkeypatch, more, said):
    monkeypatch.chdir(place)
    result = cli.source(*words(place, *more))
    assert result.code == 2
    assert said in result.refusal()


def test_a_model_without_a_request_is_a_matter_of_usage(place):
    result = cli.source("export", "--model", place / "run", "--keys", place / "keys", "--listen", "127.0.0.1:0")
    assert result.code == 2
    assert "--model and --request together" in result.refusal()


def test_a_file_of_one_request_is_told_to_machines_and_closed_by_hand(place):
    result = cli.source(*words(place, "--file", place / "model.ecsl", "--format", "json"))
    assert result.code == 0, result.stderr
    (one,) = result.json()["grants"]
    assert (one["closed"], one["state"]) == (False, "STREAMING")
    data = (place / "model.ecsl").read_bytes()
    (place / "receipt").write_bytes(receipt_of(data))
    program, *copied = shlex.split(result.stderr.splitlines()[-1].removeprefix("next: "))
    assert (program, copied[-1]) == ("ecan-source", "OUT.receipt")
    closed = cli.source(*copied[:-1], place / "receipt")
    assert (closed.code, "is closed" in closed.stderr) == (0, True)


def test_an_exporter_knows_neither_a_model_nor_how_to_sign_one():
    code = "import sys, source_site.release.exporter, source_site.release.server; print(sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True, env=os.environ
    ).stdout
    hidden = (
        "protocol.bundle.egress",
        "source_site.release.gate",
        "source_site.release.grant",
        "source_site.training.run_folder",
        "source_site.training.train",
    )
    for name in (*hidden, "torch", "safetensors", "ecan_core.audio", "ecan_core.data"):
        assert repr(name) not in loaded
