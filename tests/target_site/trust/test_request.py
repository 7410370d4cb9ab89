import os
import stat
import sys

import pytest

from ecan_core.errors import UsageError
from protocol.errors import FileError, KeyFileError
from protocol.identity.identities import Role
from protocol.identity.key_files import PASSPHRASE_VARIABLE, is_locked, write_identity
from protocol.statements.request import grant_id, open_request
from target_site.trust.keys import load_keys
from target_site.trust.request import requested_grants, write_request
from target_site.trust.state import STATE_FILE, TrustState, load_trust_state
from tests.support import cli
from tests.support.sites import TODAY, new_identity


def test_the_first_request_makes_the_keys_and_later_ones_use_them(tmp_path):
    first = write_request(tmp_path / "keys", tmp_path / "1.request", today=TODAY)
    second = write_request(tmp_path / "keys", tmp_path / "2.request", today=TODAY)
    assert first == second == load_keys(tmp_path / "keys").fingerprint.hex()


def test_a_request_names_the_site_and_the_day(tmp_path):
    fingerprint = write_request(tmp_path / "keys", tmp_path / "site.request", today=TODAY)
    site = open_request((tmp_path / "site.request").read_bytes())
    assert (site.fingerprint.hex(), site.day) == (fingerprint, TODAY)
    sealing_key = load_keys(tmp_path / "keys").sealing_key
    assert sealing_key is not None
    assert site.sealing_key == sealing_key.public_key


def test_every_request_is_a_grant_of_its_own_and_the_latest_comes_first(tmp_path):
    grants = []
    for number in range(3):
        out = tmp_path / f"{number}.request"
        write_request(tmp_path / "keys", out, today=TODAY)
        grants.append(grant_id(out.read_bytes()))
        os.utime(tmp_path / "keys" / "requests" / f"{grants[-1].hex()}.request", (number, number))
    assert requested_grants(tmp_path / "keys") == tuple(reversed(grants))


def test_a_site_without_requests_has_no_grants(tmp_path):
    assert requested_grants(tmp_path) == ()


def test_the_keys_are_for_their_owner_alone(tmp_path):
    write_request(tmp_path / "keys", tmp_path / "site.request", today=TODAY)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "keys").iterdir()}
    public, folders = {"identity.pem"}, {"requests"}
    assert {"sealing.key", "signing.key", "tls.key", STATE_FILE} <= modes.keys()
    assert {name: mode for name, mode in modes.items() if mode != 0o600} == dict.fromkeys(
        public, 0o644
    ) | dict.fromkeys(folders, 0o700)


def test_whoever_has_keys_has_a_trust_state(tmp_path):
    write_request(tmp_path / "keys", tmp_path / "site.request", today=TODAY)
    assert load_trust_state(tmp_path / "keys") == TrustState()


def test_a_lost_trust_state_is_not_made_again_beside_old_keys(tmp_path):
    write_request(tmp_path / "keys", tmp_path / "site.request", today=TODAY)
    (tmp_path / "keys" / STATE_FILE).unlink()
    write_request(tmp_path / "keys", tmp_path / "again.request", today=TODAY)
    assert not (tmp_path / "keys" / STATE_FILE).exists()


def test_a_run_that_was_killed_before_the_keys_were_there_is_repeated(tmp_path):
    write_request(tmp_path / "keys", tmp_path / "site.request", today=TODAY)
    (tmp_path / "keys" / "signing.key").unlink()
    fingerprint = write_request(tmp_path / "keys", tmp_path / "again.request", today=TODAY)
    assert load_keys(tmp_path / "keys").fingerprint.hex() == fingerprint


def test_new_keys_are_locked_with_a_passphrase(tmp_path):
    words = b"correct horse battery staple"
    fingerprint = write_request(tmp_path / "keys", tmp_path / "site.request", today=TODAY, passphrase=words)
    assert is_locked(tmp_path / "keys")
    assert load_keys(tmp_path / "keys", words).fingerprint.hex() == fingerprint
    with pytest.raises(KeyFileError, match=PASSPHRASE_VARIABLE):
        write_request(tmp_path / "keys", tmp_path / "again.request", today=TODAY)


