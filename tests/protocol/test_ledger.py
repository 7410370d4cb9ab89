import sqlite3
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from protocol.errors import Code, Refused, StorageFault
from protocol.ledger import GrantState, Ledger

GRANT, OTHER = b"g" * 16, b"h" * 16
DIGEST = b"d" * 32
TODAY = 20_500


@pytest.fixture
def ledger(tmp_path):
    return Ledger.create(tmp_path / "ledger.sqlite")


def states(path):
    with sqlite3.connect(path) as db:
        rows = db.execute("SELECT state FROM entries ORDER BY seq").fetchall()
    db.close()
    return [state for (state,) in rows]


def never(release):
    raise AssertionError("sealed twice")


def test_a_grant_goes_from_reserved_to_closed_and_each_step_is_written_down(ledger, tmp_path):
    record = ledger.reserve(GRANT, lambda release: DIGEST, TODAY)
    assert (record.state, record.release, record.digest) == (GrantState.RESERVED, 1, DIGEST)
    ledger.start(GRANT, TODAY)
    assert ledger.find(GRANT).state is GrantState.STREAMING
    ledger.close(GRANT, b"receipt", TODAY)
    assert ledger.find(GRANT).state is GrantState.CLOSED
    assert ledger.find(GRANT).receipt == b"receipt"
    assert states(tmp_path / "ledger.sqlite") == ["RESERVED", "STREAMING", "CLOSED"]


def test_a_grant_is_bound_to_its_first_bundle_for_good(ledger):
    first = ledger.reserve(GRANT, lambda release: DIGEST, TODAY)
    assert ledger.reserve(GRANT, never, TODAY + 1) == first


def test_every_grant_gets_the_next_release_number(ledger):
    releases = [ledger.reserve(bytes([index]) * 16, lambda _: DIGEST, TODAY).release for index in range(3)]
    assert releases == [1, 2, 3]


def test_all_grants_are_listed_in_the_order_of_their_releases(ledger):
    grants = [bytes([9 - index]) * 16 for index in range(3)]
    reserved = tuple(ledger.reserve(grant, lambda _: DIGEST, TODAY) for grant in grants)
    assert ledger.records() == reserved


def test_a_seal_that_fails_leaves_the_grant_and_the_number_free(ledger):
    def refuse(release):
        raise Refused(Code.EGRESS, "no")

    with pytest.raises(Refused):
        ledger.reserve(GRANT, refuse, TODAY)
    assert ledger.find(GRANT) is None
    assert ledger.reserve(OTHER, lambda release: DIGEST, TODAY).release == 1


def test_exports_at_once_seal_one_bundle(ledger):
    digests = [bytes([index]) * 32 for index in range(8)]
    with ThreadPoolExecutor(8) as pool:
        records = list(pool.map(lambda digest: ledger.reserve(GRANT, lambda _: digest, TODAY), digests))
    assert len({record.digest for record in records}) == 1


def test_nothing_starts_after_the_receipt(ledger):
    ledger.reserve(GRANT, lambda release: DIGEST, TODAY)
    ledger.start(GRANT, TODAY)
    ledger.close(GRANT, b"receipt", TODAY)
    with pytest.raises(Refused) as caught:
        ledger.start(GRANT, TODAY)
    assert caught.value.code is Code.STATE


def test_to_start_again_is_to_resume_and_is_written_down_once(ledger, tmp_path):
    ledger.reserve(GRANT, lambda release: DIGEST, TODAY)
    ledger.start(GRANT, TODAY)
    ledger.start(GRANT, TODAY)
    assert states(tmp_path / "ledger.sqlite") == ["RESERVED", "STREAMING"]


def test_the_first_receipt_stays(ledger):
    ledger.reserve(GRANT, lambda release: DIGEST, TODAY)
    ledger.start(GRANT, TODAY)
    ledger.close(GRANT, b"first", TODAY)
    ledger.close(GRANT, b"second", TODAY)
    assert ledger.find(GRANT).receipt == b"first"


