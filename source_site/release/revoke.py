"""Withdraw what was released: a signed list for every target.

No further byte leaves for open grants.

A model that was delivered cannot be taken back, but the target's own verifier refuses what the list names, see
`protocol.statements.revocations`.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from ecan_core.errors import UsageError
from protocol.errors import Code, FileError, RefusedError, UnauthenticError
from protocol.files import read_bounded, write_atomic
from protocol.identity.identities import Identity
from protocol.ledger.grants import SECONDS_PER_DAY, GrantRecord
from protocol.locks import locked
from protocol.statements.revocations import (
    MAX_REVOCATIONS_BYTES,
    MAX_REVOKED,
    Revocations,
    open_revocations,
    sign_revocations,
)
from source_site.keys.folder import load_keys, open_ledger, revocations_file
from source_site.release.outbox import clear_ended


@dataclass(frozen=True, kw_only=True)
class Withdrawal:
    """Describe what a revocation did.

    Attributes:
        revocations: the list as it is now.
        is_new: whether the list has changed.
        denied: the grants that were open and are not any more.
        file: where the list lies.
    """

    revocations: Revocations
    is_new: bool
    denied: tuple[GrantRecord, ...]
    file: Path

    def summary(self) -> dict[str, object]:
        """Return the same for machines."""
        return {
            "version": self.revocations.version,
            "new": self.is_new,
            "weights": sorted(digest.hex() for digest in self.revocations.weights),
            "keys": sorted(key.hex() for key in self.revocations.keys),
            "denied": [record.grant.hex() for record in self.denied],
            "file": str(self.file),
        }


def revoke_release(keys_dir: Path, release: int, *, now_s: int, passphrase: bytes | None = None) -> Withdrawal:
    """Withdraw the model of a release and its open grants.

    Killed at any moment, the same command ends the same way: the list comes first, so no target can take the model
    while its grants are being closed, and a grant that is issued meanwhile is either denied here or never issued.

    Args:
        keys_dir: the source's keys.
        release: number of the release.
        now_s: seconds since 1970.
        passphrase: opens the keys if they are encrypted.

    Raises:
        UsageError: there is no such release, or the list is full.
        KeyFileError: the keys are missing, damaged or locked.
        FileError: the ledger or the list cannot be read or written.
    """
    identity = load_keys(keys_dir, passphrase)
    ledger = open_ledger(keys_dir)
    records = [record for record in ledger.records() if record.release == release]
    if not records:
        raise UsageError(f"there is no release {release}; `ecan-source ledger list` shows those that there are")
    weights = frozenset(record.weights_sha256 for record in records)
    withdrawal = _withdraw(keys_dir, identity, weights=weights, now_s=now_s)
    denied = ledger.deny_open(now_s=now_s, fits=lambda record: record.release == release)
    clear_ended(keys_dir, ledger.records())
    return replace(withdrawal, denied=denied)


def revoke_key(keys_dir: Path, key: bytes, *, now_s: int, passphrase: bytes | None = None) -> Withdrawal:
    """Withdraw a key that was stolen.

    An online key or a release key, even the present one.

    No target takes what the present release key has signed once it is withdrawn, so its open grants are denied.

    Args:
        keys_dir: the source's keys.
        key: fingerprint of the key, 32 bytes.
        now_s: seconds since 1970.
        passphrase: opens the keys if they are encrypted.

    Raises:
        UsageError: the list is full.
        KeyFileError: the keys are missing, damaged or locked.
        FileError: the ledger or the list cannot be read or written.
    """
    identity = load_keys(keys_dir, passphrase)
    withdrawal = _withdraw(keys_dir, identity, keys=frozenset({key}), now_s=now_s)
    if key != identity.fingerprint:
        return withdrawal
    ledger = open_ledger(keys_dir)
    denied = ledger.deny_open(now_s=now_s)
    clear_ended(keys_dir, ledger.records())
    return replace(withdrawal, denied=denied)


def renew_list(keys_dir: Path, *, now_s: int, passphrase: bytes | None = None) -> Withdrawal:
    """Sign the present list with today's date.

    If there is none, sign a first one that names nothing. The number stays, because the list names the same. Sites
    that ask for a list of the last days (`oldest_revocations_days`) go on with it.

    Raises:
        KeyFileError: the keys are missing, damaged or locked.
        FileError: the list cannot be read or written.
    """
    return _withdraw(keys_dir, load_keys(keys_dir, passphrase), now_s=now_s, renews=True)


def withdrawn(keys_dir: Path, issuer: bytes) -> frozenset[bytes]:
    """Return what the source has withdrawn.

    Digests of weights and fingerprints of keys.

    Args:
        keys_dir: the source's keys.
        issuer: fingerprint of its release key, 32 bytes.
    """
    data = _read_list(revocations_file(keys_dir))
    return frozenset() if data is None else open_revocations(data, issuer).revoked


def refuse_withdrawn(keys_dir: Path, issuer: bytes, records: Iterable[GrantRecord]) -> None:
    """Refuse to let anything leave that is withdrawn.

    This holds even if the command that withdrew it was killed.

    Args:
        keys_dir: the source's keys.
        issuer: fingerprint of its release key, 32 bytes.
        records: the grants for which something is to leave.

    Raises:
        RefusedError: the key or the model of a grant is withdrawn.
    """
    listed = withdrawn(keys_dir, issuer)
    if issuer in listed:
        raise RefusedError(
            Code.REVOKED,
            "This source's release key is withdrawn; run `ecan-source keys rotate` and ask the sites for new requests.",
        )
    for record in records:
        if record.weights_sha256 in listed:
            raise RefusedError(
                Code.REVOKED,
                f"Release {record.release} is withdrawn; train another model, and take the grants of this one back "
                f"with `ecan-source revoke --release {record.release}`.",
            )


def last_list(keys_dir: Path, old: Identity, new: Identity) -> int:
    """Return the number of the last list that the old keys have signed.

    The first list of the new keys has the next number.

    Raises:
        UnauthenticError: the list is signed by neither.
    """
    data = _read_list(revocations_file(keys_dir))
    if data is None:
        return 0
    try:
        return open_revocations(data, old.fingerprint).version
    except UnauthenticError:  # a rotation that was killed has renewed it
        return open_revocations(data, new.fingerprint).version - 1


def renew_revocations(keys_dir: Path, old: Identity, new: Identity, *, now_s: int) -> None:
    """Sign the next list for the keys that take over.

    It names the same. A list that they have signed already stays as it is.

    Raises:
        UnauthenticError: the list is signed by neither.
    """
    path = revocations_file(keys_dir)
    with locked(_opened_folder(keys_dir)):
        data = _read_list(path)
        if data is None:
            return
        try:
            open_revocations(data, new.fingerprint)
        except UnauthenticError:
            before = open_revocations(data, old.fingerprint)
            after = replace(before, version=before.version + 1, day=now_s // SECONDS_PER_DAY)
            write_atomic(path, sign_revocations(after, new.signing_key), 0o644)


def _withdraw(
    keys_dir: Path,
    identity: Identity,
    *,
    weights: frozenset[bytes] = frozenset(),
    keys: frozenset[bytes] = frozenset(),
    now_s: int,
    renews: bool = False,
) -> Withdrawal:
    path = revocations_file(keys_dir)
    with locked(_opened_folder(keys_dir)):
        data = _read_list(path)
        before = Revocations(version=0, day=0, weights=frozenset(), keys=frozenset())
        if data is not None:
            before = open_revocations(data, identity.fingerprint)
        names_more = not (weights | keys <= before.revoked)
        after = Revocations(
            version=before.version + int(names_more or data is None),
            day=now_s // SECONDS_PER_DAY,
            weights=before.weights | weights,
            keys=before.keys | keys,
        )
        if max(len(after.weights), len(after.keys)) > MAX_REVOKED:
            raise UsageError(
                f"the list names {MAX_REVOKED} already; rotate the keys and revoke the old one, which withdraws all "
                "that it has signed"
            )
        is_new = names_more or renews
        if is_new:
            write_atomic(path, sign_revocations(after, identity.signing_key), 0o644)
        return Withdrawal(revocations=after if is_new else before, is_new=is_new, denied=(), file=path)


def _read_list(path: Path) -> bytes | None:
    return read_bounded(path, MAX_REVOCATIONS_BYTES) if path.exists() else None


def _opened_folder(keys_dir: Path) -> int:
    """Open the folder of the list; its lock is for whoever changes the list."""
    folder = revocations_file(keys_dir).parent
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise FileError(
            Code.STORAGE, f"{folder} cannot be opened ({error.strerror}); check the keys folder."
        ) from error