def test_an_operator_locks_the_keys_on_the_command_line(tmp_path, monkeypatch):
    words = tmp_path / "words"
    words.write_bytes(b"correct horse battery staple")
    words.chmod(0o600)
    monkeypatch.setattr(sys, "stdin", None)
    monkeypatch.setenv(PASSPHRASE_VARIABLE, str(words))

    def ask(out, *words):
        return cli.target("request", "--keys", tmp_path / "keys", "--out", tmp_path / out, *words)

    first = ask("1.request", "--passphrase")
    assert first.code == 0, first.stderr
    assert is_locked(tmp_path / "keys")
    assert ask("2.request").stdout == ask("3.request", "--passphrase").stdout == first.stdout
    monkeypatch.delenv(PASSPHRASE_VARIABLE)
    locked = ask("4.request")
    assert locked.code == 3
    assert PASSPHRASE_VARIABLE in locked.refusal()


def test_requests_that_cannot_be_kept_are_a_storage_fault(tmp_path):
    write_request(tmp_path / "keys", tmp_path / "site.request", today=TODAY)
    (tmp_path / "other").mkdir()
    for name in ("identity.pem", "sealing.key", "signing.key", "tls.key"):
        (tmp_path / "keys" / name).rename(tmp_path / "other" / name)
    (tmp_path / "other" / "requests").touch()
    with pytest.raises(FileError, match="check the keys folder"):
        write_request(tmp_path / "other", tmp_path / "again.request", today=TODAY)


def test_keys_that_were_made_without_a_passphrase_are_not_passed_off_as_locked(tmp_path):
    ask = ("request", "--keys", tmp_path / "keys", "--out", tmp_path / "site.request")
    assert cli.target(*ask).code == 0
    refused = cli.target(*ask, "--passphrase")
    assert refused.code == 2
    assert "not encrypted" in refused.stderr


def test_a_sources_keys_are_refused(tmp_path):
    write_identity(new_identity(Role.SOURCE), tmp_path / "keys")
    with pytest.raises(KeyFileError, match="this site's keys folder"):
        write_request(tmp_path / "keys", tmp_path / "site.request", today=TODAY)


def test_a_request_that_cannot_be_written_is_a_storage_fault(tmp_path):
    with pytest.raises(FileError):
        write_request(tmp_path / "keys", tmp_path / "missing" / "site.request", today=TODAY)


@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("keys/signing.key", "choose another --out"),
        ("keys/new.request", "choose another --out"),
        *((name, "is there already; name a new file") for name in ("site.request", "thesis", "folder", "link")),
    ],
)
def test_nothing_is_written_over_not_even_an_older_request(tmp_path, out, says):
    (tmp_path / "folder").mkdir()
    (tmp_path / "thesis").write_bytes(b"my thesis")
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    write_request(tmp_path / "keys", tmp_path / "site.request", today=TODAY)
    kept = [tmp_path / name for name in ("site.request", "thesis", "keys/signing.key")]
    before = [path.read_bytes() for path in kept]
    with pytest.raises(UsageError, match=says):
        write_request(tmp_path / "keys", tmp_path / out, today=TODAY)
    assert [path.read_bytes() for path in kept] == before
    assert not (tmp_path / "nothing").exists()
    assert len(requested_grants(tmp_path / "keys")) == 1


def test_an_operator_who_names_an_old_request_is_asked_for_a_new_file(tmp_path):
    ask = ("request", "--keys", tmp_path / "keys", "--out", tmp_path / "site.request")
    assert cli.target(*ask).code == 0
    refused = cli.target(*ask)
    assert refused.code == 2
    assert "is there already; name a new file" in refused.stderr
