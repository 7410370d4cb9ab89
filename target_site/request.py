"""Asking for a model: every request is a grant of its own, and the site remembers which ones it made."""

import secrets
from pathlib import Path

from protocol.errors import Code, StorageFault
from protocol.files import write_atomic
from protocol.request import NONCE_BYTES, grant_id, seal_request
from target_site.keys import load_or_create_keys

REQUESTS = "requests"

_SUFFIX = ".request"


def write_request(keys_dir: Path, out: Path, *, today: int) -> str:
    """Write a new request.

    Args:
        keys_dir: the target's keys, created on first use.
        out: the request file, for the source.
        today: days since 1970.

    Returns:
        The target's fingerprint in hexadecimal, for the source to compare.

    Raises:
        StorageFault: a file cannot be written.
    """
    identity = load_or_create_keys(keys_dir)
    request = seal_request(identity, nonce=secrets.token_bytes(NONCE_BYTES), day=today)
    folder = keys_dir / REQUESTS
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StorageFault(
            Code.STORAGE, f"{folder} cannot be made ({error.strerror}); check the keys folder."
        ) from error
    write_atomic(folder / f"{grant_id(request).hex()}{_SUFFIX}", request)
    write_atomic(out, request, 0o644)
    return identity.fingerprint.hex()


def requested_grants(keys_dir: Path) -> tuple[bytes, ...]:
    """The grants that this site asked for, 16 bytes each, the latest first."""
    requests = (keys_dir / REQUESTS).glob(f"*{_SUFFIX}")
    latest_first = sorted(requests, key=lambda path: path.stat().st_mtime_ns, reverse=True)
    return tuple(bytes.fromhex(path.stem) for path in latest_first)
