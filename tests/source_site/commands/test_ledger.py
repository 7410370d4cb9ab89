import contextlib
import json
import shutil
import sqlite3
from datetime import UTC, datetime

import pytest

from protocol.identity.key_files import load_server_identity
from protocol.ledger.grants import WINDOW_S, SealedFacts
from protocol.ledger.store import Ledger
from protocol.statements.offers import NO_HEAD, CheckpointFields, sign_checkpoint
from source_site.keys.folder import init_keys, open_ledger, outbox_file
from source_site.release.outbox import request_file
from source_site.release.rotation import rotate_keys
from tests.support import cli

GRANT, OTHER = bytes(range(16)), bytes(range(1, 17))
SITE = b"s" * 32
NOW = int(datetime.now(UTC).timestamp())


@pytest.fixture
def keys(tmp_path):
    init_keys(tmp_path / "keys")
    return tmp_path / "keys"


@pytest.fixture
def ledger(keys):
    return open_ledger(keys)


def issue(ledger: Ledger, grant=GRANT):
    facts = SealedFacts(sealed_sha256=b"d" * 32, size=1000, bundle_sha256=b"b" * 32, weights_sha256=b"w" * 32)
    return ledger.issue(grant, SITE, b"m" * 32, lambda release: facts, now_s=NOW)


def stream(ledger, grant=GRANT):
    issue(ledger, grant)
    ledger.open(grant, now_s=NOW)
    ledger.begin_fetch(grant, now_s=NOW)
    ledger.lease(grant, 640, now_s=NOW)


def edit(ledger, sql):
    with contextlib.closing(sqlite3.connect(ledger._path)) as db:
        for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
            db.execute(f"DROP TRIGGER {name}")
        db.execute(sql)
        db.commit()


@pytest.fixture
def checkpoint(keys, ledger, tmp_path):
    """What a target keeps: where the ledger stood when its receipt was taken."""
    stream(ledger)
    ledger.close(GRANT, b"receipt", now_s=NOW)
    return write_checkpoint(keys, ledger, tmp_path / "site.checkpoint")


def write_checkpoint(keys, ledger, path, *, seen=0, seen_head=NO_HEAD):
    head = ledger.head()
    fields = CheckpointFields(
        grant=GRANT, seq=head.seq, head=head.digest, seen=seen, seen_head=seen_head, day=NOW // 86_400
    )
    path.write_bytes(sign_checkpoint(fields, load_server_identity(keys).online_key))
    return path


# ledger list


def test_an_empty_ledger_has_nothing_to_list(keys):
    listed = cli.source("ledger", "list", "--keys", keys)
    assert (listed.code, listed.stdout) == (0, "")
    assert cli.source("ledger", "list", "--keys", keys, "--format", "json").json() == []


def test_the_list_says_how_far_each_grant_has_come_and_what_has_left(keys, ledger):
    stream(ledger)
    issue(ledger, OTHER)
    head, first, second = cli.source("ledger", "list", "--keys", keys).stdout.splitlines()
    ends = datetime.fromtimestamp(NOW + WINDOW_S, UTC).strftime("%Y-%m-%d %H:%M UTC")
    assert head.split() == ["release", "grant", "site", "state", "sent/size", "fetches", "window", "ends"]
    assert first.split() == ["1", GRANT.hex(), SITE.hex()[:8], "STREAMING", "640/1000", "1", *ends.split()]
    assert second.split() == ["1", OTHER.hex(), SITE.hex()[:8], "ISSUED", "0/1000", "0", "-"]


def test_the_list_for_machines_has_everything_that_is_known_but_the_receipt(keys, ledger):
    stream(ledger)
    (row,) = cli.source("ledger", "list", "--keys", keys, "--format", "json").json()
    expected = {
        "release": 1,
        "grant": GRANT.hex(),
        "audience": SITE.hex(),
        "state": "STREAMING",
        "sha256": (b"d" * 32).hex(),
        "bytes": 1000,
        "bundle_sha256": (b"b" * 32).hex(),
        "sent_bytes": 640,
        "fetches": 1,
        "expires_s": NOW + WINDOW_S,
    }
    assert row.items() >= expected.items()


# ledger verify


def test_a_ledger_that_holds_is_said_to_hold(keys, ledger):
    stream(ledger)
    head = ledger.head()
    verified = cli.source("ledger", "verify", "--keys", keys)
    assert verified.code == 0
    assert verified.stdout == f"the ledger holds: 3 lines, the last one is {head.digest.hex()}\n"
    told = cli.source("ledger", "verify", "--keys", keys, "--format", "json").json()
    assert told == {"lines": 3, "head": head.digest.hex(), "checkpoint": None}


def test_a_folder_without_a_ledger_is_named(tmp_path):
    listed = cli.source("ledger", "list", "--keys", tmp_path)
    assert listed.code == 16
    assert f"{tmp_path} holds no ledger; name the source's keys folder" in listed.refusal()


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(
    "sql", ["UPDATE grants SET audience = zeroblob(32)", "DELETE FROM entries WHERE seq = 2", "SELECT 1"]
)
def test_a_ledger_that_was_changed_is_refused_and_never_said_to_hold(keys, ledger, sql, form):
    stream(ledger)
    edit(ledger, sql)
    verified = cli.source("ledger", "verify", "--keys", keys, "--format", form)
    assert verified.code == 16
    assert "changed from outside" in verified.refusal()
    assert verified.stdout == ""


