"""Read the passphrase of encrypted keys.

Services read it from a file, people type it at the terminal.

Never from the command line or a variable's value, which other users can see.
"""

import getpass
import os
import sys
from pathlib import Path

from protocol.errors import Code, KeyFileError, ProtocolError
from protocol.files import read_bounded
from protocol.identity.handed_over import is_exposed, located
from protocol.identity.key_files import PASSPHRASE_VARIABLE, is_locked

MIN_PASSPHRASE_BYTES = 16
"""Shorter ones are not taken for new keys: the library stretches a passphrase by 2048 rounds of PBKDF2 only, so it
must be hard to guess by itself."""
MAX_PASSPHRASE_BYTES = 1023
"""The library takes no longer ones."""


def read_passphrase() -> bytes | None:
    """Read the passphrase from a file or from the terminal.

    The file is the one that `PASSPHRASE_VARIABLE` names.

    Returns:
        None if there is neither; keys without encryption need none.

    Raises:
        KeyFileError: the file is missing, readable by others, or holds no passphrase.
    """
    if path := os.environ.get(PASSPHRASE_VARIABLE):
        return _read_file(Path(path))
    return _ask("Passphrase: ") if _at_a_terminal() else None


def passphrase_for(folder: Path) -> bytes | None:
    """Read the passphrase for a folder's keys.

    Nobody is asked if none of them is encrypted.

    Raises:
        KeyFileError: see `read_passphrase`.
    """
    return read_passphrase() if is_locked(folder) else None


def new_passphrase() -> bytes:
    """Ask for the passphrase of new keys; a person types it twice.

    Raises:
        KeyFileError: there is none, it is too short, or it was not typed alike.
    """
    passphrase = read_passphrase()
    if passphrase is None:
        raise KeyFileError(
            Code.KEY_LOCKED,
            f"There is nobody to ask for a passphrase; write one into a file with mode 600 and name it in "
            f"{PASSPHRASE_VARIABLE}.",
        )
    if len(passphrase) < MIN_PASSPHRASE_BYTES:
        raise KeyFileError(
            Code.KEY_LOCKED, f"The passphrase is too short; take some words, {MIN_PASSPHRASE_BYTES} characters in all."
        )
    if not os.environ.get(PASSPHRASE_VARIABLE) and _ask("The same again: ") != passphrase:
        raise KeyFileError(Code.KEY_LOCKED, "The two passphrases are not the same; run the command again.")
    return passphrase


def _read_file(path: Path) -> bytes:
    try:
        content = read_bounded(located(path), MAX_PASSPHRASE_BYTES + 2)
        exposed = is_exposed(path)
    except (ProtocolError, OSError) as error:
        raise KeyFileError(
            Code.KEY_MISSING, f"The passphrase file {path} cannot be read; check {PASSPHRASE_VARIABLE}."
        ) from error
    if exposed:
        raise KeyFileError(Code.KEY_EXPOSED, f"{path} can be read by other users; run chmod 600 on it.")
    return _checked(content.removesuffix(b"\n").removesuffix(b"\r"))


def _ask(prompt: str) -> bytes:
    try:
        return _checked(getpass.getpass(prompt).encode())
    except EOFError as error:
        raise KeyFileError(Code.KEY_LOCKED, "No passphrase was given; run the command again.") from error


def _checked(passphrase: bytes) -> bytes:
    if not 0 < len(passphrase) <= MAX_PASSPHRASE_BYTES or b"\n" in passphrase or b"\0" in passphrase:
        raise KeyFileError(
            Code.KEY_LOCKED, f"A passphrase is one line of 1 to {MAX_PASSPHRASE_BYTES} bytes; give another."
        )
    return passphrase


def _at_a_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()
