"""Both sites as real processes: a bundle crosses once, whatever is killed on the way."""

import hashlib
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

import target_site.receiving.receive as receive_module
from protocol.identity.key_files import load_server_identity
from protocol.ledger.grants import GrantState
from protocol.ledger.store import Ledger
from protocol.statements.request import grant_id
from protocol.wire.address import parse_address
from source_site.keys.folder import init_keys, open_ledger, released_file
from source_site.release import exporter
from source_site.release.grant import Session, close_by_receipt, export_to_file, grant
from target_site.trust.request import write_request
from tests.source_site.training.runs import write_run
from tests.support import cli
from tests.support.cutting_proxy import CuttingProxy
from tests.support.loopback import needs_loopback
from tests.support.processes import ended, killed_at, preload, run, start
from tests.support.sites import TODAY

pytestmark = [pytest.mark.journey, needs_loopback]
preload(__name__)

KILLED = -9
NOW_S = TODAY * 86_400


@dataclass(frozen=True)
class Sites:
    """The two keys folders, a trained run and a request, as the commands leave them."""

    folder: Path
    trust: str

    @property
    def grant(self) -> bytes:
        return grant_id((self.folder / "site.request").read_bytes())

    @property
    def out(self) -> Path:
        return self.folder / "target" / "model.ecan"

    @property
    def outbox(self) -> Path:
        return self.folder / "source" / "outbox"

    def record(self):
        return open_ledger(self.folder / "source").find(self.grant)

    def state(self) -> GrantState | None:
        record = self.record()
        return record and record.state

    def exporting(self, *killed: object):
        """Start an export and wait for its address; without one, it has ended."""
        said = self.folder / f"said-{time.monotonic_ns()}"
        said.touch()
        process = start(*killed, export_quietly, self.folder, said)
        while process.is_alive():
            for line in said.read_text().splitlines():
                if line.startswith("listening on "):
                    return process, parse_address(line.split()[2])
            time.sleep(0.01)
        return process, None

    def receiving(self, source: object, out: Path | None = None) -> int:
        return run(receive_quietly, self.folder, str(source), self.trust, out or self.out)


def export_quietly(folder: Path, said: Path) -> None:
    def announce(sentence: str) -> None:
        with said.open("a") as file:
            file.write(sentence + "\n")

    keys = folder / "source"
    (record,) = grant(Session(run_dir=folder / "run", keys_dir=keys, now_s=NOW_S), [folder / "site.request"])
    identity = load_server_identity(keys)
    address = parse_address("127.0.0.1:0")
    records = exporter.export(keys, [record.grant], address, identity, announce=announce, timeout_s=15.0)
    exporter.require_receipts(records, 15.0)


def receive_quietly(folder: Path, source: str, trust: str, out: Path) -> None:
    receive_module.PAUSES_S = (0.02, 0.02)
    receive_module.receive(source, folder / "keys", trust, out, today=TODAY, announce=lambda _: None, timeout_s=15.0)


def new_sites(folder: Path) -> Sites:
    folder.mkdir(exist_ok=True)
    (folder / "target").mkdir()
    write_run(folder / "run")
    write_request(folder / "keys", folder / "site.request", today=TODAY)
    return Sites(folder, init_keys(folder / "source"))


@pytest.fixture
def sites(tmp_path):
    return new_sites(tmp_path)


def test_a_bundle_crosses_once_and_both_sides_know_it(sites):
    export, address = sites.exporting()
    assert sites.receiving(address) == 0
    assert ended(export) == 0
    assert sites.state() is GrantState.CLOSED
    record = sites.record()
    assert record.receipt == (sites.folder / "target" / "model.ecan.receipt").read_bytes()
    assert record.bundle_sha256 == hashlib.sha256(sites.out.read_bytes()).digest()


def test_what_the_target_keeps_of_the_ledger_is_what_the_source_reads(sites):
    export, address = sites.exporting()
    assert sites.receiving(address) == 0
    assert ended(export) == 0
    keys = sites.folder / "source"
    head = open_ledger(keys).head()
    (shown,) = cli.target("trust", "show", "--keys", sites.folder / "keys", "--format", "json").json()
    assert (shown["ledger_entry"], shown["ledger_head"]) == (head.seq, head.digest.hex())
    verify = ("ledger", "verify", "--keys", keys, "--checkpoint", shown["checkpoint"], "--format", "json")
    assert cli.source(*verify).json()["checkpoint"] == head.seq
    shutil.rmtree(keys / "ledger")
    (keys / "ledger").mkdir()
    Ledger.create(keys / "ledger" / "ledger.sqlite")  # written anew from its start
    assert cli.source(*verify).code == 16


def test_a_second_crossing_of_the_same_grant_is_refused_at_both_ends(sites):
    export, address = sites.exporting()
    assert sites.receiving(address) == 0
    assert ended(export) == 0
    again, nowhere = sites.exporting()
    assert (ended(again), nowhere) == (11, None)
    assert sites.receiving(address, sites.folder / "second.ecan") == 4
    assert not (sites.folder / "second.ecan").exists()
    assert sites.receiving(address) == 0  # the same command, whose work is done


@pytest.mark.parametrize("limit", [1_000, 5_000, 85_000, 124_000])
def test_a_source_that_is_killed_in_the_middle_goes_on_with_the_same_bytes(sites, limit):
    first, address = sites.exporting()
    sealed = sites.record().sealed_sha256
    proxy = CuttingProxy(address, [None, limit], until=lambda: first.kill() or True)
    with proxy.listening() as detour:
        assert sites.receiving(detour) == 4
    assert ended(first) == KILLED
    second, address = sites.exporting()
    assert sites.receiving(address) == 0
    assert ended(second) == 0
    assert sites.record().sealed_sha256 == sealed
    assert sites.out.read_bytes() == released_file(sites.folder / "source", sites.grant).read_bytes()


def test_a_source_that_is_killed_before_any_change_of_any_file_seals_one_bundle(tmp_path):
    for step in range(50):
        sites = new_sites(tmp_path / str(step))
        keys = sites.folder / "source"
        first, address = sites.exporting(killed_at, step, keys)
        if address is not None:
            first_exit = sites.receiving(address)
            first.join(10)
        if first.exitcode == 0:
            break
        assert ended(first) == KILLED
        before = sites.record()
        second, address = sites.exporting()
        if sites.state() is GrantState.CLOSED:
            assert ended(second) == 11
            assert first_exit == 0
        else:
            assert sites.receiving(address) == 0
            assert ended(second) == 0
        after = sites.record()
        assert before is None or before.sealed_sha256 == after.sealed_sha256
        assert sites.out.read_bytes() == released_file(keys, sites.grant).read_bytes()
        assert list(sites.outbox.glob("*.sealed")) == list(sites.outbox.glob("*.request")) == []
    assert step >= 5, "the steps were not seen"


def test_a_bundle_that_is_carried_by_hand_is_receipted_by_hand(sites):
    carried = sites.folder / "carried.ecan"
    keys, request = sites.folder / "source", sites.folder / "site.request"
    export_to_file(Session(run_dir=sites.folder / "run", keys_dir=keys, now_s=NOW_S), request, carried)
    assert sites.receiving(carried) == 0
    assert sites.state() is GrantState.STREAMING
    close_by_receipt(keys, request, sites.folder / "target" / "model.ecan.receipt", now_s=NOW_S)
    assert sites.state() is GrantState.CLOSED
