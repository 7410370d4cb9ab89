from datetime import UTC, datetime
from pathlib import Path

import pytest

from protocol.errors import FileError, KeyFileError
from protocol.identity import signing
from protocol.identity.identities import Identity, Role, check_online, create_identity
from protocol.identity.key_files import (
    SERVER_FILES,
    has_identity,
    is_locked,
    load_identity,
    load_public,
    load_server_identity,
    write_identity,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SOURCE, TARGET = create_identity(Role.SOURCE, NOW), create_identity(Role.TARGET, NOW)

PRIVATE_NAMES = {
    Role.SOURCE: ["signing.key", "tls.key", "online.key"],
    Role.TARGET: ["signing.key", "tls.key", "sealing.key"],
}
PUBLIC_NAMES = {Role.SOURCE: ["identity.pem", "online.endorsement"], Role.TARGET: ["identity.pem"]}
IDENTITIES = [pytest.param(identity, id=str(identity.role)) for identity in (TARGET, SOURCE)]
EACH_PRIVATE_FILE = [
    pytest.param(identity, name, id=f"{identity.role}-{name}")
    for identity in (TARGET, SOURCE)
    for name in PRIVATE_NAMES[identity.role]
]
EACH_FILE = EACH_PRIVATE_FILE + [
    pytest.param(identity, name, id=f"{identity.role}-{name}")
    for identity in (TARGET, SOURCE)
    for name in PUBLIC_NAMES[identity.role]
]


def test_an_identity_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "keys"
    assert not has_identity(folder)
    write_identity(TARGET, folder)
    assert has_identity(folder)
    loaded = load_identity(folder)
    assert loaded.fingerprint == TARGET.fingerprint
    assert loaded.tls_key_pem == TARGET.tls_key_pem
    assert loaded.certificate_pem == TARGET.certificate_pem
    assert loaded.role == Role.TARGET


@pytest.mark.parametrize("identity", IDENTITIES)
@pytest.mark.parametrize("passphrase", [None, b"correct horse battery"])
def test_private_files_are_for_their_owner_alone(tmp_path: Path, identity: Identity, passphrase: bytes | None) -> None:
    write_identity(identity, tmp_path, passphrase)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(PRIVATE_NAMES[identity.role], 0o600) | dict.fromkeys(
        PUBLIC_NAMES[identity.role], 0o644
    )
    for name in PRIVATE_NAMES[identity.role]:
        assert (b"LOCKED" in (tmp_path / name).read_bytes()) == (passphrase is not None)
    assert is_locked(tmp_path) == (passphrase is not None)


def test_a_source_has_an_online_key_and_a_target_a_sealing_key(tmp_path: Path) -> None:
    write_identity(SOURCE, tmp_path / "source")
    write_identity(TARGET, tmp_path / "target")
    source, target = load_identity(tmp_path / "source"), load_identity(tmp_path / "target")
    assert source.online_key is not None
    assert SOURCE.online_key is not None
    assert signing.raw_public_key(source.online_key) == signing.raw_public_key(SOURCE.online_key)
    assert source.online_endorsement == SOURCE.online_endorsement
    assert source.sealing_key is None
    assert target.sealing_key is not None
    assert TARGET.sealing_key is not None
    assert target.sealing_key.public_key == TARGET.sealing_key.public_key
    assert target.online_key is target.online_endorsement is None


@pytest.mark.parametrize("identity", IDENTITIES)
def test_a_passphrase_opens_what_it_has_locked(tmp_path: Path, identity: Identity) -> None:
    write_identity(identity, tmp_path, b"correct horse battery")
    assert load_identity(tmp_path, b"correct horse battery").fingerprint == identity.fingerprint
    with pytest.raises(KeyFileError, match="ECAN_PASSPHRASE_FILE") as caught:
        load_identity(tmp_path)
    assert caught.value.code == "KEY_LOCKED"
    with pytest.raises(KeyFileError, match="give the right one") as caught:
        load_identity(tmp_path, b"correct horse staple")
    assert caught.value.code == "KEY_LOCKED"
    assert caught.value.exit_code == 3


def test_keys_that_are_not_locked_need_no_passphrase(tmp_path: Path) -> None:
    write_identity(TARGET, tmp_path)
    assert not is_locked(tmp_path)
    assert not is_locked(tmp_path / "nothing")
    assert load_identity(tmp_path, b"given all the same").fingerprint == TARGET.fingerprint


@pytest.mark.parametrize("passphrase", [None, b"correct horse battery"])
def test_anyone_may_see_whose_keys_they_are(tmp_path: Path, passphrase: bytes | None) -> None:
    write_identity(TARGET, tmp_path, passphrase)
    for name in PRIVATE_NAMES[Role.TARGET]:
        (tmp_path / name).unlink()
    public = load_public(tmp_path)
    assert (public.role, public.fingerprint) == (Role.TARGET, TARGET.fingerprint)
    assert public.certificate_pem == TARGET.certificate_pem


@pytest.mark.parametrize("passphrase", [None, b"correct horse battery"])
def test_the_process_on_the_network_never_needs_the_release_key(tmp_path: Path, passphrase: bytes | None) -> None:
    write_identity(SOURCE, tmp_path, passphrase)
    for path in tmp_path.iterdir():
        if path.name not in SERVER_FILES:
            path.unlink()
    assert not has_identity(tmp_path)
    server = load_server_identity(tmp_path, passphrase)
    assert server.fingerprint == SOURCE.fingerprint
    assert server.tls_key_pem == SOURCE.tls_key_pem
    assert server.certificate_pem == SOURCE.certificate_pem
    check_online(server.online_endorsement, signing.raw_public_key(server.online_key), SOURCE.fingerprint)
    assert "PRIVATE KEY" not in repr(server)


def test_a_target_is_no_server(tmp_path: Path) -> None:
    write_identity(TARGET, tmp_path)
    with pytest.raises(KeyFileError, match="name the source's keys folder"):
        load_server_identity(tmp_path)


@pytest.mark.parametrize("name", SERVER_FILES)
def test_a_server_whose_files_are_of_two_sources_is_refused(tmp_path: Path, name: str) -> None:
    write_identity(SOURCE, tmp_path / "one")
    write_identity(create_identity(Role.SOURCE, NOW), tmp_path / "two")
    (tmp_path / "two" / name).replace(tmp_path / "one" / name)
    with pytest.raises(KeyFileError, match="do not belong together"):
        load_server_identity(tmp_path / "one")


@pytest.mark.parametrize("name", SERVER_FILES)
def test_a_server_whose_file_is_missing_or_damaged_is_refused(tmp_path: Path, name: str) -> None:
    write_identity(SOURCE, tmp_path)
    (tmp_path / name).write_bytes(b"damaged")
    with pytest.raises(KeyFileError, match=name) as caught:
        load_server_identity(tmp_path)
    assert caught.value.code == "KEY_DAMAGED"
    (tmp_path / name).unlink()
    with pytest.raises(KeyFileError, match=name) as caught:
        load_server_identity(tmp_path)
    assert caught.value.code == "KEY_MISSING"


def test_a_locked_server_says_so(tmp_path: Path) -> None:
    write_identity(SOURCE, tmp_path, b"correct horse battery")
    with pytest.raises(KeyFileError) as caught:
        load_server_identity(tmp_path)
    assert caught.value.code == "KEY_LOCKED"


def test_an_identity_is_never_overwritten(tmp_path: Path) -> None:
    write_identity(TARGET, tmp_path)
    with pytest.raises(KeyFileError) as caught:
        write_identity(SOURCE, tmp_path)
    assert caught.value.code == "KEY_EXISTS"
    assert load_identity(tmp_path).fingerprint == TARGET.fingerprint


def test_a_run_that_was_killed_before_the_signing_key_can_be_repeated(tmp_path: Path) -> None:
    write_identity(SOURCE, tmp_path)
    (tmp_path / "signing.key").unlink()
    write_identity(TARGET, tmp_path)
    assert load_identity(tmp_path).fingerprint == TARGET.fingerprint


@pytest.mark.parametrize(("identity", "name"), EACH_PRIVATE_FILE)
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620])
def test_a_key_that_others_can_read_is_refused_with_the_remedy(
    tmp_path: Path, identity: Identity, name: str, mode: int
) -> None:
    write_identity(identity, tmp_path)
    (tmp_path / name).chmod(mode)
    with pytest.raises(KeyFileError, match="chmod 600") as caught:
        load_identity(tmp_path)
    assert caught.value.code == "KEY_EXPOSED"