def test_a_receipt_before_the_first_byte_is_refused(ledger):
    ledger.reserve(GRANT, lambda release: DIGEST, TODAY)
    with pytest.raises(Refused) as caught:
        ledger.close(GRANT, b"receipt", TODAY)
    assert caught.value.code is Code.PROTOCOL


@pytest.mark.parametrize("call", [lambda book: book.start(GRANT, 1), lambda book: book.close(GRANT, b"r", 1)])
def test_an_unknown_grant_is_refused(ledger, call):
    with pytest.raises(Refused) as caught:
        call(ledger)
    assert caught.value.code is Code.GRANT


def test_the_ledger_file_says_that_changes_go_to_a_log_first(ledger, tmp_path):
    wal = bytes([2, 2])
    assert (tmp_path / "ledger.sqlite").read_bytes()[18:20] == wal


def test_a_missing_ledger_is_a_fault_and_not_a_fresh_start(tmp_path):
    with pytest.raises(StorageFault, match="backup"):
        Ledger(tmp_path / "ledger.sqlite").reserve(GRANT, never, TODAY)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_ledger_is_a_fault(ledger, tmp_path):
    (tmp_path / "ledger.sqlite").write_bytes(b"not a database" * 1000)
    with pytest.raises(StorageFault) as caught:
        ledger.find(GRANT)
    assert caught.value.code is Code.LEDGER


def test_to_create_a_ledger_that_is_there_changes_nothing(ledger, tmp_path):
    ledger.reserve(GRANT, lambda release: DIGEST, TODAY)
    assert Ledger.create(tmp_path / "ledger.sqlite").find(GRANT) is not None


def test_a_ledger_is_for_its_owner_alone(ledger, tmp_path):
    ledger.reserve(GRANT, lambda release: DIGEST, TODAY)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


@pytest.mark.parametrize("change", ["UPDATE entries SET day = 0", "DELETE FROM entries"])
def test_what_is_written_down_stays(ledger, tmp_path, change):
    ledger.reserve(GRANT, lambda release: DIGEST, TODAY)
    with sqlite3.connect(tmp_path / "ledger.sqlite") as db, pytest.raises(sqlite3.IntegrityError):
        db.execute(change)
    db.close()


KILLED_BEFORE_COMMIT = """
import os, signal, sys
from pathlib import Path
from protocol.ledger import Ledger
def seal(release):
    Path(sys.argv[2]).write_bytes(b"sealed")
    os.kill(os.getpid(), signal.SIGKILL)
Ledger(Path(sys.argv[1])).reserve(b"g" * 16, seal, 1)
"""


def test_a_kill_while_sealing_leaves_the_grant_free(ledger, tmp_path):
    arguments = [str(tmp_path / "ledger.sqlite"), str(tmp_path / "sealed")]
    killed = subprocess.run([sys.executable, "-c", KILLED_BEFORE_COMMIT, *arguments], check=False)
    assert killed.returncode == -9
    assert (tmp_path / "sealed").exists()
    assert ledger.find(GRANT) is None
    assert ledger.reserve(GRANT, lambda release: DIGEST, TODAY).release == 1


FULL_DISK = """
import resource, sys
from pathlib import Path
from protocol.errors import StorageFault
from protocol.ledger import Ledger
resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
try:
    Ledger(Path(sys.argv[1])).reserve(b"g" * 16, lambda release: b"d" * 32, 1)
except StorageFault as fault:
    print(fault.code)
"""


def test_a_full_disk_at_the_commit_is_a_fault_and_reserves_nothing(ledger, tmp_path):
    arguments = [sys.executable, "-c", FULL_DISK, str(tmp_path / "ledger.sqlite")]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True)
    assert done.stdout == "LEDGER\n"
    assert ledger.find(GRANT) is None
