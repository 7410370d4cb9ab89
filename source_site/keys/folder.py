"""Keep the source's keys folder: identity, ledger and outbox.

::

    signing.key  tls.key  online.key  online.endorsement  identity.pem
    ledger/ledger.sqlite      a folder of its own: the one place where the process on the network writes
    outbox/GRANT.sealed       what may leave: sealed to one site each
    released/GRANT.ecan       the same in plain, for the officer alone
    public/                   signed statements that anyone may have: revocations, succession
    officer                   statement of the release key: the key of a second officer, who may override an audit
    retired/NUMBER/           the keys before each rotation
"""

import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from protocol.errors import Code, FileError, KeyFileError, MalformedError
from protocol.files import make_private_folder, read_bounded
from protocol.identity import signing
from protocol.identity.identities import MAX_CERTIFICATE_BYTES, Identity, Role, create_identity
from protocol.identity.key_files import (
    ONLINE_ENDORSEMENT_FILE,
    ONLINE_KEY_FILE,
    PUBLIC_FILE,
    SERVER_FILES,
    SIGNING_KEY_FILE,
    has_identity,
    load_ed25519_key,
    load_identity,
    load_public,
    write_identity,
)
from protocol.ledger.store import Ledger

LEDGER_FOLDER = "ledger"
LEDGER_FILE = "ledger.sqlite"
OUTBOX = "outbox"
RELEASED = "released"
PUBLIC = "public"
RETIRED = "retired"

OFFICER_FILE = "officer"
SUCCESSION_FILE = "succession"
REVOCATIONS_FILE = "revocations"

_SUBFOLDERS = (LEDGER_FOLDER, OUTBOX, RELEASED, PUBLIC, RETIRED)
KEY_FILES = (*SERVER_FILES, SIGNING_KEY_FILE)  # the signing key last: with it, a set of keys is whole
READABLE = {PUBLIC_FILE, ONLINE_ENDORSEMENT_FILE}
STAGED = ".next"


@dataclass(frozen=True, kw_only=True)
class KeySet:
    """Hold one set of a source's keys, by their fingerprints.

    Attributes:
        release: fingerprint of the release key, 32 bytes.
        online: fingerprint of the online key, 32 bytes.
        retired: number of the rotation that retired the set; None for the present one.
    """

    release: bytes
    online: bytes
    retired: int | None = None


def init_keys(out: Path, *, suite: str = signing.CLASSIC, passphrase: bytes | None = None) -> str:
    """Create a source's keys and its empty ledger.

    Args:
        out: folder for them, made if need be.
        suite: what the release key signs in.
        passphrase: encrypts the private keys.

    Returns:
        The source's fingerprint in hexadecimal: what target sites must learn by another way.

    Raises:
        KeyFileError: the folder holds keys already.
        FileError: the folder cannot be written.
    """
    if has_identity(out):
        raise KeyFileError(Code.KEY_EXISTS, f"{out} holds keys already; use them or choose another folder.")
    for folder in (out, *(out / name for name in _SUBFOLDERS)):
        make_private_folder(folder)
    # Before the keys: whoever has keys has a ledger, even if this run is killed here.
    Ledger.create(_ledger_file(out))
    identity = create_identity(Role.SOURCE, datetime.now(UTC), signing_key=signing.generate_key(suite))
    write_identity(identity, out, passphrase)
    return identity.fingerprint.hex()


def load_keys(keys_dir: Path, passphrase: bytes | None = None) -> Identity:
    """Read the source's identity.

    Raises:
        KeyFileError: there is none, it is damaged or locked, or it is a target's.
    """
    try:
        identity = load_identity(keys_dir, passphrase)
    except KeyFileError as fault:
        if fault.code is not Code.KEY_LOCKED and has_identity(keys_dir / STAGED):
            raise _half_rotated(keys_dir, fault.code) from fault
        raise
    if identity.role is not Role.SOURCE:
        raise KeyFileError(Code.KEY_DAMAGED, f"{keys_dir} holds a target's keys; name the source's keys folder.")
    return identity


def refuse_half_rotated(keys_dir: Path) -> None:
    """Refuse to work between two identities.

    Nothing is granted or served while a rotation is unfinished.

    Raises:
        KeyFileError: a rotation was interrupted, or is under way.
    """
    if has_identity(keys_dir / STAGED):
        raise _half_rotated(keys_dir, Code.KEY_DAMAGED)


def key_sets(keys_dir: Path, passphrase: bytes | None = None) -> tuple[KeySet, ...]:
    """Return the fingerprints of all keys of this source.

    The present ones, then the retired ones.

    Raises:
        KeyFileError: an online key or a certificate is missing, damaged or locked.
    """
    numbers = sorted(int(path.name) for path in (keys_dir / RETIRED).glob("*") if path.name.isdecimal())
    folders = {None: keys_dir} | {number: keys_dir / RETIRED / str(number) for number in numbers}
    return tuple(
        KeySet(
            release=load_public(folder).fingerprint,
            online=signing.fingerprint_of(
                signing.raw_public_key(load_ed25519_key(folder / ONLINE_KEY_FILE, passphrase))
            ),
            retired=number,
        )
        for number, folder in folders.items()
        if number is None or has_identity(folder)
    )


def open_ledger(keys_dir: Path) -> Ledger:
    """Open the ledger beside the keys.

    Raises:
        FileError: there is none.
    """
    path = _ledger_file(keys_dir)
    with contextlib.suppress(PermissionError):  # which the ledger explains as soon as it is used
        if not path.exists():
            raise FileError(
                Code.LEDGER,
                f"{keys_dir} holds no ledger; name the source's keys folder, or if this is it, restore the ledger "
                "from a backup, for a new one would forget which grants were served.",
            )
    return Ledger(path)


def outbox_file(keys_dir: Path, grant: bytes) -> Path:
    """Return the file of a grant's sealed bundle, which may leave."""
    return keys_dir / OUTBOX / f"{grant.hex()}.sealed"


def released_file(keys_dir: Path, grant: bytes) -> Path:
    """Return the file with the plain copy of what was sealed for a grant."""
    return keys_dir / RELEASED / f"{grant.hex()}.ecan"


def succession_file(keys_dir: Path) -> Path:
    """Return the file in which an old key names its successor.

    It holds the latest such statement; there is none before a rotation.
    """
    return keys_dir / PUBLIC / SUCCESSION_FILE


def revocations_file(keys_dir: Path) -> Path:
    """Return the file of the signed revocation list; it may not exist."""
    return keys_dir / PUBLIC / REVOCATIONS_FILE


def _half_rotated(keys_dir: Path, code: Code) -> KeyFileError:
    return KeyFileError(
        code, f"A rotation of the keys in {keys_dir} was interrupted; run `ecan-source keys rotate` again."
    )


def read_key_file(path: Path) -> bytes:
    """Read one of the keys' files, which are small."""
    try:
        return read_bounded(path, MAX_CERTIFICATE_BYTES)
    except (FileError, MalformedError) as error:
        raise KeyFileError(Code.KEY_MISSING, f"{path} cannot be read; restore it from a backup.") from error


def _ledger_file(keys_dir: Path) -> Path:
    return keys_dir / LEDGER_FOLDER / LEDGER_FILE
