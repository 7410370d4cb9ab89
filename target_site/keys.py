"""The target's keys folder (KEYS): its identity and the requests that it made."""

from datetime import UTC, datetime
from pathlib import Path

from protocol.errors import Code, KeyFault
from protocol.identity import Identity, Role, create_identity, has_identity, load_identity, write_identity


def load_keys(keys_dir: Path) -> Identity:
    """Read the target's identity.

    Raises:
        KeyFault: there is none, it is damaged, or it is a source's.
    """
    identity = load_identity(keys_dir)
    if identity.role is not Role.TARGET:
        raise KeyFault(Code.KEY_DAMAGED, f"{keys_dir} holds a source's keys; name this site's keys folder.")
    return identity


def load_or_create_keys(keys_dir: Path) -> Identity:
    """Read the target's identity, which is created on first use.

    Raises:
        KeyFault: it is damaged, or it is a source's.
        StorageFault: the folder cannot be written.
    """
    if not has_identity(keys_dir):
        write_identity(create_identity(Role.TARGET, datetime.now(UTC)), keys_dir)
    return load_keys(keys_dir)
