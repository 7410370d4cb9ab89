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
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol.bundle.override import MAX_STATEMENT_BYTES, open_officer, sign_officer
from protocol.errors import Code, KeyFault, Malformed, StorageFault, Unauthentic
from protocol.files import cannot_write, make_private_folder, read_bounded, write_atomic
from protocol.identity import signing
from protocol.identity.identities import MAX_CERTIFICATE_BYTES, Identity, Role, create_identity, private_pem
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
from protocol.ledger.grants import GrantRecord
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
_KEY_FILES = (*SERVER_FILES, SIGNING_KEY_FILE)  # the signing key last: with it, a set of keys is whole
_READABLE = {PUBLIC_FILE, ONLINE_ENDORSEMENT_FILE}
_NEXT = ".next"


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


@dataclass(frozen=True, kw_only=True)
class Rotation:
    """Describe what a rotation did.

    Attributes:
        fingerprint: the new release key's, 32 bytes; targets learn it from ``public/succession``.
        denied: the grants that were open; what they grant is signed with the old key.
    """

    fingerprint: bytes
    denied: tuple[GrantRecord, ...]


def init_keys(out: Path, *, passphrase: bytes | None = None) -> str:
    """Create a source's keys and its empty ledger.

    Args:
        out: folder for them, made if need be.
        passphrase: encrypts the private keys.

    Returns:
        The source's fingerprint in hexadecimal: what target sites must learn by another way.

    Raises:
        KeyFault: the folder holds keys already.
        StorageFault: the folder cannot be written.
    """
    if has_identity(out):
        raise KeyFault(Code.KEY_EXISTS, f"{out} holds keys already; use them or choose another folder.")
    for folder in (out, *(out / name for name in _SUBFOLDERS)):
        make_private_folder(folder)
    # Before the keys: whoever has keys has a ledger, even if this run is killed here.
    Ledger.create(_ledger_file(out))
    identity = create_identity(Role.SOURCE, datetime.now(UTC))
    write_identity(identity, out, passphrase)
    return identity.fingerprint.hex()


def load_keys(keys_dir: Path, passphrase: bytes | None = None) -> Identity:
    """Read the source's identity.

    Raises:
        KeyFault: there is none, it is damaged or locked, or it is a target's.
    """
    try:
        identity = load_identity(keys_dir, passphrase)
    except KeyFault as fault:
        if fault.code is not Code.KEY_LOCKED and has_identity(keys_dir / _NEXT):
            raise _half_rotated(keys_dir, fault.code) from fault
        raise
    if identity.role is not Role.SOURCE:
        raise KeyFault(Code.KEY_DAMAGED, f"{keys_dir} holds a target's keys; name the source's keys folder.")
    return identity


def refuse_half_rotated(keys_dir: Path) -> None:
    """Refuse to work between two identities.

    Nothing is granted or served while a rotation is unfinished.

    Raises:
        KeyFault: a rotation was interrupted, or is under way.
    """
    if has_identity(keys_dir / _NEXT):
        raise _half_rotated(keys_dir, Code.KEY_DAMAGED)


