import stat

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from protocol.errors import KeyFileError
from protocol.identity.identities import Role, private_pem
from protocol.identity.key_files import SIGNING_KEY_FILE, is_locked, load_ed25519_key, load_identity, write_identity
from protocol.identity.locked_keys import BEGINS, ENDS, lock, unlock
from protocol.identity.sealing_keys import SealingKey
from tests.protocol.samples import RELEASE_KEY, flipped
from tests.support.sites import new_identity

PASSPHRASE = b"sixteen letters!"


def test_a_locked_key_opens_with_its_passphrase_alone():
    locked = lock(b"a key", PASSPHRASE)
    assert unlock(locked, PASSPHRASE) == b"a key"
    for wrong in (b"", b"sixteen letters?"):
        with pytest.raises(ValueError, match="passphrase"):
            unlock(locked, wrong)
    with pytest.raises(TypeError):
        unlock(locked, None)


def test_no_two_locked_keys_are_alike():
    assert lock(b"a key", PASSPHRASE) != lock(b"a key", PASSPHRASE)


def test_a_changed_file_is_refused():
    locked = lock(b"a key", PASSPHRASE)
    for bit in range(0, 8 * len(locked), 97):
        with pytest.raises(ValueError):
            unlock(flipped(locked, bit), PASSPHRASE)
    for other in (b"", BEGINS + ENDS, locked[:-1], locked + b"\n", BEGINS + b"AgAA\n" + ENDS):
        with pytest.raises(ValueError):
            unlock(other, PASSPHRASE)


@pytest.mark.parametrize("role", list(Role))
def test_every_private_key_of_an_identity_is_written_so_and_read_again(tmp_path, role):
    identity = new_identity(role)
    write_identity(identity, tmp_path, PASSPHRASE)
    keys = [path for path in tmp_path.iterdir() if path.suffix == ".key"]
    assert len(keys) == 3
    assert all(path.read_bytes().startswith(BEGINS) for path in keys)
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in keys)
    assert is_locked(tmp_path)
    read = load_identity(tmp_path, PASSPHRASE)
    assert private_pem(read.signing_key) == private_pem(identity.signing_key)
    with pytest.raises(KeyFileError, match="does not open"):
        load_identity(tmp_path, b"another passphrase")
    with pytest.raises(KeyFileError, match="is encrypted"):
        load_identity(tmp_path)


def test_a_key_file_of_an_earlier_build_still_opens(tmp_path):
    path = tmp_path / SIGNING_KEY_FILE
    old = RELEASE_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(PASSPHRASE))
    path.write_bytes(old)
    path.chmod(0o600)
    assert is_locked(tmp_path)
    assert private_pem(load_ed25519_key(path, PASSPHRASE)) == private_pem(RELEASE_KEY)
    with pytest.raises(KeyFileError, match="does not open"):
        load_ed25519_key(path, b"another passphrase")


def test_a_sealing_key_of_an_earlier_build_still_opens():
    key = SealingKey.generate()
    halves = (
        half.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(PASSPHRASE))
        for half in (key.mlkem, key.x25519)
    )
    assert SealingKey.from_pem(b"".join(halves), PASSPHRASE).public_key == key.public_key