@pytest.mark.parametrize(("identity", "name"), EACH_FILE)
def test_a_missing_key_file_is_named(tmp_path: Path, identity: Identity, name: str) -> None:
    write_identity(identity, tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(KeyFileError, match=name) as caught:
        load_identity(tmp_path)
    assert caught.value.code == "KEY_MISSING"


@pytest.mark.parametrize(("identity", "name"), EACH_FILE)
def test_a_damaged_key_file_is_named(tmp_path: Path, identity: Identity, name: str) -> None:
    write_identity(identity, tmp_path)
    (tmp_path / name).write_bytes(b"damaged")
    with pytest.raises(KeyFileError, match=name) as caught:
        load_identity(tmp_path)
    assert caught.value.code == "KEY_DAMAGED"


@pytest.mark.parametrize(("identity", "name"), EACH_PRIVATE_FILE)
def test_a_key_of_the_wrong_kind_is_refused(tmp_path: Path, identity: Identity, name: str) -> None:
    write_identity(identity, tmp_path)
    other = "signing.key" if name == "tls.key" else "tls.key"
    (tmp_path / name).write_bytes((tmp_path / other).read_bytes())
    with pytest.raises(KeyFileError, match=name) as caught:
        load_identity(tmp_path)
    assert caught.value.code == "KEY_DAMAGED"


def test_a_folder_that_cannot_be_made_is_a_storage_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(FileError, match="cannot be made"):
        write_identity(TARGET, tmp_path / "file" / "keys")


@pytest.mark.parametrize(
    ("role", "name"),
    [(Role.SOURCE, name) for name in (*SERVER_FILES, "signing.key")]
    + [(Role.TARGET, name) for name in ("identity.pem", "tls.key", "signing.key")],
)
def test_files_of_two_identities_are_not_mixed(tmp_path: Path, role: Role, name: str) -> None:
    write_identity(create_identity(role, NOW), tmp_path / "one")
    write_identity(create_identity(role, NOW), tmp_path / "two")
    (tmp_path / "two" / name).replace(tmp_path / "one" / name)
    with pytest.raises(KeyFileError, match="do not belong together"):
        load_identity(tmp_path / "one")
