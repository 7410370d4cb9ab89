import contextlib
import os
import sqlite3
import stat
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from protocol.errors import Code, FileError, RefusedError
from protocol.ledger.grants import CLOCK_SLACK_S, MAX_FETCHES, QUOTA_FACTOR, WINDOW_S, GrantState
from protocol.ledger.store import Ledger
from tests.protocol.ledger.ledgers import (
    FACTS,
    GRANT,
    MODEL,
    NOW,
    OTHER,
    OTHER_MODEL,
    OTHER_SITE,
    SITE,
    SIZE,
    found_by,
    from_outside,
    issue,
    refused,
    stream,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def ledger(path):
    return Ledger.create(path)


def state(ledger, grant=GRANT):
    return ledger.find(grant).state


def never(release):
    raise AssertionError("sealed twice")


def events(path):
    with from_outside(path) as db:
        return [event for (event,) in db.execute("SELECT json_extract(record, '$.event') FROM entries ORDER BY seq")]


# From issue to receipt.


def test_a_grant_goes_from_issued_to_closed_and_each_step_is_written_down(ledger, path):
    record = issue(ledger)
    assert (record.state, record.release, record.audience) == (GrantState.ISSUED, 1, SITE)
    assert (record.sealed_sha256, record.size) == (FACTS.sealed_sha256, SIZE)
    assert (record.bundle_sha256, record.weights_sha256) == (FACTS.bundle_sha256, FACTS.weights_sha256)
    opened = ledger.open(GRANT, now_s=NOW)
    assert (opened.state, opened.expires_s) == (GrantState.RESERVED, NOW + WINDOW_S)
    assert ledger.begin_fetch(GRANT, now_s=NOW).state is GrantState.STREAMING
    closed = ledger.close(GRANT, b"receipt", now_s=NOW)
    assert (closed.state, closed.receipt) == (GrantState.CLOSED, b"receipt")
    assert ledger.find(GRANT) == closed
    assert events(path) == ["ISSUED", "OPENED", "STARTED", "CLOSED"]
    assert ledger.verify() == ledger.head()


def test_a_grant_is_bound_to_its_first_bundle_for_good(ledger):
    first = issue(ledger)
    assert issue(ledger, audience=OTHER_SITE, model=OTHER_MODEL, seal=never, now_s=NOW + 1) == first


def test_every_model_gets_the_next_release_number_and_keeps_it(ledger):
    models = [MODEL, OTHER_MODEL, MODEL, b"o" * 32, OTHER_MODEL]
    grants = [bytes([index]) * 16 for index in range(5)]
    releases = [issue(ledger, grant, model=model).release for grant, model in zip(grants, models, strict=True)]
    assert releases == [1, 2, 1, 3, 2]
    ledger.verify()


def test_all_grants_are_listed_in_the_order_in_which_they_were_issued(ledger):
    issued = tuple(issue(ledger, bytes([9 - index]) * 16, model=bytes([index % 2]) * 32) for index in range(4))
    assert ledger.records() == issued


def test_a_seal_that_fails_leaves_the_grant_and_the_number_free(ledger):
    def refuse(release):
        raise RefusedError(Code.EGRESS, "no")

    refused(Code.EGRESS, issue, ledger, seal=refuse)
    assert ledger.find(GRANT) is None
    assert issue(ledger, OTHER, model=OTHER_MODEL).release == 1


def test_issues_at_once_seal_one_bundle(path):
    Ledger.create(path)
    sealed = []

    def seal(release):
        sealed.append(release)
        time.sleep(0.01)
        return replace(FACTS, sealed_sha256=os.urandom(32))

    with ThreadPoolExecutor(8) as pool:
        records = list(pool.map(lambda _: issue(Ledger(path), seal=seal), range(8)))
    assert sealed == [1]
    assert len(set(records)) == 1


def test_models_issued_at_once_get_different_numbers(ledger):
    with ThreadPoolExecutor(8) as pool:
        records = list(pool.map(lambda index: issue(ledger, bytes([index]) * 16, model=bytes([index]) * 32), range(8)))
    assert sorted(record.release for record in records) == list(range(1, 9))
    ledger.verify()


def test_bytes_go_on_leaving_while_another_bundle_is_sealed(ledger, path):
    stream(ledger)

    def seal(release):
        ledger.lease(GRANT, 1, now_s=NOW)
        Ledger(path).lease(GRANT, 1, now_s=NOW)
        return FACTS

    issue(ledger, OTHER, seal=seal)
    assert ledger.find(GRANT).sent_bytes == 2


# The window.


def test_the_window_starts_once(ledger, path):
    issue(ledger)
    first = ledger.open(GRANT, now_s=NOW)
    assert ledger.open(GRANT, now_s=NOW + 100) == first
    assert events(path) == ["ISSUED", "OPENED"]


@pytest.mark.parametrize("now_s", [NOW + WINDOW_S, NOW + 365 * WINDOW_S, NOW - CLOCK_SLACK_S - 1, 0])
@pytest.mark.parametrize(
    "call",
    [
        lambda book, now_s: book.open(GRANT, now_s=now_s),
        lambda book, now_s: book.begin_fetch(GRANT, now_s=now_s),
        lambda book, now_s: book.lease(GRANT, 1, now_s=now_s),
        lambda book, now_s: book.carry(GRANT, now_s=now_s),
    ],
    ids=["open", "begin_fetch", "lease", "carry"],
)
def test_outside_of_its_window_a_grant_expires_for_good_on_whichever_side_the_clock_is(ledger, path, call, now_s):
    stream(ledger)
    refused(Code.STATE, call, ledger, now_s)
    assert state(ledger) is GrantState.EXPIRED
    refused(Code.STATE, call, ledger, NOW)
    assert events(path)[-1] == "EXPIRED"
    ledger.verify()


def test_a_grant_that_nobody_fetched_expires_too(ledger):
    issue(ledger)
    ledger.open(GRANT, now_s=NOW)
    refused(Code.STATE, ledger.open, GRANT, now_s=NOW + WINDOW_S)
    assert state(ledger) is GrantState.EXPIRED


@pytest.mark.parametrize("now_s", [NOW - CLOCK_SLACK_S, NOW + WINDOW_S - 1])
def test_within_its_window_a_grant_is_served(ledger, now_s):
    stream(ledger)
    ledger.lease(GRANT, 1, now_s=now_s)
    assert ledger.begin_fetch(GRANT, now_s=now_s).fetches == 2


# The quota.


def test_bytes_are_counted_before_they_leave_and_stay_counted(ledger, path):
    stream(ledger)
    ledger.lease(GRANT, 700, now_s=NOW)
    ledger.lease(GRANT, 400, now_s=NOW)
    assert Ledger(path).find(GRANT).sent_bytes == 1100


def test_the_last_byte_of_the_quota_leaves_and_the_next_one_does_not(ledger):
    stream(ledger)
    ledger.lease(GRANT, QUOTA_FACTOR * SIZE, now_s=NOW)
    refused(Code.QUOTA, ledger.lease, GRANT, 1, now_s=NOW)
    assert ledger.find(GRANT).sent_bytes == QUOTA_FACTOR * SIZE
    assert state(ledger) is GrantState.EXPIRED
    refused(Code.STATE, ledger.lease, GRANT, 1, now_s=NOW)


def test_the_65th_fetch_is_refused_and_ends_the_grant(ledger, path):
    stream(ledger)
    for _ in range(MAX_FETCHES - 1):
        ledger.begin_fetch(GRANT, now_s=NOW)
    refused(Code.QUOTA, ledger.begin_fetch, GRANT, now_s=NOW)
    assert (state(ledger), ledger.find(GRANT).fetches) == (GrantState.EXPIRED, MAX_FETCHES)
    assert events(path) == ["ISSUED", "OPENED", "STARTED", "EXPIRED"]


def test_threads_at_once_never_lease_more_than_the_quota(ledger, path):
    stream(ledger)
    books = [ledger, Ledger(path)]

    def lease(index):
        try:
            books[index % 2].lease(GRANT, 100, now_s=NOW)
        except RefusedError:
            return 0
        return 100

    with ThreadPoolExecutor(8) as pool:
        leased = sum(pool.map(lease, range(60)))
    assert leased == ledger.find(GRANT).sent_bytes == QUOTA_FACTOR * SIZE


@pytest.mark.parametrize("num_bytes", [0, -1])
def test_a_lease_of_nothing_is_a_mistake_of_the_caller(ledger, num_bytes):
    stream(ledger)
    with pytest.raises(ValueError, match="one byte"):
        ledger.lease(GRANT, num_bytes, now_s=NOW)


# What is refused in which state.


def test_nothing_leaves_before_the_grant_is_opened(ledger):
    issue(ledger)
    refused(Code.PROTOCOL, ledger.begin_fetch, GRANT, now_s=NOW)
    refused(Code.STATE, ledger.lease, GRANT, 1, now_s=NOW)
    ledger.open(GRANT, now_s=NOW)
    refused(Code.STATE, ledger.lease, GRANT, 1, now_s=NOW)


def test_a_receipt_before_the_first_byte_is_refused(ledger):
    issue(ledger)
    refused(Code.PROTOCOL, ledger.close, GRANT, b"receipt", now_s=NOW)
    ledger.open(GRANT, now_s=NOW)
    refused(Code.PROTOCOL, ledger.close, GRANT, b"receipt", now_s=NOW)


def test_nothing_leaves_after_the_receipt(ledger):
    stream(ledger)
    ledger.close(GRANT, b"receipt", now_s=NOW)
    assert "new request" in refused(Code.STATE, ledger.open, GRANT, now_s=NOW)
    refused(Code.STATE, ledger.begin_fetch, GRANT, now_s=NOW)
    refused(Code.STATE, ledger.lease, GRANT, 1, now_s=NOW)
    refused(Code.STATE, ledger.carry, GRANT, now_s=NOW)
    assert "revoke" in refused(Code.STATE, ledger.deny, GRANT, now_s=NOW)


def test_open_grants_are_taken_back_together_and_those_that_have_ended_stay(ledger):
    stream(ledger)
    ledger.close(GRANT, b"receipt", now_s=NOW)
    others = [bytes([number]) * 16 for number in (1, 2)]
    for grant in others:
        issue(ledger, grant)
    assert ledger.deny_open(now_s=NOW, fits=lambda record: record.grant == GRANT) == ()
    (first,) = ledger.deny_open(now_s=NOW, fits=lambda record: record.grant == others[0])
    (second,) = ledger.deny_open(now_s=NOW)
    assert [(one.grant, one.state) for one in (first, second)] == [(grant, GrantState.DENIED) for grant in others]
    assert ledger.deny_open(now_s=NOW) == ()
    assert ledger.find(GRANT).state is GrantState.CLOSED
    ledger.verify()


def test_the_first_receipt_stays(ledger):
    stream(ledger)
    first = ledger.close(GRANT, b"first", now_s=NOW)
    assert ledger.close(GRANT, b"second", now_s=NOW) == first
    assert ledger.find(GRANT).receipt == b"first"


def test_a_receipt_proves_the_delivery_of_an_expired_grant(ledger):
    stream(ledger)
    refused(Code.STATE, ledger.open, GRANT, now_s=NOW + WINDOW_S)
    assert ledger.close(GRANT, b"late", now_s=NOW + WINDOW_S).state is GrantState.CLOSED
    ledger.verify()


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_a_grant_can_be_taken_back_until_it_is_delivered(ledger, steps):
    issue(ledger)
    for step in (ledger.open, ledger.begin_fetch)[:steps]:
        step(GRANT, now_s=NOW)
    denied = ledger.deny(GRANT, now_s=NOW)
    assert denied.state is GrantState.DENIED
    assert ledger.deny(GRANT, now_s=NOW) == denied
    for call in (ledger.open, ledger.begin_fetch, ledger.carry):
        assert "taken back" in refused(Code.STATE, call, GRANT, now_s=NOW)
    refused(Code.STATE, ledger.lease, GRANT, 1, now_s=NOW)
    refused(Code.STATE, ledger.close, GRANT, b"receipt", now_s=NOW)
    ledger.verify()


def test_an_expired_grant_need_not_be_taken_back(ledger):
    stream(ledger)
    refused(Code.STATE, ledger.open, GRANT, now_s=NOW + WINDOW_S)
    assert ledger.deny(GRANT, now_s=NOW).state is GrantState.EXPIRED


def test_a_file_that_is_carried_starts_no_window_and_is_written_down_once(ledger, path):
    issue(ledger)
    carried = ledger.carry(GRANT, now_s=NOW)
    assert (carried.state, carried.expires_s) == (GrantState.STREAMING, None)
    assert ledger.carry(GRANT, now_s=NOW + 9 * WINDOW_S) == carried
    assert events(path) == ["ISSUED", "STARTED"]
    refused(Code.PROTOCOL, ledger.begin_fetch, GRANT, now_s=NOW)
    refused(Code.STATE, ledger.lease, GRANT, 1, now_s=NOW)
    assert ledger.close(GRANT, b"receipt", now_s=NOW).state is GrantState.CLOSED


def test_a_carried_file_that_got_lost_may_follow_over_the_wire(ledger):
    issue(ledger)
    ledger.carry(GRANT, now_s=NOW)
    opened = ledger.open(GRANT, now_s=NOW)
    assert (opened.state, opened.expires_s) == (GrantState.STREAMING, NOW + WINDOW_S)
    ledger.begin_fetch(GRANT, now_s=NOW)
    ledger.lease(GRANT, SIZE, now_s=NOW)
    ledger.verify()


@pytest.mark.parametrize(
    "call",
    [
        lambda book: book.open(GRANT, now_s=NOW),
        lambda book: book.begin_fetch(GRANT, now_s=NOW),
        lambda book: book.lease(GRANT, 1, now_s=NOW),
        lambda book: book.carry(GRANT, now_s=NOW),
        lambda book: book.close(GRANT, b"receipt", now_s=NOW),
        lambda book: book.deny(GRANT, now_s=NOW),
    ],
    ids=["open", "begin_fetch", "lease", "carry", "close", "deny"],
)
def test_an_unknown_grant_is_refused(ledger, call):
    refused(Code.GRANT, call, ledger)


# The file.


def test_a_ledger_holds_while_others_write_to_it(ledger, path):
    with ThreadPoolExecutor(3) as pool:
        written = pool.map(lambda index: stream(Ledger(path), bytes([index]) * 16), range(40))
        seen = [Ledger(path).verify().seq for _ in range(40)]
        assert len(list(written)) == 40
    assert seen == sorted(seen)
    assert ledger.verify().seq == 120


@pytest.mark.parametrize(
    "edit",
    [
        *(
            f"DROP TRIGGER {name}"
            for name in (
                "entries_are_only_appended",
                "entries_are_never_changed",
                "entries_are_never_removed",
                "releases_are_never_changed",
                "releases_are_never_removed",
                "grants_are_bound",
                "grants_are_never_removed",
                "grants_that_ended_never_change",
                "counters_only_rise",
            )
        ),
        "CREATE INDEX grants_by_audience ON grants (state)",
        "CREATE TABLE notes (note TEXT)",
        "CREATE TRIGGER later AFTER UPDATE ON grants BEGIN UPDATE grants SET sent_bytes = 0; END",
        "ALTER TABLE grants ADD COLUMN note TEXT",
        "PRAGMA user_version = 3",
    ],
)
def test_a_change_of_the_tables_or_triggers_is_found(ledger, path, edit):
    stream(ledger)
    with from_outside(path) as db:
        db.execute(edit)
    assert "tables, constraints or triggers" in found_by(ledger)


def test_a_ledger_of_before_with_its_index_by_site_still_opens(ledger, path):
    with from_outside(path) as db:
        db.execute("CREATE INDEX IF NOT EXISTS grants_by_audience ON grants (audience)")
    stream(Ledger(path))
    Ledger(path).verify()


@pytest.mark.parametrize(
    "edit",
    [
        "UPDATE entries SET record = x'00'",
        "DELETE FROM entries",
        "INSERT OR REPLACE INTO entries VALUES (1, x'00', zeroblob(32))",
        "INSERT INTO entries VALUES (9, x'00', zeroblob(32))",
        "DELETE FROM grants",
        "UPDATE grants SET sealed_sha256 = zeroblob(32)",
        "UPDATE grants SET audience = zeroblob(32)",
        "UPDATE grants SET sent_bytes = 0",
        "UPDATE grants SET fetches = 65",
        "UPDATE grants SET sent_bytes = 3001",
        "UPDATE releases SET release = 7",
        "DELETE FROM releases",
    ],
)
def test_what_is_written_down_stays(ledger, path, edit):
    stream(ledger)
    ledger.lease(GRANT, 1, now_s=NOW)
    with from_outside(path) as db, pytest.raises(sqlite3.IntegrityError):
        db.execute(edit)
    ledger.verify()


def test_a_grant_that_was_closed_or_denied_is_never_changed(ledger, path):
    stream(ledger)
    ledger.deny(GRANT, now_s=NOW)
    with from_outside(path) as db, pytest.raises(sqlite3.IntegrityError, match="ended"):
        db.execute("UPDATE grants SET state = 'ISSUED'")


def test_the_ledger_file_says_that_changes_go_to_a_log_first(ledger, path):
    wal = bytes([2, 2])
    assert path.read_bytes()[18:20] == wal


def test_a_change_is_on_the_disk_before_the_next_step(ledger):
    """What no test of a killed process shows, for the system keeps its pages: the power may go as well."""
    with ledger._connection() as db:
        assert db.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_missing_ledger_is_a_fault_and_not_a_fresh_start(path, tmp_path):
    with pytest.raises(FileError, match="backup"):
        issue(Ledger(path), seal=never)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_a_fault(tmp_path):
    with pytest.raises(FileError, match="backup"):
        issue(Ledger(tmp_path / "none" / "ledger.sqlite"), seal=never)
    with pytest.raises(FileError, match="created"):
        Ledger.create(tmp_path / "none" / "ledger.sqlite")


def test_a_ledger_that_is_taken_away_or_replaced_while_in_use_is_a_fault(ledger, path):
    stream(ledger)
    path.rename(path.with_name("moved"))
    with pytest.raises(FileError) as caught:
        ledger.lease(GRANT, 1, now_s=NOW)
    assert caught.value.code is Code.LEDGER
    path.write_bytes(b"")
    with pytest.raises(FileError, match="another file"):
        ledger.lease(GRANT, 1, now_s=NOW)


def test_a_damaged_ledger_is_a_fault(ledger, path):
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(FileError) as caught:
        ledger.find(GRANT)
    assert caught.value.code is Code.LEDGER


def test_to_create_a_ledger_that_is_there_changes_nothing(ledger, path):
    issue(ledger)
    assert Ledger.create(path).find(GRANT) is not None


def test_a_ledger_is_for_its_owner_alone(ledger, tmp_path):
    issue(ledger)
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}


