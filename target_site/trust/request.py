"""Ask for a model: each request becomes a grant of its own.

The site remembers which requests it made.
"""

import re
import secrets
from pathlib import Path

from ecan_core.errors import UsageError
from protocol.errors import Code, FileError
from protocol.files import lies_within, write_atomic
from protocol.statements.request import NONCE_BYTES, grant_id, sign_request
from target_site.trust.keys import load_or_create_keys

REQUESTS = "requests"

_SUFFIX = ".request"


def write_request(keys_dir: Path, out: Path, *, today: int, passphrase: bytes | None = None) -> str:
    """Write a new request.

    Args:
        keys_dir: the target's keys, created on first use.
        out: the request file, for the source; a new one.
        today: days since 1970.
        passphrase: opens the private keys, or encrypts new ones.

    Returns:
        The target's fingerprint in hexadecimal, for the source to compare.

    Raises:
        UsageError: there is something at ``out``, or it lies among the keys.
        KeyFileError: the keys are damaged or locked, or they are a source's.
        FileError: a file cannot be written.
    """
    _check_place(out, keys_dir)
    identity = load_or_create_keys(keys_dir, passphrase)
    request = sign_request(identity, nonce=secrets.token_bytes(NONCE_BYTES), day=today)
    folder = keys_dir / REQUESTS
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise FileError(Code.STORAGE, f"{folder} cannot be made ({error.strerror}); check the keys folder.") from error
    write_atomic(folder / f"{grant_id(request).hex()}{_SUFFIX}", request)
    write_atomic(out, request, 0o644)
    return identity.fingerprint.hex()


def requested_grants(keys_dir: Path) -> tuple[bytes, ...]:
    """Return the grants that this site asked for, the latest first.

    16 bytes each.
    """
    files = (keys_dir / REQUESTS).glob(f"*{_SUFFIX}")
    requests = [path for path in files if re.fullmatch(r"[0-9a-f]{32}", path.stem)]
    latest_first = sorted(requests, key=lambda path: path.stat().st_mtime_ns, reverse=True)
    return tuple(bytes.fromhex(path.stem) for path in latest_first)


def _check_place(out: Path, keys_dir: Path) -> None:
    if lies_within(out, keys_dir):
        raise UsageError(f"{out} lies in the keys folder {keys_dir}; choose another --out.")
    if out.exists() or out.is_symlink():
        raise UsageError(f"{out} is there already; name a new file.")
