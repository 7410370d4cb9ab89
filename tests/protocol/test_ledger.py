import contextlib
import hashlib
import os
import random
import sqlite3
import stat
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from protocol.errors import Code, Refused, StorageFault
from protocol.ledger import (
    CLOCK_SLACK_S,
    MAX_FETCHES,
    QUOTA_FACTOR,
    WINDOW_S,
    GrantState,
    Head,
    Ledger,
    SealedFacts,
    ended_grant,
)

GRANT, OTHER = b"g" * 16, b"h" * 16
SITE, OTHER_SITE = b"s" * 32, b"t" * 32
MODEL, OTHER_MODEL = b"m" * 32, b"n" * 32
NOW = 20_500 * 86_400 + 7
SIZE = 1000
FACTS = SealedFacts(sealed_sha256=b"d" * 32, size=SIZE, bundle_sha256=b"b" * 32, weights_sha256=b"w" * 32)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def ledger(path):
    return Ledger.create(path)


def issue(ledger, grant=GRANT, *, audience=SITE, model=MODEL, seal=lambda release: FACTS, now_s=NOW):
    return ledger.issue(grant, audience, model, seal, now_s=now_s)


def stream(ledger, grant=GRANT):
    issue(ledger, grant)
    ledger.open(grant, now_s=NOW)
    return ledger.begin_fetch(grant, now_s=NOW)


def state(ledger, grant=GRANT):
    return ledger.find(grant).state


def never(release):
    raise AssertionError("sealed twice")


def refused(code, call, *arguments, **named):
    with pytest.raises(Refused) as caught:
        call(*arguments, **named)
    assert caught.value.code is code
    return str(caught.value)