def test_a_ledger_that_is_dropped_leaves_one_file_and_no_open_connection(path, tmp_path):
    book = Ledger.create(path)
    issue(book)
    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(book.find, [GRANT] * 8))) == 8
    assert len(list(tmp_path.iterdir())) == 3
    del book
    assert list(tmp_path.iterdir()) == [path]


# Crashes.


KILLED_BEFORE_COMMIT = """
import os, signal, sys
from pathlib import Path
from protocol.ledger.store import Ledger
def seal(release):
    Path(sys.argv[2]).write_bytes(b"sealed")
    os.kill(os.getpid(), signal.SIGKILL)
Ledger(Path(sys.argv[1])).issue(b"g" * 16, b"s" * 32, b"m" * 32, seal, now_s=1)
"""


def test_a_kill_while_sealing_leaves_the_grant_free(ledger, path, tmp_path):
    arguments = [str(path), str(tmp_path / "sealed")]
    killed = subprocess.run([sys.executable, "-c", KILLED_BEFORE_COMMIT, *arguments], check=False)
    assert killed.returncode == -9
    assert (tmp_path / "sealed").exists()
    assert ledger.find(GRANT) is None
    assert issue(ledger).release == 1


FULL_DISK = """
import resource, sys
from pathlib import Path
from protocol.errors import FileError
from protocol.ledger.store import Ledger
ledger = Ledger(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
try:
    ledger.lease(b"g" * 16, 1, now_s=int(sys.argv[2]))
except FileError as fault:
    print(fault.code)
"""


