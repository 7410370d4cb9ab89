"""Store an identity in the keys folder, and read it back.

Each key has a file of its own, so that a process gets only those that it needs: the one on the network reads
`SERVER_FILES` and never the release key. Private files are for their owner alone, and a file that others can read
is refused. Files that are read together must belong to one identity. The exception is a target's sealing key, which
nothing in the folder can prove. `protocol.identity.identities` explains the keys.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from protocol.errors import Code, FileError, KeyFileError, MalformedError, UnauthenticError
from protocol.files import make_private_folder, read_bounded, write_atomic
from protocol.identity import signing
from protocol.identity.handed_over import is_exposed, located
from protocol.identity.hybrid import HybridKey, is_pair
from protocol.identity.identities import (
    MAX_CERTIFICATE_BYTES,
    Identity,
    PublicIdentity,
    Role,
    ServerIdentity,
    check_online,
    is_endorsement,
    private_pem,
    read_public,
)
from protocol.identity.locked_keys import BEGINS, unlock
from protocol.identity.sealing_keys import SealingKey
from protocol.identity.signing import SigningKey

SIGNING_KEY_FILE = "signing.key"
TLS_KEY_FILE = "tls.key"
ONLINE_KEY_FILE = "online.key"
SEALING_KEY_FILE = "sealing.key"
ONLINE_ENDORSEMENT_FILE = "online.endorsement"
PUBLIC_FILE = "identity.pem"

PASSPHRASE_VARIABLE = "ECAN_PASSPHRASE_FILE"
"""Names the file that holds the passphrase; see `protocol.identity.passphrase`."""

PRIVATE_FILES = (TLS_KEY_FILE, ONLINE_KEY_FILE, SEALING_KEY_FILE, SIGNING_KEY_FILE)
SERVER_FILES = (PUBLIC_FILE, TLS_KEY_FILE, ONLINE_ENDORSEMENT_FILE, ONLINE_KEY_FILE)
"""All that `load_server_identity` reads."""

_ENCRYPTED = (BEGINS, b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
"""How an encrypted key begins: as it is written, and as earlier builds wrote it."""

_Key = TypeVar("_Key")


def has_identity(folder: Path) -> bool:
    """Return whether a folder holds an identity, that is, its signing key."""
    return (folder / SIGNING_KEY_FILE).exists()


def is_locked(folder: Path) -> bool:
    """Return whether a private key in a folder is encrypted.

    Then a passphrase is needed.
    """
    return any(is_encrypted(folder / name) for name in PRIVATE_FILES)


def is_encrypted(path: Path) -> bool:
    """Return whether a private key file is encrypted.

    Of a file that cannot be read this says no; whoever needs the key says what is wrong with it.
    """
    try:
        return read_bounded(located(path), MAX_CERTIFICATE_BYTES).startswith(_ENCRYPTED)
    except (FileError, MalformedError):
        return False


def write_identity(identity: Identity, folder: Path, passphrase: bytes | None = None) -> None:
    """Write an identity to a folder, made if need be; private files are 0600.

    The signing key comes last: a run that was killed before it has made no identity and can be repeated.

    Args:
        identity: the keys.
        folder: where to.
        passphrase: encrypts all private keys; None leaves them as they are.

    Raises:
        KeyFileError: the folder holds an identity already; keys are never overwritten.
        FileError: the folder cannot be written.
    """
    if has_identity(folder):
        raise KeyFileError(Code.KEY_EXISTS, f"{folder} holds an identity already; use it or name another folder.")
    make_private_folder(folder)
    write_atomic(folder / PUBLIC_FILE, identity.certificate_pem, 0o644)
    write_atomic(folder / TLS_KEY_FILE, private_pem(identity.tls_key, passphrase))
    if identity.online_endorsement is not None:
        write_atomic(folder / ONLINE_ENDORSEMENT_FILE, identity.online_endorsement, 0o644)
    if identity.online_key is not None:
        write_atomic(folder / ONLINE_KEY_FILE, private_pem(identity.online_key, passphrase))
    if identity.sealing_key is not None:
        write_atomic(folder / SEALING_KEY_FILE, identity.sealing_key.pem(passphrase))
    write_atomic(folder / SIGNING_KEY_FILE, private_pem(identity.signing_key, passphrase))


def load_identity(folder: Path, passphrase: bytes | None = None) -> Identity:
    """Read an identity and check that its files belong together.

    One file stands alone: nothing in the folder vouches for a target's sealing key, only the requests that were
    made with it.

    Args:
        folder: where the identity lies.
        passphrase: opens the private keys if they are encrypted.

    Raises:
        KeyFileError: a file is missing, damaged, locked, readable by others, or not of the same identity.
    """
    signing_key = load_signing_key(folder / SIGNING_KEY_FILE, passphrase)
    public, tls_key = _load_certified_key(folder, passphrase)
    if signing.fingerprint_of(signing.raw_public_key(signing_key)) != public.fingerprint:
        raise mixed_keys(folder)
    if public.role is Role.SOURCE:
        online_key, online_endorsement = _load_online_key(folder, passphrase, public.fingerprint)
        sealing_key = None
    else:
        online_key, online_endorsement = None, None
        sealing_key = load_private_key(folder / SEALING_KEY_FILE, passphrase, SealingKey.from_pem)
    return Identity(
        role=public.role,
        signing_key=signing_key,
        tls_key=tls_key,
        certificate=public.certificate,
        online_key=online_key,
        online_endorsement=online_endorsement,
        sealing_key=sealing_key,
    )


def load_public(folder: Path) -> PublicIdentity:
    """Read whose keys a folder holds, without touching one of them.

    Raises:
        KeyFileError: the certificate is missing or damaged.
    """
    path = folder / PUBLIC_FILE
    try:
        return read_public(_read_key_file(path))
    except UnauthenticError as error:
        raise _damaged(path) from error


def load_server_identity(folder: Path, passphrase: bytes | None = None) -> ServerIdentity:
    """Read the keys of a source's network process, and check them.

    They must belong together.

    Opens `SERVER_FILES` and nothing else: the release key may be out of this process's reach, or elsewhere.

    Raises:
        KeyFileError: a file is missing, damaged, locked, readable by others, or not of the same source.
    """
    public, tls_key = _load_certified_key(folder, passphrase)
    if public.role is not Role.SOURCE:
        raise KeyFileError(Code.KEY_DAMAGED, f"{folder} holds a target's keys; name the source's keys folder.")
    online_key, online_endorsement = _load_online_key(folder, passphrase, public.fingerprint)
    return ServerIdentity(
        fingerprint=public.fingerprint,
        certificate=public.certificate,
        certificate_pem=public.certificate_pem,
        tls_key_pem=private_pem(tls_key),
        online_key=online_key,
        online_endorsement=online_endorsement,
    )


def load_ed25519_key(path: Path, passphrase: bytes | None) -> Ed25519PrivateKey:
    """Read one private key file.

    Raises:
        KeyFileError: it is missing, damaged, locked, readable by others, or of another kind.
    """
    key = load_private_key(path, passphrase, read_pem)
    if not isinstance(key, Ed25519PrivateKey):
        raise _damaged(path)
    return key


def load_signing_key(path: Path, passphrase: bytes | None) -> SigningKey:
    """Read a key file of either suite; see `load_ed25519_key`."""
    key = load_private_key(path, passphrase, _read_signing_pem)
    if not isinstance(key, SigningKey):
        raise _damaged(path)
    return key


def _read_signing_pem(data: bytes, passphrase: bytes | None) -> PrivateKeyTypes | HybridKey:
    pem = unlock(data, passphrase) if data.startswith(BEGINS) else data
    return HybridKey.from_pem(pem) if is_pair(pem) else read_pem(data, passphrase)


def load_private_key(path: Path, passphrase: bytes | None, read: Callable[[bytes, bytes | None], _Key]) -> _Key:
    """Read one private key file of any kind.

    Args:
        path: the file.
        passphrase: opens it if it is encrypted.
        read: makes a key of the file's bytes and the passphrase.

    Raises:
        KeyFileError: it is missing, damaged, locked, or readable by others.
    """
    pem = _read_key_file(path)
    refuse_exposed(path)
    is_locked_file = pem.startswith(_ENCRYPTED)
    if is_locked_file and passphrase is None:
        raise KeyFileError(
            Code.KEY_LOCKED,
            f"{path} is encrypted; write its passphrase into a file that only you can read and name that file in "
            f"{PASSPHRASE_VARIABLE}, or run the command in a terminal.",
        )
    try:
        return read(pem, passphrase if is_locked_file else None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if is_locked_file:  # a wrong passphrase and a damaged file look alike
            raise KeyFileError(
                Code.KEY_LOCKED,
                f"The passphrase does not open {path}; give the right one, or restore the file from a backup.",
            ) from error
        raise _damaged(path) from error


def read_pem(data: bytes, passphrase: bytes | None) -> PrivateKeyTypes:
    """Read a private key that is plain or encrypted in either form.

    Args:
        data: the file's bytes.
        passphrase: opens it; None if it is plain.

    Raises:
        ValueError: it is damaged, or the passphrase is wrong.
        TypeError: a passphrase is missing, or given for a plain key.
    """
    if data.startswith(BEGINS):
        return load_pem_private_key(unlock(data, passphrase), None)
    return load_pem_private_key(data, passphrase)


def refuse_exposed(path: Path) -> None:
    """Refuse a private key file that others can access.

    The file's content is not read.

    Raises:
        KeyFileError: others have access to it.
    """
    if is_exposed(path):
        raise KeyFileError(Code.KEY_EXPOSED, f"{path} can be read by other users; run `chmod 600 {path}`.")


def mixed_keys(folder: Path) -> KeyFileError:
    """Return the error for a keys folder with files of two identities."""
    return KeyFileError(
        Code.KEY_DAMAGED, f"The files in {folder} do not belong together; restore them from one backup."
    )


def _load_certified_key(folder: Path, passphrase: bytes | None) -> tuple[PublicIdentity, ec.EllipticCurvePrivateKey]:
    """Load a folder's certificate with its private key."""
    tls_key = load_private_key(folder / TLS_KEY_FILE, passphrase, read_pem)
    public = load_public(folder)
    if not isinstance(tls_key, ec.EllipticCurvePrivateKey):
        raise _damaged(folder / TLS_KEY_FILE)
    if tls_key.public_key() != public.certificate.public_key():
        raise mixed_keys(folder)
    return public, tls_key


def _load_online_key(folder: Path, passphrase: bytes | None, issuer: bytes) -> tuple[Ed25519PrivateKey, bytes]:
    """Load a source's online key with its endorsement."""
    online_key = load_ed25519_key(folder / ONLINE_KEY_FILE, passphrase)
    endorsement = _read_key_file(folder / ONLINE_ENDORSEMENT_FILE)
    if not is_endorsement(endorsement):
        raise _damaged(folder / ONLINE_ENDORSEMENT_FILE)
    try:
        check_online(endorsement, signing.raw_public_key(online_key), issuer)
    except UnauthenticError as error:
        raise mixed_keys(folder) from error
    return online_key, endorsement


def _read_key_file(path: Path) -> bytes:
    try:
        return read_bounded(located(path), MAX_CERTIFICATE_BYTES)
    except (FileError, MalformedError) as error:
        raise KeyFileError(
            Code.KEY_MISSING, f"{path} cannot be read; restore it from a backup or create new keys elsewhere."
        ) from error


def _damaged(path: Path) -> KeyFileError:
    return KeyFileError(Code.KEY_DAMAGED, f"{path} is not a valid file of its kind; restore it from a backup.")