def key_sets(keys_dir: Path, passphrase: bytes | None = None) -> tuple[KeySet, ...]:
    """Return the fingerprints of all keys of this source.

    The present ones, then the retired ones.

    Raises:
        KeyFault: an online key or a certificate is missing, damaged or locked.
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
        StorageFault: there is none.
    """
    path = _ledger_file(keys_dir)
    with contextlib.suppress(PermissionError):  # which the ledger explains as soon as it is used
        if not path.exists():
            raise StorageFault(
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


def rotate_keys(keys_dir: Path, *, now: datetime, passphrase: bytes | None = None) -> Rotation:
    """Replace the identity by a new one.

    The old one vouches for it and is kept.

    Everything new is whole on the disk before the first old file is replaced, and the new signing key, which is
    replaced last, decides which identity holds. So a run that was killed goes on where it was when it is
    repeated; until then the keys folder may hold files of both, which `load_keys` refuses to use.

    Undelivered grants are signed with the old key. They are denied once the new key holds, because from then on
    nothing can be granted under the old one. Until they are denied, nothing is granted under the new one.

    Args:
        keys_dir: the source's keys.
        now: the present, with a time zone.
        passphrase: opens the old private keys, and encrypts the new ones.

    Raises:
        KeyFault: the keys are missing, damaged or locked.
        StorageFault: the ledger cannot be used, a file cannot be written, or another run is at it; run it again.
    """
    from source_site.release.outbox import clear_ended

    with _alone(keys_dir):
        staged = keys_dir / _NEXT
        if not _is_committed(keys_dir, staged):
            if not has_identity(staged):
                load_keys(keys_dir, passphrase)  # nothing is begun with keys that could not be retired
                open_ledger(keys_dir).head()
                _discard(staged)
                write_identity(create_identity(Role.SOURCE, now), staged, passphrase)
            new = load_keys(staged, passphrase)
            retired = _retire(keys_dir)
            _hand_over(keys_dir, load_keys(retired, passphrase), new, retired, now)
            _copy_keys(staged, keys_dir)
        ledger = open_ledger(keys_dir)
        denied = ledger.deny_open(now_s=int(now.timestamp()))
        clear_ended(keys_dir, ledger.records())
        _discard(staged)
        return Rotation(fingerprint=load_keys(keys_dir, passphrase).fingerprint, denied=denied)


def succession_file(keys_dir: Path) -> Path:
    """Return the file in which an old key names its successor.

    It holds the latest such statement; there is none before a rotation.
    """
    return keys_dir / PUBLIC / SUCCESSION_FILE


def revocations_file(keys_dir: Path) -> Path:
    """Return the file of the signed revocation list; it may not exist."""
    return keys_dir / PUBLIC / REVOCATIONS_FILE


def officer_statement(keys_dir: Path) -> bytes:
    """Return the release key's word for a second officer's key.

    Raises:
        KeyFault: there is none.
    """
    try:
        return read_bounded(keys_dir / OFFICER_FILE, MAX_STATEMENT_BYTES)
    except StorageFault as fault:
        raise KeyFault(
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
        KeyFault: another officer is named already, or the keys cannot be read.
        Refused: it is the release key itself.
        StorageFault: it cannot be written.
    """
    refuse_half_rotated(keys_dir)
    identity = load_keys(keys_dir, passphrase)
    if _named_officer(keys_dir, identity.fingerprint) not in (None, officer):
        raise KeyFault(Code.KEY_EXISTS, f"{keys_dir} names another officer already; ask that person.")
    write_atomic(keys_dir / OFFICER_FILE, sign_officer(officer, identity.signing_key), 0o644)


def _named_officer(keys_dir: Path, issuer: bytes) -> bytes | None:
    """Return the officer whom a release key has named, or None.

    None before one is named, and after a rotation.
    """
    try:
        return open_officer(officer_statement(keys_dir), issuer)
    except (KeyFault, Malformed, Unauthentic):
        return None


def init_officer(out: Path, *, passphrase: bytes | None = None) -> str:
    """Create a second officer's key, kept out of the first one's reach.

    Args:
        out: folder for it, made if need be.
        passphrase: encrypts it.

    Returns:
        Its fingerprint in hexadecimal: what `register_officer` is told.

    Raises:
        KeyFault: the folder holds a key already.
        StorageFault: the folder cannot be written.
    """
    if has_identity(out):
        raise KeyFault(Code.KEY_EXISTS, f"{out} holds keys already; use them or choose another folder.")
    make_private_folder(out)
    key = Ed25519PrivateKey.generate()
    write_atomic(out / SIGNING_KEY_FILE, private_pem(key, passphrase))
    return signing.fingerprint_of(signing.raw_public_key(key)).hex()


def _half_rotated(keys_dir: Path, code: Code) -> KeyFault:
    return KeyFault(code, f"A rotation of the keys in {keys_dir} was interrupted; run `ecan-source keys rotate` again.")


def _is_committed(keys_dir: Path, staged: Path) -> bool:
    """Return whether the staged identity holds, so that only tidying is left."""
    return has_identity(staged) and _signing_key(staged) == _signing_key(keys_dir)


def _retire(keys_dir: Path) -> Path:
    """Copy the present keys to ``retired/NUMBER`` unless that is done.

    A killed run may have done it.
    """
    make_private_folder(keys_dir / RETIRED)
    last = max((int(path.name) for path in (keys_dir / RETIRED).iterdir() if path.name.isdecimal()), default=0)
    retired = keys_dir / RETIRED / str(last)
    if last and not has_identity(retired):  # begun, but not finished
        _copy_keys(keys_dir, retired)
    elif not last or _signing_key(retired) != _signing_key(keys_dir):
        retired = keys_dir / RETIRED / str(last + 1)
        make_private_folder(retired)
        _copy_keys(keys_dir, retired)
    return retired


def _hand_over(keys_dir: Path, old: Identity, new: Identity, retired: Path, now: datetime) -> None:
    """Publish the succession, and the revocation list under the new key.

    Who trusts the new key alone must still learn what the old one has withdrawn.
    """
    from protocol.statements.succession import sign_succession
    from source_site.release.revoke import last_list, renew_revocations

    statement = sign_succession(
        old.signing_key,
        new.signing_key,
        int(retired.name),
        last_list=last_list(keys_dir, old, new),
        last_release=max((record.release for record in open_ledger(keys_dir).records()), default=0),
    )
    make_private_folder(keys_dir / PUBLIC)
    write_atomic(retired / SUCCESSION_FILE, statement, 0o644)  # outlives the next rotation
    write_atomic(succession_file(keys_dir), statement, 0o644)
    renew_revocations(keys_dir, old, new, now_s=int(now.timestamp()))


def _copy_keys(origin: Path, folder: Path) -> None:
    """Copy a set of keys as it lies on the disk, the signing key last.

    Each file is replaced in one step.
    """
    for name in _KEY_FILES:
        write_atomic(folder / name, _read(origin / name), 0o644 if name in _READABLE else 0o600)


def _discard(staged: Path) -> None:
    """Remove a staged identity, its signing key last.

    Until then that key tells what the folder was.
    """
    try:
        for name in _KEY_FILES:
            (staged / name).unlink(missing_ok=True)
        for leftover in staged.glob(".*.part"):  # of a write that was killed
            leftover.unlink()
        if staged.exists():
            staged.rmdir()
    except OSError as error:
        raise cannot_write(staged, error) from error


def _signing_key(folder: Path) -> bytes:
    return _read(folder / SIGNING_KEY_FILE)


def _read(path: Path) -> bytes:
    try:
        return read_bounded(path, MAX_CERTIFICATE_BYTES)
    except (StorageFault, Malformed) as error:
        raise KeyFault(Code.KEY_MISSING, f"{path} cannot be read; restore it from a backup.") from error


def _ledger_file(keys_dir: Path) -> Path:
    return keys_dir / LEDGER_FOLDER / LEDGER_FILE


@contextlib.contextmanager
def _alone(keys_dir: Path) -> Iterator[None]:
    """Keep a second run from working on the same keys.

    The system releases the lock even of a killed one.
    """
    try:
        descriptor = os.open(keys_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise KeyFault(Code.KEY_MISSING, f"{keys_dir} cannot be opened; name the source's keys folder.") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StorageFault(Code.BUSY, f"Another run is rotating the keys in {keys_dir}; wait for it.") from error
        yield
    finally:
        os.close(descriptor)