def test_a_full_disk_at_the_commit_is_a_fault_and_lets_nothing_out(ledger, path):
    stream(ledger)
    arguments = [sys.executable, "-c", FULL_DISK, str(path), str(NOW)]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True)
    assert done.stdout == "LEDGER\n"
    assert ledger.find(GRANT).sent_bytes == 0
    ledger.verify()


def in_child(work):
    """Run something in a forked process that ends without any clean-up."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads of the test run do not concern it
        pid = os.fork()
    if pid == 0:  # pragma: no cover
        with contextlib.suppress(BaseException):
            work()
        os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 9


@pytest.mark.parametrize(
    ("step", "at"),
    [
        (step, at)
        for step, statements in {
            "issue": ("INSERT INTO entries", "INSERT INTO releases", "INSERT INTO grants", "COMMIT"),
            "begin_fetch": ("INSERT INTO entries", "UPDATE grants SET state", "UPDATE grants SET fetches", "COMMIT"),
            "close": ("INSERT INTO entries", "UPDATE grants SET state", "COMMIT"),
            "deny": ("INSERT INTO entries", "UPDATE grants SET state", "COMMIT"),
            "lease": ("UPDATE grants SET sent_bytes", "COMMIT"),
        }.items()
        for at in statements
    ],
)
def test_a_process_that_ends_in_the_middle_of_a_change_changes_nothing(path, step, at):
    ledger = Ledger.create(path)
    issue(ledger)
    ledger.open(GRANT, now_s=NOW)
    if step != "begin_fetch":
        ledger.begin_fetch(GRANT, now_s=NOW)
    before, head = ledger.records(), ledger.head()

    def work():
        book = Ledger(path)
        with book._connection() as db:
            db.set_trace_callback(lambda sql: os._exit(9) if sql.startswith(at) else None)
        calls = {
            "issue": lambda: issue(book, OTHER),
            "begin_fetch": lambda: book.begin_fetch(GRANT, now_s=NOW),
            "close": lambda: book.close(GRANT, b"receipt", now_s=NOW),
            "deny": lambda: book.deny(GRANT, now_s=NOW),
            "lease": lambda: book.lease(GRANT, 1, now_s=NOW),
        }
        calls[step]()

    in_child(work)
    assert Ledger(path).records() == ledger.records() == before
    assert ledger.verify() == head
