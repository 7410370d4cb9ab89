"""The folder of a source's keys."""

import shutil
import stat
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from protocol.bundle.override import open_officer
from protocol.errors import Code, FileError, KeyFileError
from protocol.identity import signing
from protocol.identity.identities import Role, endorsed_fingerprint
from protocol.identity.key_files import PASSPHRASE_VARIABLE, is_locked, load_server_identity, write_identity
from protocol.ledger.store import Ledger
from source_site.keys.folder import (
    init_keys,
    load_keys,
    open_ledger,
    outbox_file,
    released_file,
    revocations_file,
    succession_file,
)
from source_site.keys.officer import officer_statement, register_officer
from source_site.release.rotation import rotate_keys
from tests.support import cli
from tests.support.sites import new_identity

NOW = datetime(2026, 3, 1, tzinfo=UTC)
GRANT = bytes(range(16))
WORDS = b"correct horse battery staple"
FOLDERS = ("ledger", "outbox", "released", "public", "retired")


def online_fingerprint(keys: Path) -> str:
    return signing.fingerprint_of(signing.raw_public_key(load_server_identity(keys).online_key)).hex()


def modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


def test_new_keys_are_known_by_the_fingerprint_that_is_printed(tmp_path):
    fingerprint = init_keys(tmp_path / "keys")
    assert load_keys(tmp_path / "keys").fingerprint.hex() == fingerprint
    assert load_server_identity(tmp_path / "keys").fingerprint.hex() == fingerprint
    assert endorsed_fingerprint((tmp_path / "keys" / "identity.pem").read_bytes()).hex() == fingerprint


@pytest.mark.parametrize("passphrase", [None, WORDS])
def test_only_what_is_public_can_be_read_by_others(tmp_path, passphrase):
    init_keys(tmp_path / "keys", passphrase=passphrase)
    assert modes(tmp_path / "keys") == dict.fromkeys(FOLDERS, 0o700) | {
        "identity.pem": 0o644,
        "online.endorsement": 0o644,
        "online.key": 0o600,
        "signing.key": 0o600,
        "tls.key": 0o600,
    }
    assert modes(tmp_path / "keys" / "ledger")["ledger.sqlite"] == 0o600
    assert is_locked(tmp_path / "keys") == (passphrase is not None)


def test_every_grant_has_its_own_files(tmp_path):
    assert outbox_file(tmp_path, GRANT) == tmp_path / "outbox" / f"{GRANT.hex()}.sealed"
    assert released_file(tmp_path, GRANT) == tmp_path / "released" / f"{GRANT.hex()}.ecan"
    assert succession_file(tmp_path).parent == revocations_file(tmp_path).parent == tmp_path / "public"


def test_keys_are_never_overwritten(tmp_path):
    fingerprint = init_keys(tmp_path / "keys")
    with pytest.raises(KeyFileError) as caught:
        init_keys(tmp_path / "keys")
    assert caught.value.code is Code.KEY_EXISTS
    assert load_keys(tmp_path / "keys").fingerprint.hex() == fingerprint


def test_a_lost_ledger_is_not_made_again_beside_old_keys(tmp_path):
    init_keys(tmp_path / "keys")
    (tmp_path / "keys" / "ledger" / "ledger.sqlite").unlink()
    with pytest.raises(KeyFileError):
        init_keys(tmp_path / "keys")
    with pytest.raises(FileError, match="backup"):
        open_ledger(tmp_path / "keys").find(GRANT)


def test_a_run_that_was_killed_before_the_keys_were_there_is_repeated(tmp_path):
    (tmp_path / "keys" / "ledger").mkdir(parents=True)
    Ledger.create(tmp_path / "keys" / "ledger" / "ledger.sqlite")
    init_keys(tmp_path / "keys")
    assert open_ledger(tmp_path / "keys").find(GRANT) is None


def test_a_targets_keys_are_refused(tmp_path):
    write_identity(new_identity(Role.TARGET), tmp_path / "keys")
    with pytest.raises(KeyFileError, match="source's keys folder"):
        load_keys(tmp_path / "keys")
    with pytest.raises(KeyFileError, match="source's keys folder"):
        rotate_keys(tmp_path / "keys", now=NOW)


def test_a_place_that_cannot_be_a_folder_is_a_storage_fault(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileError):
        init_keys(tmp_path / "file" / "keys")


def test_an_operator_sees_every_key_that_can_be_stolen(tmp_path):
    keys = tmp_path / "keys"
    old, old_online = init_keys(keys), online_fingerprint(keys)
    assert cli.source("keys", "show", "--keys", keys, "--all").stdout.split("\n") == [
        old,
        f"{old_online}  online key",
        "",
    ]
    new, new_online = rotate_keys(keys, now=NOW).fingerprint.hex(), online_fingerprint(keys)
    (keys / "retired" / "2").mkdir()  # of a rotation that was killed
    shown = cli.source("keys", "show", "--keys", keys, "--all").stdout.splitlines()
    assert [line.split()[0] for line in shown] == [new, new_online, old, old_online]
    assert shown[0] == cli.source("keys", "show", "--keys", keys).stdout.strip() == new
    assert cli.source("keys", "show", "--keys", keys, "--format", "json").json() == {
        "release": new,
        "online": new_online,
        "retired": [{"number": 1, "release": old, "online": old_online}],
    }


def test_an_operator_locks_the_keys_on_the_command_line(tmp_path, monkeypatch):
    keys, words = tmp_path / "keys", tmp_path / "words"
    words.write_bytes(WORDS)
    words.chmod(0o600)
    monkeypatch.setattr(sys, "stdin", None)
    monkeypatch.delenv(PASSPHRASE_VARIABLE, raising=False)
    assert "nobody to ask" in cli.source("keys", "init", "--out", keys, "--passphrase").refusal()
    assert not keys.exists()
    monkeypatch.setenv(PASSPHRASE_VARIABLE, str(words))
    old = cli.source("keys", "init", "--out", keys, "--passphrase").stdout.strip()
    assert is_locked(keys)
    new = cli.source("keys", "rotate", "--keys", keys).stdout.strip()
    assert load_keys(keys, WORDS).fingerprint.hex() == new != old
    monkeypatch.delenv(PASSPHRASE_VARIABLE)
    assert cli.source("keys", "show", "--keys", keys).stdout.strip() == new
    locked = cli.source("keys", "rotate", "--keys", keys)
    assert locked.code == 3
    assert PASSPHRASE_VARIABLE in locked.refusal()


def test_a_backup_of_the_keys_is_as_good_as_the_keys(tmp_path):
    fingerprint = init_keys(tmp_path / "keys")
    shutil.copytree(tmp_path / "keys", tmp_path / "restored")
    assert load_keys(tmp_path / "restored").fingerprint.hex() == fingerprint


@pytest.mark.parametrize("suite", signing.SUITES)
def test_a_source_of_either_suite_names_an_officer(tmp_path, suite):
    issuer = bytes.fromhex(init_keys(tmp_path / "keys", suite=suite))
    assert signing.suite_of(signing.raw_public_key(load_keys(tmp_path / "keys").signing_key)) == suite
    register_officer(tmp_path / "keys", bytes(range(32)))
    assert open_officer(officer_statement(tmp_path / "keys"), issuer) == bytes(range(32))
