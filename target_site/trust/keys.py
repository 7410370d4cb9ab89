"""Keep the target's keys folder (KEYS).

It holds the site's identity, the requests that it made, and what it has seen of its sources.
"""

from datetime import UTC, datetime
from pathlib import Path

from protocol.errors import Code, KeyFileError
from protocol.identity.identities import Identity, Role, create_identity
from protocol.identity.key_files import has_identity, load_identity, load_public, write_identity


def load_keys(keys_dir: Path, passphrase: bytes | None = None) -> Identity:
    """Read the target's identity.

    Raises:
        KeyFileError: there is none, it is damaged or locked, or it is a source's.
    """
    identity = load_identity(keys_dir, passphrase)
    _check_role(identity.role, keys_dir)
    return identity


def own_fingerprint(keys_dir: Path) -> bytes:
    """Return this site's fingerprint, without opening a private key.

    Raises:
        KeyFileError: there is no identity, it is damaged, or it is a source's.
    """
    public = load_public(keys_dir)
    _check_role(public.role, keys_dir)
    return public.fingerprint


def load_or_create_keys(keys_dir: Path, passphrase: bytes | None = None) -> Identity:
    """Read the target's identity, or create it on first use.

    Args:
        keys_dir: the target's keys.
        passphrase: opens the private keys, or encrypts new ones.

    Raises:
        KeyFileError: it is damaged or locked, or it is a source's.
        FileError: the folder cannot be written.
    """
    if not has_identity(keys_dir):
        from target_site.trust.state import create_trust_state

        # Before the keys: whoever has keys has a trust state, even if this run is killed here.
        create_trust_state(keys_dir)
        write_identity(create_identity(Role.TARGET, datetime.now(UTC)), keys_dir, passphrase)
    return load_keys(keys_dir, passphrase)


def _check_role(role: Role, keys_dir: Path) -> None:
    if role is not Role.TARGET:
        raise KeyFileError(Code.KEY_DAMAGED, f"{keys_dir} holds a source's keys; name this site's keys folder.")
