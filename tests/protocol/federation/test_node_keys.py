"""Node keys: how they lie on the disk, what is refused, and how Flower gets one."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from protocol.errors import Code, KeyFault, Unauthentic
from protocol.federation.node_keys import (
    SIGNATURE_BYTES,
    load_node_key,
    load_public,
    make_node_key,
    pem_of,
    sign,
    verify,
)
from protocol.identity.identities import private_pem
from protocol.identity.key_files import PASSPHRASE_VARIABLE

PASSPHRASE = b"correct horse battery staple"
P256 = ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(65537, 2048)
ED25519 = ed25519.Ed25519PrivateKey.generate()


@pytest.fixture(autouse=True)
def without_passphrase(monkeypatch):
    monkeypatch.delenv(PASSPHRASE_VARIABLE, raising=False)


def with_passphrase(monkeypatch, folder: Path, passphrase: bytes) -> None:
    path = folder / "passphrase"
    path.write_bytes(passphrase)
    path.chmod(0o600)
    monkeypatch.setenv(PASSPHRASE_VARIABLE, str(path))


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE])
def test_a_node_key_is_read_back_as_it_was_made(tmp_path, monkeypatch, passphrase):
    if passphrase:
        with_passphrase(monkeypatch, tmp_path, passphrase)
    path = tmp_path / "new" / "node.key"
    public = make_node_key(path)
    assert load_node_key(path).public_key() == load_public(public)
    assert (path.stat().st_mode & 0o777, public.stat().st_mode & 0o777) == (0o600, 0o644)
    assert public.read_bytes().startswith(b"ecdsa-sha2-nistp384 ")


def test_an_encrypted_key_lies_on_the_disk_as_one_and_goes_through_a_pipe_as_text(tmp_path, monkeypatch):
    with_passphrase(monkeypatch, tmp_path, PASSPHRASE)
    make_node_key(tmp_path / "node.key")
    assert b"LOCKED KEY" in (tmp_path / "node.key").read_bytes().splitlines()[0]
    told = pem_of(load_node_key(tmp_path / "node.key"))
    assert load_pem_private_key(told.encode(), None).public_key() == load_public(tmp_path / "node.pub")


def test_a_key_that_is_there_is_never_overwritten(tmp_path):
    make_node_key(tmp_path / "node.key")
    before = (tmp_path / "node.key").read_bytes()
    with pytest.raises(KeyFault, match="is there already") as caught:
        make_node_key(tmp_path / "node.key")
    assert caught.value.code is Code.KEY_EXISTS
    assert (tmp_path / "node.key").read_bytes() == before


def test_a_passphrase_that_is_too_short_makes_no_key(tmp_path, monkeypatch):
    with_passphrase(monkeypatch, tmp_path, b"short")
    with pytest.raises(KeyFault, match="too short"):
        make_node_key(tmp_path / "node.key")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["passphrase"]


@pytest.mark.parametrize("given", [None, b"another passphrase altogether"])
def test_a_locked_key_opens_with_its_own_passphrase_alone(tmp_path, monkeypatch, given):
    with_passphrase(monkeypatch, tmp_path, PASSPHRASE)
    make_node_key(tmp_path / "node.key")
    if given is None:
        monkeypatch.delenv(PASSPHRASE_VARIABLE)
        monkeypatch.setattr("protocol.identity.passphrase._at_a_terminal", lambda: False)
    else:
        with_passphrase(monkeypatch, tmp_path, given)
    with pytest.raises(KeyFault) as caught:
        load_node_key(tmp_path / "node.key")
    assert (caught.value.code, caught.value.exit_code) == (Code.KEY_LOCKED, 3)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_private_key_that_others_can_read_is_refused(tmp_path, mode):
    make_node_key(tmp_path / "node.key")
    (tmp_path / "node.key").chmod(mode)
    with pytest.raises(KeyFault, match="chmod 600") as caught:
        load_node_key(tmp_path / "node.key")
    assert caught.value.code is Code.KEY_EXPOSED


@pytest.mark.parametrize("key", [P256, RSA, ED25519], ids=["another-curve", "rsa", "ed25519"])
@pytest.mark.parametrize("is_locked", [False, True])
def test_a_private_key_of_another_kind_is_refused(tmp_path, monkeypatch, key, is_locked):
    with_passphrase(monkeypatch, tmp_path, PASSPHRASE)
    (tmp_path / "node.key").write_bytes(private_pem(key, PASSPHRASE if is_locked else None))
    (tmp_path / "node.key").chmod(0o600)
    with pytest.raises(KeyFault, match="no node key") as caught:
        load_node_key(tmp_path / "node.key")
    assert caught.value.code is Code.KEY_DAMAGED


@pytest.mark.parametrize("key", [P256, RSA, ED25519], ids=["another-curve", "rsa", "ed25519"])
def test_a_public_key_of_another_kind_is_refused(tmp_path, key):
    path = tmp_path / "peer.pub"
    path.write_bytes(key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))
    with pytest.raises(KeyFault, match="no node key"):
        load_public(path)


@pytest.mark.parametrize("content", [b"", b"ecdsa-sha2-nistp384 AAAA", b"\xff" * 50, None, b"a" * 5000])
def test_a_damaged_or_missing_key_file_is_a_fault_of_keys(tmp_path, content):
    for name, load in (("node.key", load_node_key), ("node.pub", load_public)):
        if content is not None:
            (tmp_path / name).write_bytes(content)
            (tmp_path / name).chmod(0o600)
        with pytest.raises(KeyFault):
            load(tmp_path / name)


def test_a_signature_holds_for_its_statement_and_its_key_alone():
    key, other = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
    signature = sign(key, b"statement")
    assert len(signature) == SIGNATURE_BYTES
    verify(key.public_key(), b"statement", signature)
    flipped = bytes([signature[0] ^ 1]) + signature[1:]
    for public, statement, given in [
        (other.public_key(), b"statement", signature),
        (key.public_key(), b"another", signature),
        (key.public_key(), b"statement", flipped),
        (key.public_key(), b"statement", signature[:-1]),
        (key.public_key(), b"statement", signature + b"\0"),
        (key.public_key(), b"statement", bytes(SIGNATURE_BYTES)),
        (key.public_key(), b"statement", b""),
    ]:
        with pytest.raises(Unauthentic):
            verify(public, statement, given)
