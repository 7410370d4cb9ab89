"""A source hands over to new keys, and is found whole however it was interrupted."""

import fcntl
import os
import shutil
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from protocol.errors import Code, FileError, KeyFileError, RefusedError
from protocol.identity import signing
from protocol.identity.identities import Role
from protocol.identity.key_files import is_locked, load_server_identity, write_identity
from protocol.ledger.grants import GrantState, SealedFacts
from protocol.statements.revocations import open_revocations
from protocol.statements.succession import open_succession
from source_site.keys.folder import (
    init_keys,
    load_keys,
    open_ledger,
    outbox_file,
    revocations_file,
    succession_file,
)
from source_site.release.revoke import revoke_key
from source_site.release.rotation import rotate_keys
from tests.support import cli
from tests.support.sites import new_identity

NOW = datetime(2026, 3, 1, tzinfo=UTC)
GRANT = bytes(range(16))
WORDS = b"correct horse battery staple"
FOLDERS = ("ledger", "outbox", "released", "public", "retired")


def issue(keys: Path) -> None:
    facts = SealedFacts(sealed_sha256=bytes(32), size=6, bundle_sha256=bytes(32), weights_sha256=bytes(32))
    outbox_file(keys, GRANT).write_bytes(b"sealed")
    open_ledger(keys).issue(GRANT, bytes(32), bytes(32), lambda release: facts, now_s=int(NOW.timestamp()))


def modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


@pytest.mark.parametrize("passphrase", [None, WORDS])
def test_a_source_goes_over_to_two_algorithms_and_stays_with_them(tmp_path, passphrase):
    keys = tmp_path / "keys"
    first = bytes.fromhex(init_keys(keys, passphrase=passphrase))
    second = rotate_keys(keys, now=NOW, suite="hybrid-1", passphrase=passphrase).fingerprint
    assert open_succession(succession_file(keys).read_bytes(), first).new == second
    third = rotate_keys(keys, now=NOW, passphrase=passphrase).fingerprint
    assert open_succession(succession_file(keys).read_bytes(), second).new == third
    assert signing.suite_of(signing.raw_public_key(load_keys(keys, passphrase).signing_key)) == "hybrid-1"
    assert load_server_identity(keys, passphrase).fingerprint == third
    assert is_locked(keys) == (passphrase is not None)


def test_a_source_does_not_go_back_to_one_algorithm(tmp_path):
    keys = tmp_path / "keys"
    first = init_keys(keys, suite="hybrid-1")
    with pytest.raises(RefusedError, match="name a new key of hybrid-1") as refusal:
        rotate_keys(keys, now=NOW, suite="classic-1")
    assert refusal.value.code is Code.POLICY
    assert load_keys(keys).fingerprint.hex() == first
    assert not (keys / ".next").exists()


@pytest.mark.parametrize("passphrase", [None, WORDS])
def test_rotation_makes_new_keys_that_the_old_ones_vouch_for(tmp_path, passphrase):
    keys = tmp_path / "keys"
    first = init_keys(keys, passphrase=passphrase)
    before = modes(keys)
    second = rotate_keys(keys, now=NOW, passphrase=passphrase).fingerprint.hex()
    third = rotate_keys(keys, now=NOW, passphrase=passphrase).fingerprint.hex()
    assert len({first, second, third}) == 3
    assert load_keys(keys, passphrase).fingerprint.hex() == third
    assert load_server_identity(keys, passphrase).fingerprint.hex() == third
    assert is_locked(keys) == is_locked(keys / "retired" / "1") == (passphrase is not None)

    statements = [keys / "retired" / "1" / "succession", succession_file(keys)]
    for number, (old, new, path) in enumerate(zip([first, second], [second, third], statements, strict=True), start=1):
        assert load_keys(keys / "retired" / str(number), passphrase).fingerprint.hex() == old
        succession = open_succession(path.read_bytes(), bytes.fromhex(old))
        assert (succession.new.hex(), succession.number) == (new, number)

    assert modes(keys) == before
    assert set(modes(keys / "retired").values()) == {0o700}
    assert modes(keys / "retired" / "2") == {name: mode for name, mode in before.items() if name not in FOLDERS} | {
        "succession": 0o644
    }


