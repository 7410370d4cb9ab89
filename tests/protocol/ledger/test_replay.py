"""What `Ledger.verify` and `Ledger.contains` find in a file that was changed, and what they cannot find."""

import contextlib
import hashlib
import random
import sqlite3
from dataclasses import replace

import pytest

from protocol.errors import Code, FileError
from protocol.ledger.grants import WINDOW_S, GrantState
from protocol.ledger.replay import EMPTY, ForeignChangeError, Head, compare, replay
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
    from protocol.ledger import store as module

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
        "book": BYTES,
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
            "bundle_sha256, weights_sha256, book, NULL, 0, 0, NULL FROM grants WHERE state = 'ISSUED'",
            "no line issued the grant",
        ),
    ],
)
def test_the_first_wrong_line_or_row_is_named(old, path, edit, words):
    with tampering(path) as db:
        db.execute(edit)
    assert words in found_by(old)


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
        except FileError:
            found += 1
        else:  # a bit of unused space
            assert told(Ledger(copy)) == told(old)
    assert found > 10


# Without a file.


def lines_of(ledger, path):
    stream(ledger)
    with from_outside(path) as db:
        return db.execute("SELECT seq, record, hash FROM entries ORDER BY seq").fetchall()


def test_no_line_is_an_empty_history():
    history = replay([])
    assert (history.head, history.grants, history.releases) == (EMPTY, {}, {})
    compare(history, [], [])


def test_a_history_is_what_the_lines_say_and_stands_for_the_rows(ledger, path):
    history = replay(lines_of(ledger, path))
    record = replace(ledger.find(GRANT), fetches=0)
    assert history.head == ledger.head()
    assert history.releases == {MODEL: 1}
    assert [(rebuilt.issued, rebuilt.last, rebuilt.record) for rebuilt in history.grants.values()] == [(1, 3, record)]
    compare(history, [(1, ledger.find(GRANT))], [(MODEL, 1)])


@pytest.mark.parametrize(
    ("rows", "releases"),
    [
        (lambda record: [], [(MODEL, 1)]),
        (lambda record: [(2, record)], [(MODEL, 1)]),
        (lambda record: [(1, replace(record, size=1))], [(MODEL, 1)]),
        (lambda record: [(1, record), (2, replace(record, grant=OTHER))], [(MODEL, 1)]),
        (lambda record: [(1, record)], []),
        (lambda record: [(1, record)], [(MODEL, 2)]),
        (lambda record: [(1, record)], [(MODEL, 1), (OTHER_MODEL, 2)]),
    ],
)
def test_rows_that_the_lines_did_not_leave_are_found(ledger, path, rows, releases):
    history = replay(lines_of(ledger, path))
    with pytest.raises(ForeignChangeError):
        compare(history, rows(ledger.find(GRANT)), releases)
