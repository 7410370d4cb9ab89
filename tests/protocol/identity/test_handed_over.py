"""Secrets as systemd and Kubernetes hand them over: the real modes, owners, access lists and links."""

import os
import struct
from pathlib import Path

import pytest

from protocol.errors import KeyFileError
from protocol.identity.handed_over import is_exposed, located
from protocol.identity.key_files import PASSPHRASE_VARIABLE, load_identity, write_identity
from protocol.identity.passphrase import read_passphrase
from tests.support.kubelet import mount_secret
from tests.support.sites import new_site

WORDS = b"correct horse battery staple"
NOBODY = 65534
NO_ID = 0xFFFFFFFF
OWNER, USER, GROUP_OWNER, GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20


def set_list(path: Path, *entries: tuple[int, int, int], mode: int) -> None:
    """Give a file an access list as systemd does."""
    listed = sorted(((OWNER, mode, NO_ID), (GROUP_OWNER, 0, NO_ID), (MASK, mode, NO_ID), (OTHER, 0, NO_ID), *entries))
    data = b"".join(struct.pack("<HHI", *entry) for entry in listed)
    try:
        os.setxattr(path, "system.posix_acl_access", struct.pack("<I", 2) + data)
    except OSError as error:
        pytest.skip(f"no access lists here: {error}")


@pytest.fixture
def credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A passphrase as systemd 257 hands it over: 0440 by a list that names the service's user."""
    folder = tmp_path / "credentials"
    folder.mkdir(mode=0o700)
    path = folder / "passphrase"
    path.touch(mode=0o400)
    path.chmod(0o600)
    path.write_bytes(WORDS + b"\n")
    path.chmod(0o400)
    set_list(path, (USER, 4, os.geteuid()), mode=4)
    set_list(folder, (USER, 5, os.geteuid()), mode=5)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    monkeypatch.setenv(PASSPHRASE_VARIABLE, str(path))
    return path


def test_a_credential_of_systemd_257_is_taken(credential: Path) -> None:
    assert credential.stat().st_mode & 0o777 == 0o440
    assert read_passphrase() == WORDS


def test_a_credential_of_systemd_252_is_taken(credential: Path) -> None:
    for path, mode in ((credential, 0o400), (credential.parent, 0o500)):
        os.removexattr(path, "system.posix_acl_access")
        path.chmod(mode)
    assert read_passphrase() == WORDS


@pytest.mark.parametrize(
    "entry",
    [(USER, 4, NOBODY), (GROUP, 4, NOBODY), (USER, 6, os.geteuid())],
    ids=["another-user", "a-group", "writable"],
)
def test_a_credential_that_somebody_else_can_reach_is_refused(credential: Path, entry: tuple[int, int, int]) -> None:
    set_list(credential, *({(USER, 4, os.geteuid()), entry} if entry[2] == NOBODY else {entry}), mode=6)
    with pytest.raises(KeyFileError, match="chmod 600") as caught:
        read_passphrase()
    assert caught.value.code == "KEY_EXPOSED"


def test_a_credential_in_a_folder_that_others_can_read_is_refused(credential: Path) -> None:
    os.removexattr(credential.parent, "system.posix_acl_access")
    credential.parent.chmod(0o755)
    assert is_exposed(credential)


def test_the_same_file_elsewhere_is_no_credential(credential: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credential.parent.parent))
    assert is_exposed(credential)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    assert is_exposed(credential)


def test_a_mode_without_a_list_is_no_credential_of_ours(credential: Path) -> None:
    os.removexattr(credential, "system.posix_acl_access")
    credential.chmod(0o440)
    assert is_exposed(credential)


def test_a_passphrase_that_kubernetes_mounts_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mount_secret(tmp_path, {"passphrase": WORDS}, group=os.getegid())
    assert (tmp_path / "passphrase").stat().st_mode & 0o777 == 0o440
    monkeypatch.setenv(PASSPHRASE_VARIABLE, str(tmp_path / "passphrase"))
    assert read_passphrase() == WORDS


def test_keys_that_kubernetes_mounts_are_read(tmp_path: Path) -> None:
    site = new_site()
    write_identity(site.identity, tmp_path / "keys")
    files = {path.name: path.read_bytes() for path in (tmp_path / "keys").iterdir()}
    (tmp_path / "mount").mkdir()
    mount_secret(tmp_path / "mount", files, group=os.getegid())
    assert load_identity(tmp_path / "mount").fingerprint == site.identity.fingerprint


def test_a_mounted_secret_that_others_can_reach_is_refused(tmp_path: Path) -> None:
    mount_secret(tmp_path, {"passphrase": WORDS}, group=os.getegid())
    path = tmp_path / "passphrase"
    assert not is_exposed(path)
    for mode in (0o444, 0o460, 0o640 | 0o020, 0o441):
        located(path).chmod(mode)
        assert is_exposed(path), oct(mode)
    located(path).chmod(0o440)
    located(path).parent.chmod(0o777)
    assert is_exposed(path)
    located(path).parent.chmod(0o755)
    tmp_path.chmod(0o777)  # without the sticky bit anybody could replace the links
    assert is_exposed(path)


def test_a_mounted_secret_with_an_access_list_is_refused_although_its_mode_tells_nothing(tmp_path: Path) -> None:
    mount_secret(tmp_path, {"passphrase": WORDS}, group=os.getegid())
    path = located(tmp_path / "passphrase")
    set_list(path, (USER, 4, NOBODY), mode=4)
    assert path.stat().st_mode & 0o777 == 0o440
    assert is_exposed(tmp_path / "passphrase")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_mounted_secret_of_another_group_or_owner_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "passphrase"
    mount_secret(tmp_path, {"passphrase": WORDS}, group=NOBODY)
    assert is_exposed(path)
    os.chown(located(path), 0, os.getegid())
    assert not is_exposed(path)
    os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    assert is_exposed(path)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("elsewhere/passphrase", "..2026"),
        ("..data/other", "..2026"),
        ("..data/passphrase", "../elsewhere"),
        ("..data/passphrase", "elsewhere"),
        ("..data/passphrase", ".."),
        ("..data/passphrase", "/etc"),
    ],
)
def test_no_other_link_is_followed(tmp_path: Path, name: str, data: str) -> None:
    path = tmp_path / "passphrase"
    path.symlink_to(name)
    (tmp_path / "..data").symlink_to(data)
    assert located(path) == path