def test_keys_that_do_not_open_are_not_rotated(tmp_path):
    init_keys(tmp_path / "keys", passphrase=WORDS)
    before = modes(tmp_path / "keys")
    for passphrase in (None, b"another passphrase"):
        with pytest.raises(KeyFileError) as caught:
            rotate_keys(tmp_path / "keys", now=NOW, passphrase=passphrase)
        assert caught.value.code is Code.KEY_LOCKED
    assert modes(tmp_path / "keys") == before
    assert list((tmp_path / "keys" / "retired").iterdir()) == []


def test_keys_that_are_not_there_are_not_rotated(tmp_path):
    with pytest.raises(KeyFileError, match="source's keys folder"):
        rotate_keys(tmp_path / "keys", now=NOW)


def test_a_set_of_keys_without_its_signing_key_is_not_rotated(tmp_path):
    init_keys(tmp_path / "keys")
    (tmp_path / "keys" / "signing.key").unlink()
    with pytest.raises(KeyFileError, match="restore it from a backup") as caught:
        rotate_keys(tmp_path / "keys", now=NOW)
    assert caught.value.code is Code.KEY_MISSING
    write_identity(new_identity(Role.SOURCE), tmp_path / "keys" / ".next")
    with pytest.raises(KeyFileError, match="restore it from a backup"):
        rotate_keys(tmp_path / "keys", now=NOW)


def test_keys_of_two_identities_ask_for_the_rotation_to_be_finished(tmp_path):
    init_keys(tmp_path / "keys")
    write_identity(new_identity(Role.SOURCE), tmp_path / "keys" / ".next")
    shutil.copy(tmp_path / "keys" / ".next" / "tls.key", tmp_path / "keys" / "tls.key")
    with pytest.raises(KeyFileError, match="run `ecan-source keys rotate` again") as caught:
        load_keys(tmp_path / "keys")
    assert caught.value.code is Code.KEY_DAMAGED


def test_what_someone_else_put_beside_the_new_keys_is_not_removed(tmp_path):
    fingerprint = init_keys(tmp_path / "keys")
    (tmp_path / "keys" / ".next").mkdir()
    (tmp_path / "keys" / ".next" / "notes").write_bytes(b"mine")
    with pytest.raises(FileError):
        rotate_keys(tmp_path / "keys", now=NOW)
    assert load_keys(tmp_path / "keys").fingerprint.hex() == fingerprint
    assert (tmp_path / "keys" / ".next" / "notes").read_bytes() == b"mine"


def test_half_a_retired_set_of_keys_is_completed(tmp_path):
    fingerprint = init_keys(tmp_path / "keys")
    (tmp_path / "keys" / "retired" / "1").mkdir()
    (tmp_path / "keys" / "retired" / "1" / "tls.key").write_bytes(b"half")
    rotate_keys(tmp_path / "keys", now=NOW)
    assert load_keys(tmp_path / "keys" / "retired" / "1").fingerprint.hex() == fingerprint


def test_leftovers_of_a_killed_write_are_removed_with_the_staged_keys(tmp_path):
    init_keys(tmp_path / "keys")
    (tmp_path / "keys" / ".next").mkdir()
    (tmp_path / "keys" / ".next" / ".tls.key.0123.part").write_bytes(b"half")
    rotate_keys(tmp_path / "keys", now=NOW)
    assert not (tmp_path / "keys" / ".next").exists()


