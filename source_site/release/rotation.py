"""Replace a source's keys by new ones, which the old ones vouch for."""

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from protocol.errors import Code, KeyFileError
from protocol.files import cannot_write, make_private_folder, write_atomic
from protocol.identity import signing
from protocol.identity.identities import Identity, Role, create_identity
from protocol.identity.key_files import SIGNING_KEY_FILE, has_identity, write_identity
from protocol.ledger.grants import GrantRecord
from protocol.locks import locked
from protocol.statements import succession
from source_site.keys.folder import (
    KEY_FILES,
    PUBLIC,
    READABLE,
    RETIRED,
    STAGED,
    SUCCESSION_FILE,
    load_keys,
    open_ledger,
    read_key_file,
    succession_file,
)


@dataclass(frozen=True, kw_only=True)
class Rotation:
    """Describe what a rotation did.

    Attributes:
        fingerprint: the new release key's, 32 bytes; targets learn it from ``public/succession``.
        denied: the grants that were open; what they grant is signed with the old key.
    """

    fingerprint: bytes
    denied: tuple[GrantRecord, ...]


def rotate_keys(
    keys_dir: Path, *, now: datetime, suite: str | None = None, passphrase: bytes | None = None
) -> Rotation:
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
        suite: what the new release key signs in; None for the suite of the old one.
        passphrase: opens the old private keys, and encrypts the new ones.

    Raises:
        KeyFileError: the keys are missing, damaged or locked.
        RefusedError: the new suite is weaker than the old one.
        FileError: the ledger cannot be used, a file cannot be written, or another run is at it; run it again.
    """
    from source_site.release.outbox import clear_ended

    with locked(_opened(keys_dir), f"Another run is rotating the keys in {keys_dir}; wait for it."):
        staged = keys_dir / STAGED
        if not _is_committed(keys_dir, staged):
            if not has_identity(staged):
                old = load_keys(keys_dir, passphrase)  # nothing is begun with keys that could not be retired
                new_key = _new_key(old.signing_key, suite)
                open_ledger(keys_dir).head()
                _discard(staged)
                write_identity(create_identity(Role.SOURCE, now, signing_key=new_key), staged, passphrase)
            new = load_keys(staged, passphrase)
            retired = _retire(keys_dir)
            _hand_over(keys_dir, load_keys(retired, passphrase), new, retired, now)
            _copy_keys(staged, keys_dir)
        ledger = open_ledger(keys_dir)
        denied = ledger.deny_open(now_s=int(now.timestamp()))
        clear_ended(keys_dir, ledger.records())
        _discard(staged)
        return Rotation(fingerprint=load_keys(keys_dir, passphrase).fingerprint, denied=denied)


def _new_key(old: signing.SigningKey, suite: str | None) -> signing.SigningKey:
    """Make the key that takes over.

    A weaker suite is refused before anything is begun.
    """
    present = signing.suite_of(signing.raw_public_key(old))
    succession.check_no_weaker(present, suite or present)
    return signing.generate_key(suite or present)


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
    from source_site.release.revoke import last_list, renew_revocations

    statement = succession.sign_succession(
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
    for name in KEY_FILES:
        write_atomic(folder / name, read_key_file(origin / name), 0o644 if name in READABLE else 0o600)


def _discard(staged: Path) -> None:
    """Remove a staged identity, its signing key last.

    Until then that key tells what the folder was.
    """
    try:
        for name in KEY_FILES:
            (staged / name).unlink(missing_ok=True)
        for leftover in staged.glob(".*.part"):  # of a write that was killed
            leftover.unlink()
        if staged.exists():
            staged.rmdir()
    except OSError as error:
        raise cannot_write(staged, error) from error


def _signing_key(folder: Path) -> bytes:
    return read_key_file(folder / SIGNING_KEY_FILE)


def _opened(keys_dir: Path) -> int:
    try:
        return os.open(keys_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise KeyFileError(Code.KEY_MISSING, f"{keys_dir} cannot be opened; name the source's keys folder.") from error
