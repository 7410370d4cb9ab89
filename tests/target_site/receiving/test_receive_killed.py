"""`receive` is killed, and the same command run again ends as if nothing had happened."""

import hashlib
import threading
from pathlib import Path

import pytest

from protocol.errors import FileError
from protocol.identity.identities import Role
from protocol.wire.address import Address
from target_site.receiving.receive import open_accepted, receive
from target_site.trust.state import load_trust_state
from tests.support.processes import ended, killed_at, preload, run, start, with_file_size_limit
from tests.support.simulated_source import SimulatedSource
from tests.support.sites import TODAY, delivered_for, new_identity, new_site, sealed_for

SOURCE, SITE = new_identity(Role.SOURCE), new_site()
BUNDLE = sealed_for(SITE, SOURCE)
DATA = delivered_for(SITE, SOURCE, plain=BUNDLE)
KILLED = -9

preload(__name__)


def receive_quietly(address: Address | Path, keys: Path, out: Path, trust: str) -> None:
    receive(str(address), keys, trust, out, today=TODAY, announce=lambda _: None, timeout_s=15.0)


class Pausing(SimulatedSource):
    """Stands still at one moment, so that the target can be killed there."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.moment = ""
        self.reached = threading.Event()
        self.released = threading.Event()

    def pause_at(self, moment):
        if moment == self.moment:
            self.moment = ""
            self.reached.set()
            self.released.wait(15)

    def open(self, request):
        self.pause_at("open")
        return super().open(request)

    def fetch(self, request):
        for chunk in super().fetch(request):
            self.pause_at(f"chunk at {chunk.offset}")
            yield chunk
        self.pause_at("end of stream")

    def ack(self, request):
        self.pause_at("receipt")
        reply = super().ack(request)
        self.pause_at("reply to the receipt")
        return reply


@pytest.fixture
def keys(tmp_path_factory):
    return SITE.write(tmp_path_factory.mktemp("site") / "keys")


def command(address, keys, out):
    return (receive_quietly, address, keys, out, SOURCE.fingerprint.hex())


def visible(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def assert_received(out):
    assert out.read_bytes() == BUNDLE
    assert visible(out.parent) == ["model.ecan", "model.ecan.receipt"]
    assert open_accepted(out, keys_dir=None).digest == hashlib.sha256(BUNDLE).digest()


@pytest.mark.parametrize(
    ("moment", "fetches"),
    [
        ("open", [0]),
        ("chunk at 0", [0, 0]),
        ("chunk at 65536", [0, 65536]),
        ("end of stream", [0]),
        ("receipt", [0]),
        ("reply to the receipt", [0]),
    ],
)
def test_killed_while_the_source_is_at_any_moment(tmp_path, keys, moment, fetches):
    out = tmp_path / "model.ecan"
    source = Pausing(SOURCE, SITE.request, DATA)
    source.moment = moment
    with source.listening() as address:
        first = start(*command(address, keys, out))
        assert source.reached.wait(15)
        if moment == "chunk at 65536":
            wait_for_bytes(tmp_path / "model.ecan.partial", 65536)
        if moment == "end of stream":
            wait_for_bytes(tmp_path / "model.ecan.partial", len(DATA))
        first.kill()
        assert ended(first) == KILLED
        source.released.set()
        assert run(*command(address, keys, out)) == 0
    assert_received(out)
    assert source.fetches == fetches
    assert len(set(source.receipts)) == 1


def test_a_second_receive_to_the_same_place_is_refused_until_the_first_has_ended_or_is_killed(tmp_path, keys):
    out = tmp_path / "model.ecan"
    source = Pausing(SOURCE, SITE.request, DATA)
    source.moment = "chunk at 65536"
    with source.listening() as address:
        first = start(*command(address, keys, out))
        assert source.reached.wait(15)
        with pytest.raises(FileError, match=f"another receive is writing {out}; wait for it"):
            receive_quietly(address, keys, out, SOURCE.fingerprint.hex())
        assert run(*command(address, keys, out)) == 16
        first.kill()
        assert ended(first) == KILLED
        source.released.set()
        assert run(*command(address, keys, out)) == 0
    assert_received(out)


def wait_for_bytes(path, num_bytes):
    pause = threading.Event()
    for _ in range(1000):
        if path.exists() and path.stat().st_size >= num_bytes:
            return
        pause.wait(0.01)
    raise AssertionError("the bytes never arrived")


@pytest.mark.parametrize("by_file", [False, True], ids=["wire", "file"])
def test_killed_before_any_change_of_any_file(tmp_path, by_file):
    source = SimulatedSource(SOURCE, SITE.request, DATA)
    carried = tmp_path / "carried.sealed"
    carried.write_bytes(DATA)
    with source.listening() as address:
        for step in range(100):
            desk = tmp_path / str(step)
            keys, out = SITE.write(desk / "keys"), desk / "here" / "model.ecan"
            out.parent.mkdir()
            work = command(carried if by_file else address, keys, out)
            exit_code = run(killed_at, step, desk, *work)
            if exit_code == 0:
                break
            assert exit_code == KILLED
            assert not out.exists() or out.read_bytes() == BUNDLE
            kept = load_trust_state(keys).of(SOURCE.fingerprint)
            assert kept.release == 7 or not out.exists(), "a bundle is here that the memory does not know"
            assert run(*work) == 0
            assert_received(out)
            assert load_trust_state(keys).of(SOURCE.fingerprint).release == 7
            assert len(set(source.receipts)) <= 1
            source.receipts.clear()
    assert step >= 10, "the steps were not seen"


@pytest.mark.parametrize("max_bytes", [0, 50, 70_000, 100_000])
def test_a_full_disk_is_a_storage_fault_and_nothing_half_written_is_seen(tmp_path, keys, max_bytes):
    out = tmp_path / "model.ecan"
    with SimulatedSource(SOURCE, SITE.request, DATA).listening() as address:
        assert run(with_file_size_limit, max_bytes, *command(address, keys, out)) == 16
        assert not out.exists()
        assert run(*command(address, keys, out)) == 0
    assert_received(out)


def test_a_full_disk_stops_a_bundle_from_a_file_too(tmp_path, keys):
    carried = tmp_path / "carried.ecan"
    carried.write_bytes(DATA)
    (tmp_path / "here").mkdir()
    out = tmp_path / "here" / "model.ecan"
    assert run(with_file_size_limit, 1000, *command(carried, keys, out)) == 16
    assert not out.exists()