def test_a_missing_ledger_does_not_hold(keys, ledger):
    shutil.rmtree(keys / "ledger")
    verified = cli.source("ledger", "verify", "--keys", keys)
    assert verified.code == 16
    assert "backup" in verified.refusal()


def test_a_ledger_that_goes_on_holds_an_earlier_checkpoint(keys, ledger, checkpoint):
    issue(ledger, OTHER)
    verified = cli.source("ledger", "verify", "--keys", keys, "--checkpoint", checkpoint)
    assert verified.code == 0
    assert verified.stdout.splitlines()[1] == "it holds line 4 of the checkpoint"
    told = cli.source("ledger", "verify", "--keys", keys, "--checkpoint", checkpoint, "--format", "json").json()
    assert (told["lines"], told["checkpoint"]) == (5, 4)


def test_a_checkpoint_outlives_a_rotation_of_the_keys(keys, ledger, checkpoint):
    rotate_keys(keys, now=datetime.now(UTC))
    rotate_keys(keys, now=datetime.now(UTC))
    assert cli.source("ledger", "verify", "--keys", keys, "--checkpoint", checkpoint).code == 0


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_ledger_that_was_put_back_to_an_earlier_day_is_found_by_a_checkpoint(keys, ledger, tmp_path, form):
    issue(ledger)
    with contextlib.closing(sqlite3.connect(ledger._path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    yesterday = ledger._path.read_bytes()
    ledger.carry(GRANT, now_s=NOW)
    ledger.close(GRANT, b"receipt", now_s=NOW)
    checkpoint = write_checkpoint(keys, ledger, tmp_path / "site.checkpoint")
    for name in ("ledger.sqlite-wal", "ledger.sqlite-shm"):
        (keys / "ledger" / name).unlink()
    ledger._path.unlink()
    ledger._path.write_bytes(yesterday)
    assert cli.source("ledger", "verify", "--keys", keys).code == 0
    verified = cli.source("ledger", "verify", "--keys", keys, "--checkpoint", checkpoint, "--format", form)
    assert verified.code == 16
    assert "line 3 of the checkpoint" in verified.refusal()
    assert verified.stdout == ""


def test_a_source_that_signed_a_line_which_its_ledger_does_not_hold_is_found_out(keys, ledger, checkpoint, tmp_path):
    """A server can say what it likes of an earlier line, but not without signing it."""
    told = write_checkpoint(keys, ledger, tmp_path / "told.checkpoint", seen=2, seen_head=b"x" * 32)
    verified = cli.source("ledger", "verify", "--keys", keys, "--checkpoint", told)
    assert verified.code == 16
    assert "line 2 of the checkpoint" in verified.refusal()
    true = write_checkpoint(keys, ledger, tmp_path / "true.checkpoint", seen=2, seen_head=ledger.digest_at(2))
    assert cli.source("ledger", "verify", "--keys", keys, "--checkpoint", true).code == 0


def test_the_checkpoint_of_another_source_is_refused(keys, ledger, tmp_path):
    init_keys(tmp_path / "other")
    foreign = open_ledger(tmp_path / "other")
    stream(foreign)
    checkpoint = write_checkpoint(tmp_path / "other", foreign, tmp_path / "site.checkpoint")
    verified = cli.source("ledger", "verify", "--keys", keys, "--checkpoint", checkpoint)
    assert verified.code == 10
    assert verified.stdout == ""


def test_a_file_that_is_no_checkpoint_is_refused(keys, tmp_path):
    (tmp_path / "note").write_text("hello")
    verified = cli.source("ledger", "verify", "--keys", keys, "--checkpoint", tmp_path / "note")
    assert verified.code == 12
    assert verified.stdout == ""


# deny


def test_a_grant_is_taken_back_together_with_its_sealed_bundle_and_again_without_harm(keys, ledger):
    stream(ledger)
    outbox_file(keys, GRANT).write_bytes(b"sealed")
    request_file(keys, GRANT).write_bytes(b"request")
    denied = cli.source("deny", "--keys", keys, "--grant", GRANT.hex())
    assert denied.code == 0
    assert "is denied: no further byte leaves" in denied.stderr
    assert list((keys / "outbox").iterdir()) == []
    outbox_file(keys, GRANT).write_bytes(b"left by a crash")
    assert cli.source("deny", "--keys", keys, "--grant", GRANT.hex().upper(), "--quiet").stderr == ""
    assert not outbox_file(keys, GRANT).exists()
    assert [
        row["state"] for row in json.loads(cli.source("ledger", "list", "--keys", keys, "--format", "json").stdout)
    ] == ["DENIED"]


def test_an_unknown_grant_is_refused(keys, ledger):
    issue(ledger)
    denied = cli.source("deny", "--keys", keys, "--grant", OTHER.hex())
    assert denied.code == 11
    assert "ecan-source ledger list" in denied.refusal()


def test_a_delivered_grant_cannot_be_taken_back(keys, ledger):
    stream(ledger)
    ledger.close(GRANT, b"receipt", now_s=NOW)
    denied = cli.source("deny", "--keys", keys, "--grant", GRANT.hex())
    assert denied.code == 11
    assert "revoke" in denied.refusal()


@pytest.mark.parametrize("digits", ["", "00", "g" * 32, "0" * 31, "0" * 33, "0" * 32 + "\n", "0x" + "0" * 30])
def test_what_is_no_grant_is_a_usage_error(keys, digits):
    assert cli.source("deny", "--keys", keys, "--grant", digits).code == 2