@contextlib.contextmanager
def from_outside(path):
    """The file in the hands of another program."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous = OFF")
        yield db


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


def test_a_site_has_its_own_grants_and_no_others(ledger):
    mine, other, also_mine = (
        issue(ledger, bytes([index]) * 16, audience=audience) for index, audience in enumerate((SITE, OTHER_SITE, SITE))
    )
    assert ledger.granted_to(SITE) == (mine, also_mine)
    assert ledger.granted_to(OTHER_SITE) == (other,)
    assert ledger.granted_to(b"u" * 32) == ()


def test_a_seal_that_fails_leaves_the_grant_and_the_number_free(ledger):
    def refuse(release):
        raise Refused(Code.EGRESS, "no")

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
        except Refused:
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


@pytest.mark.parametrize("ended", [state for state in GrantState if state.has_ended])
def test_each_end_has_a_sentence_with_the_remedy(ended):
    assert ended_grant(ended).code is Code.STATE
    assert "new request" in str(ended_grant(ended))


# The chain.


def test_an_empty_ledger_holds(ledger):
    assert ledger.verify() == ledger.head()
    assert ledger.head().seq == 0


def test_the_head_is_the_hash_of_all_lines(ledger, path):
    stream(ledger)
    digest = hashlib.sha256(b"ecan/ledger/v1").digest()
    with from_outside(path) as db:
        lines = db.execute("SELECT record FROM entries ORDER BY seq").fetchall()
    for (line,) in lines:
        digest = hashlib.sha256(digest + line).digest()
    assert ledger.head() == Head(seq=3, digest=digest)


def test_a_ledger_holds_while_others_write_to_it(ledger, path):
    with ThreadPoolExecutor(3) as pool:
        written = pool.map(lambda index: stream(Ledger(path), bytes([index]) * 16), range(40))
        seen = [Ledger(path).verify().seq for _ in range(40)]
        assert len(list(written)) == 40
    assert seen == sorted(seen)
    assert ledger.verify().seq == 120


def test_counters_are_not_in_the_chain_and_this_is_known(ledger, path):
    stream(ledger)
    ledger.lease(GRANT, 5, now_s=NOW)
    head = ledger.head()
    ledger.lease(GRANT, 5, now_s=NOW)
    ledger.begin_fetch(GRANT, now_s=NOW)
    assert ledger.verify() == head
    with from_outside(path) as db:
        db.execute("DROP TRIGGER counters_only_rise")
        db.execute("UPDATE grants SET sent_bytes = 0")
        db.execute(schema_of("counters_only_rise"))
    assert ledger.verify() == head


def schema_of(name):
    """How something of the ledger was made."""
    from protocol import ledger as module

    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        db.executescript(module._SCHEMA)
        return db.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (name,)).fetchone()[0]


def lived_in(path):
    """A ledger with a grant in every state, two models and two sites."""
    ledger = Ledger.create(path)
    grants = [bytes([index]) * 16 for index in range(6)]
    for index, grant in enumerate(grants):
        facts = replace(FACTS, sealed_sha256=bytes([index]) * 32)
        site, model = (SITE, OTHER_SITE)[index % 2], (MODEL, OTHER_MODEL)[index % 2]
        ledger.issue(grant, site, model, lambda release, facts=facts: facts, now_s=NOW)
    for grant in grants[1:]:
        ledger.open(grant, now_s=NOW)
    for grant in grants[2:]:
        ledger.begin_fetch(grant, now_s=NOW)
    ledger.close(grants[3], b"receipt", now_s=NOW)
    ledger.deny(grants[4], now_s=NOW)
    refused(Code.STATE, ledger.open, grants[5], now_s=NOW + WINDOW_S)
    ledger.verify()
    return ledger


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """The file of a ledger that lived."""
    path = tmp_path_factory.mktemp("lived") / "ledger.sqlite"
    lived_in(path)
    with from_outside(path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path.read_bytes()


@pytest.fixture
def old(path, original):
    path.write_bytes(original)
    return Ledger(path)


@contextlib.contextmanager
def tampering(path):
    """The file in the hands of someone who takes the triggers away, and puts them back afterwards."""
    with from_outside(path) as db:
        db.execute("PRAGMA ignore_check_constraints = ON")
        db.execute("BEGIN")
        triggers = db.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            db.execute(f"DROP TRIGGER {name}")
        yield db
        for _, sql in triggers:
            db.execute(sql)
        db.execute("COMMIT")


def found_by(ledger):
    with pytest.raises(StorageFault) as caught:
        ledger.verify()
    assert caught.value.code is Code.LEDGER
    assert "restore" in str(caught.value)
    return str(caught.value)


def test_a_ledger_with_a_grant_in_every_state_holds(old, path):
    assert [record.state for record in old.records()] == list(GrantState)
    with tampering(path):
        pass
    old.verify()


BYTES = {1: lambda old: old[:-1] + bytes([old[-1] ^ 1]), 2: lambda old: b"", 3: lambda old: old + b"\0"}
NUMBERS = {1: lambda old: old + 100, 2: lambda old: -old, 3: lambda old: old + 2**40}
CHANGES = {
    "grants": {
        "issued": NUMBERS,
        "grant": BYTES,
        "audience": BYTES,
        "release": {1: lambda old: 3 - old, 2: lambda old: 0},
        "state": {state: lambda old, state=state: state for state in GrantState},
        "sealed_sha256": BYTES,
        "size": NUMBERS,
        "bundle_sha256": BYTES,
        "weights_sha256": BYTES,
        "expires_s": {1: lambda old: (old or NOW) + 1, 2: lambda old: NOW if old is None else None},
        "receipt": {1: lambda old: b"another" if old else b"forged", 2: lambda old: None},
    },
    "releases": {"release": NUMBERS, "model": BYTES},
    "entries": {"seq": NUMBERS, "record": BYTES, "hash": BYTES},
}


@pytest.mark.parametrize(
    ("table", "column", "change"),
    [(table, column, key) for table, columns in CHANGES.items() for column, keys in columns.items() for key in keys],
)
def test_every_change_of_a_value_is_found(old, original, path, tmp_path, table, column, change):
    with from_outside(path) as db:
        rows = db.execute(f"SELECT rowid, {column} FROM {table}").fetchall()
    changed = 0
    for index, (rowid, value) in enumerate(rows):
        new = CHANGES[table][column][change](value)
        if new == value:
            continue
        copy = tmp_path / f"{index}.sqlite"
        copy.write_bytes(original)
        with tampering(copy) as db:
            db.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (new, rowid))
        found_by(Ledger(copy))
        changed += 1
    assert changed > 0


def test_every_column_but_the_counters_is_changed_in_the_test_above(ledger, path):
    with from_outside(path) as db:
        columns = {
            table: {row[1] for row in db.execute(f"PRAGMA table_info({table})")}
            for (table,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
        }
    columns["grants"] -= {"fetches", "sent_bytes"}
    assert columns == {table: set(named) for table, named in CHANGES.items()}


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (
            "UPDATE entries SET record = CAST(replace(record, '0', '1') AS BLOB) WHERE seq = 3",
            "line 3 is not what was written",
        ),
        ("UPDATE entries SET record = CAST('{}' AS BLOB) WHERE seq = 2", "line 2 is not what was written"),
        ("DELETE FROM entries WHERE seq = 2", "line 2 is missing"),
        ("DELETE FROM entries WHERE seq = 1", "line 1 is missing"),
        (
            "UPDATE entries SET record = (SELECT record FROM entries other WHERE other.seq = 12 - entries.seq) "
            "WHERE seq IN (5, 7)",
            "line 5 is not what was written",
        ),
        ("INSERT INTO entries SELECT seq + 1, record, hash FROM entries ORDER BY seq DESC LIMIT 1", "is not what"),
        ("DELETE FROM entries WHERE seq = (SELECT MAX(seq) FROM entries)", "the row of grant 0505"),
        ("DELETE FROM entries", "no line issued"),
        ("DELETE FROM grants WHERE state = 'DENIED'", "the row of grant 0404"),
        ("DELETE FROM grants", "the row of grant 0000"),
        ("UPDATE grants SET state = 'RESERVED' WHERE state = 'STREAMING'", "the row of grant 0202"),
        ("UPDATE grants SET sent_bytes = 3001 WHERE state = 'STREAMING'", "the file is damaged"),
        ("UPDATE grants SET fetches = -1 WHERE state = 'STREAMING'", "the file is damaged"),
        ("DELETE FROM releases WHERE release = 2", "the numbers of the releases"),
        ("INSERT INTO releases VALUES (3, zeroblob(32))", "the numbers of the releases"),
        (
            "INSERT INTO grants SELECT 99, randomblob(16), audience, release, state, sealed_sha256, size, "
            "bundle_sha256, weights_sha256, NULL, 0, 0, NULL FROM grants WHERE state = 'ISSUED'",
            "no line issued the grant",
        ),
    ],
)
def test_the_first_wrong_line_or_row_is_named(old, path, edit, words):
    with tampering(path) as db:
        db.execute(edit)
    assert words in found_by(old)


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
        "DROP INDEX grants_by_audience",
        "CREATE TABLE notes (note TEXT)",
        "CREATE TRIGGER later AFTER UPDATE ON grants BEGIN UPDATE grants SET sent_bytes = 0; END",
        "ALTER TABLE grants ADD COLUMN note TEXT",
        "PRAGMA user_version = 2",
    ],
)
def test_a_change_of_the_tables_or_triggers_is_found(old, path, edit):
    with from_outside(path) as db:
        db.execute(edit)
    assert "tables, constraints or triggers" in found_by(old)


def rewrite(path, change):
    """Change the lines and hash them all anew, as one who has read this code would."""
    with tampering(path) as db:
        lines = [line for (line,) in db.execute("SELECT record FROM entries ORDER BY seq").fetchall()]
        db.execute("DELETE FROM entries")
        digest = hashlib.sha256(b"ecan/ledger/v1").digest()
        for seq, line in enumerate(change(lines), 1):
            digest = hashlib.sha256(digest + line).digest()
            db.execute("INSERT INTO entries VALUES (?, ?, ?)", (seq, line, digest))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: [*lines, b"{}"], "line 19 was never written by this program"),
        (lambda lines: [*lines, b'{"event":"PAID"}'], "line 19 was never written"),
        (lambda lines: [*lines, b'{"event":["ISSUED"]}'], "line 19 was never written"),
        (lambda lines: [*lines, b"[" * 1000], "line 19 was never written"),
        (lambda lines: [*lines, b"\xff"], "line 19 was never written"),
        (lambda lines: [*lines, lines[0]], "it issues a grant again"),
        (lambda lines: [*lines, lines[7]], "line 19 was never written"),
        (lambda lines: lines[1:], "line 1 was never written by this program: its release does not"),
        (lambda lines: [lines[-1], *lines], "line 1 was never written by this program: it does not follow"),
        (lambda lines: [b" " + lines[0], *lines[1:]], "line 1 was never written"),
        (lambda lines: [lines[0].replace(b"20500", b"20501"), *lines[1:]], None),
    ],
)
def test_lines_that_were_hashed_anew_must_still_be_a_history(old, path, change, words):
    """What is a possible history cannot be told from the true one by the chain alone; see the checkpoints."""
    before = old.head()
    rewrite(path, change)
    if words is None:
        assert old.verify().seq == before.seq
        assert not old.contains(before.seq, before.digest)
    else:
        assert words in found_by(old)


def test_a_ledger_contains_every_head_that_it_ever_had_and_no_other(ledger):
    heads = [ledger.head()]
    for call in (issue, lambda book: book.open(GRANT, now_s=NOW), lambda book: book.deny(GRANT, now_s=NOW)):
        call(ledger)
        heads.append(ledger.head())
    assert [head.seq for head in heads] == [0, 1, 2, 3]
    for head in heads:
        assert ledger.contains(head.seq, head.digest)
        assert not ledger.contains(head.seq, bytes(32))
        assert not ledger.contains(head.seq + 1, head.digest)


def test_a_ledger_that_was_put_back_whole_is_only_told_by_a_head_seen_later(path):
    ledger = Ledger.create(path)
    issue(ledger)
    with from_outside(path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    yesterday = path.read_bytes()
    stream(ledger, OTHER)
    ledger.close(OTHER, b"receipt", now_s=NOW)
    later = ledger.head()
    del ledger
    path.write_bytes(yesterday)
    ledger = Ledger(path)
    assert ledger.verify().seq == 1
    assert not ledger.contains(later.seq, later.digest)


# The file.


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
    with pytest.raises(StorageFault, match="backup"):
        issue(Ledger(path), seal=never)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_a_fault(tmp_path):
    with pytest.raises(StorageFault, match="backup"):
        issue(Ledger(tmp_path / "none" / "ledger.sqlite"), seal=never)
    with pytest.raises(StorageFault, match="created"):
        Ledger.create(tmp_path / "none" / "ledger.sqlite")


def test_a_ledger_that_is_taken_away_or_replaced_while_in_use_is_a_fault(ledger, path):
    stream(ledger)
    path.rename(path.with_name("moved"))
    with pytest.raises(StorageFault) as caught:
        ledger.lease(GRANT, 1, now_s=NOW)
    assert caught.value.code is Code.LEDGER
    path.write_bytes(b"")
    with pytest.raises(StorageFault, match="another file"):
        ledger.lease(GRANT, 1, now_s=NOW)


def test_a_damaged_ledger_is_a_fault(ledger, path):
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(StorageFault) as caught:
        ledger.find(GRANT)
    assert caught.value.code is Code.LEDGER


def test_a_bit_that_rotted_is_found_or_changes_nothing_that_counts(old, original, tmp_path):
    def told(ledger):
        return [replace(record, fetches=0, sent_bytes=0) for record in ledger.records()]

    generator, found = random.Random(1), 0
    for _ in range(80):
        place = generator.randrange(100, len(original))
        copy = tmp_path / f"{place}.sqlite"
        copy.write_bytes(original[:place] + bytes([original[place] ^ 0x10]) + original[place + 1 :])
        try:
            Ledger(copy).verify()
        except StorageFault:
            found += 1
        else:  # a bit of unused space
            assert told(Ledger(copy)) == told(old)
    assert found > 10


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
from protocol.ledger import Ledger
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
from protocol.errors import StorageFault
from protocol.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
try:
    ledger.lease(b"g" * 16, 1, now_s=int(sys.argv[2]))
except StorageFault as fault:
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