def test_two_runs_do_not_rotate_at_once(tmp_path):
    fingerprint = init_keys(tmp_path / "keys")
    descriptor = os.open(tmp_path / "keys", os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(FileError, match="Another run") as caught:
            rotate_keys(tmp_path / "keys", now=NOW)
    finally:
        os.close(descriptor)
    assert caught.value.code is Code.BUSY
    assert load_keys(tmp_path / "keys").fingerprint.hex() == fingerprint


KILL_AT_EVERY_MOMENT = """
import os, shutil, signal, sys
from datetime import UTC, datetime
from pathlib import Path
import protocol.statements.succession
from source_site.release.rotation import rotate_keys

folder, moment = Path(sys.argv[1]), 0
killed = True
while killed:
    keys = folder / str(moment)
    shutil.copytree(folder / "keys", keys)
    child = os.fork()
    if child == 0:
        left = moment

        def kill(event, arguments):
            global left
            changes = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "sqlite3.connect")
            if event in changes or (event == "open" and arguments[2] & 3):
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(kill)
        rotate_keys(keys, now=datetime.now(UTC))
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL), status
    killed = status != 0
    moment += 1
"""


def present(keys: Path) -> str:
    """Which identity holds: its fingerprint, or that it takes another run to say."""
    try:
        return load_keys(keys).fingerprint.hex()
    except KeyFileError as fault:
        return str(fault)


@pytest.mark.slow
def test_a_rotation_that_was_killed_at_any_moment_is_finished_by_the_next_run(tmp_path):
    first = init_keys(tmp_path / "keys")
    second = rotate_keys(tmp_path / "keys", now=NOW).fingerprint.hex()
    revoke_key(tmp_path / "keys", bytes(32), now_s=int(NOW.timestamp()))
    issue(tmp_path / "keys")
    subprocess.run(
        [sys.executable, "-c", KILL_AT_EVERY_MOMENT, str(tmp_path)], check=True, cwd=Path(__file__).parents[3]
    )
    *moments, _ = sorted(int(path.name) for path in tmp_path.iterdir() if path.name.isdigit())
    assert len(moments) > 30
    outcomes = []
    for keys in (tmp_path / str(moment) for moment in moments):
        interrupted = present(keys)
        assert second in (interrupted, present(keys / "retired" / "2"))  # the old keys are never lost
        is_mixed = interrupted.endswith("run `ecan-source keys rotate` again.")
        outcomes.append("old" if interrupted == second else "mixed" if is_mixed else "new")
        if outcomes[-1] == "new" and not (keys / ".next" / "signing.key").exists():
            # Nothing was left to finish: the next run is the next rotation.
            assert open_ledger(keys).find(GRANT).state is GrantState.DENIED
            continue

        third = rotate_keys(keys, now=NOW).fingerprint.hex()
        assert third == present(keys) == load_server_identity(keys).fingerprint.hex()
        assert interrupted == third if outcomes[-1] == "new" else third != second
        assert [present(keys / "retired" / number) for number in ("1", "2")] == [first, second]
        assert len(list((keys / "retired").iterdir())) == 2
        succession = open_succession(succession_file(keys).read_bytes(), bytes.fromhex(second))
        assert (succession.new.hex(), succession.number) == (third, 2)
        assert open_revocations(revocations_file(keys).read_bytes(), bytes.fromhex(third)).keys == {bytes(32)}
        assert open_ledger(keys).find(GRANT).state is GrantState.DENIED
        assert not outbox_file(keys, GRANT).exists()
        assert not (keys / ".next").exists()
    assert list(dict.fromkeys(outcomes)) == ["old", "mixed", "new"]


def test_what_was_granted_under_the_old_keys_is_denied_and_that_is_said(tmp_path):
    keys = tmp_path / "keys"
    init_keys(keys)
    issue(keys)
    (denied,) = rotate_keys(keys, now=NOW).denied
    assert (denied.grant, denied.state) == (GRANT, GrantState.DENIED)
    assert not outbox_file(keys, GRANT).exists()
    assert rotate_keys(keys, now=NOW).denied == ()
    open_ledger(keys).verify()


def test_keys_without_their_ledger_are_not_rotated(tmp_path):
    keys = tmp_path / "keys"
    fingerprint = init_keys(keys)
    shutil.rmtree(keys / "ledger")
    with pytest.raises(FileError, match="holds no ledger"):
        rotate_keys(keys, now=NOW)
    assert load_keys(keys).fingerprint.hex() == fingerprint


def test_a_staged_rotation_goes_on_with_the_same_new_keys(tmp_path):
    """A second successor of one key would split the sites that trust it."""
    keys = tmp_path / "keys"
    init_keys(keys)
    staged = new_identity(Role.SOURCE)
    write_identity(staged, keys / ".next")
    assert rotate_keys(keys, now=NOW).fingerprint == staged.fingerprint


def test_an_operator_rotates_on_the_command_line(tmp_path):
    keys = tmp_path / "keys"
    old = cli.source("keys", "init", "--out", keys).stdout.strip()
    issue(keys)
    result = cli.source("keys", "rotate", "--keys", keys)
    assert result.code == 0, result.stderr
    assert "denied now: 1; their sites must ask again" in result.stderr
    new = result.stdout.strip()
    assert cli.source("keys", "show", "--keys", keys).stdout.strip() == new != old
    assert str(succession_file(keys)) in result.stderr
    assert open_succession(succession_file(keys).read_bytes(), bytes.fromhex(old)).new.hex() == new
