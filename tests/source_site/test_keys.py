import stat

import pytest

from protocol.errors import Code, KeyFault, StorageFault
from protocol.identity import Role, endorsed_fingerprint, write_identity
from protocol.ledger import Ledger
from source_site.keys import init_keys, load_keys, open_ledger
from tests.support.sites import new_identity


def test_new_keys_are_known_by_the_fingerprint_that_is_printed(tmp_path):
    fingerprint = init_keys(tmp_path / "keys")
    assert load_keys(tmp_path / "keys").fingerprint.hex() == fingerprint
    assert endorsed_fingerprint((tmp_path / "keys" / "identity.pem").read_bytes()).hex() == fingerprint


def test_only_the_certificate_can_be_read_by_others(tmp_path):
    init_keys(tmp_path / "keys")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "keys").iterdir()}
    assert modes == {
        "identity.pem": 0o644,
        "ledger.sqlite": 0o600,
        "outbox": 0o700,
        "signing.key": 0o600,
        "tls.key": 0o600,
    }


def test_keys_are_never_overwritten(tmp_path):
    fingerprint = init_keys(tmp_path / "keys")
    with pytest.raises(KeyFault) as caught:
        init_keys(tmp_path / "keys")
    assert caught.value.code is Code.KEY_EXISTS
    assert load_keys(tmp_path / "keys").fingerprint.hex() == fingerprint


def test_a_lost_ledger_is_not_made_again_beside_old_keys(tmp_path):
    init_keys(tmp_path / "keys")
    (tmp_path / "keys" / "ledger.sqlite").unlink()
    with pytest.raises(KeyFault):
        init_keys(tmp_path / "keys")
    with pytest.raises(StorageFault, match="backup"):
        open_ledger(tmp_path / "keys").find(b"g" * 16)


def test_a_run_that_was_killed_before_the_keys_were_there_is_repeated(tmp_path):
    (tmp_path / "keys").mkdir()
    Ledger.create(tmp_path / "keys" / "ledger.sqlite")
    init_keys(tmp_path / "keys")
    assert open_ledger(tmp_path / "keys").find(b"g" * 16) is None


def test_a_targets_keys_are_refused(tmp_path):
    write_identity(new_identity(Role.TARGET), tmp_path / "keys")
    with pytest.raises(KeyFault, match="source's keys folder"):
        load_keys(tmp_path / "keys")


def test_a_place_that_cannot_be_a_folder_is_a_storage_fault(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageFault):
        init_keys(tmp_path / "file" / "keys")
