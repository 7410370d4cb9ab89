"""Keep a second officer's key, and the statement that it counts."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol.bundle.override import MAX_STATEMENT_BYTES, open_officer, sign_officer
from protocol.errors import Code, FileError, KeyFileError, MalformedError, UnauthenticError
from protocol.files import make_private_folder, read_bounded, write_atomic
from protocol.identity import signing
from protocol.identity.identities import private_pem
from protocol.identity.key_files import SIGNING_KEY_FILE, has_identity
from source_site.keys.folder import OFFICER_FILE, load_keys, refuse_half_rotated


def officer_statement(keys_dir: Path) -> bytes:
    """Return the release key's word for a second officer's key.

    Raises:
        KeyFileError: there is none.
    """
    try:
        return read_bounded(keys_dir / OFFICER_FILE, MAX_STATEMENT_BYTES)
    except FileError as fault:
        raise KeyFileError(
            Code.KEY_MISSING,
            f"{keys_dir} names no second officer; register one with `ecan-source officer register`.",
        ) from fault


def register_officer(keys_dir: Path, officer: bytes, *, passphrase: bytes | None = None) -> None:
    """Name the key of a second officer, who may override an audit.

    An officer who is named stays.

    After a rotation of the keys the word of the old release key holds no more, and the officer is named anew.

    Args:
        keys_dir: the source's keys.
        officer: fingerprint of the officer's key, 32 bytes.
        passphrase: opens the keys if they are encrypted.

    Raises:
        KeyFileError: another officer is named already, or the keys cannot be read.
        RefusedError: it is the release key itself.
        FileError: it cannot be written.
    """
    refuse_half_rotated(keys_dir)
    identity = load_keys(keys_dir, passphrase)
    if _named_officer(keys_dir, identity.fingerprint) not in (None, officer):
        raise KeyFileError(Code.KEY_EXISTS, f"{keys_dir} names another officer already; ask that person.")
    write_atomic(keys_dir / OFFICER_FILE, sign_officer(officer, identity.signing_key), 0o644)


def _named_officer(keys_dir: Path, issuer: bytes) -> bytes | None:
    """Return the officer whom a release key has named, or None.

    None before one is named, and after a rotation.
    """
    try:
        return open_officer(officer_statement(keys_dir), issuer)
    except (KeyFileError, MalformedError, UnauthenticError):
        return None


def init_officer(out: Path, *, passphrase: bytes | None = None) -> str:
    """Create a second officer's key, kept out of the first one's reach.

    Args:
        out: folder for it, made if need be.
        passphrase: encrypts it.

    Returns:
        Its fingerprint in hexadecimal: what `register_officer` is told.

    Raises:
        KeyFileError: the folder holds a key already.
        FileError: the folder cannot be written.
    """
    if has_identity(out):
        raise KeyFileError(Code.KEY_EXISTS, f"{out} holds keys already; use them or choose another folder.")
    make_private_folder(out)
    key = Ed25519PrivateKey.generate()
    write_atomic(out / SIGNING_KEY_FILE, private_pem(key, passphrase))
    return signing.fingerprint_of(signing.raw_public_key(key)).hex()
