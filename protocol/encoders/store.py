"""Keep public encoders in a folder, each named by its hash."""

import os
import re
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from protocol.encoders.registry import ENCODERS, PublicEncoder
from protocol.errors import Code, FileError, MalformedError, ProtocolError, RefusedError
from protocol.files import make_private_folder, read_bounded, write_atomic

SUFFIX = ".safetensors"
MAX_BYTES = 2**26


def default_folder() -> Path:
    """Return where encoders lie by default: the user's folder for data."""
    home = os.environ.get("XDG_DATA_HOME", "")
    base = Path(home) if Path(home).is_absolute() else _home() / ".local" / "share"
    return base / "ecan-ser" / "encoders"


def _home() -> Path:
    """Return the user's folder; the root for a user without one."""
    try:
        return Path.home()
    except RuntimeError:
        return Path("/")


def place_of(folder: Path, encoder: PublicEncoder) -> Path:
    """Return where an encoder lies in a folder, whether it is there or not."""
    return folder / f"{encoder.sha256}{SUFFIX}"


def keep(folder: Path, encoder: PublicEncoder, data: bytes) -> Path:
    """Write an encoder's canonical file, whole or not at all.

    Args:
        folder: The folder of encoders; it is made.
        encoder: Which it must be.
        data: The canonical file.

    Returns:
        Where it lies.

    Raises:
        MalformedError: The bytes are not the encoder's.
        FileError: The folder cannot be written.
    """
    if sha256(data).hexdigest() != encoder.sha256:
        raise MalformedError(
            Code.DIGEST,
            f"What was made of the file is not {encoder.id}, whose SHA-256 is {encoder.sha256}; fetch it again.",
        )
    make_private_folder(folder)
    place = place_of(folder, encoder)
    write_atomic(place, data)
    return place


@dataclass(frozen=True, kw_only=True)
class Listed:
    """Describe an encoder as a site has it.

    Attributes:
        encoder: Which it is.
        state: "here", "not here" or "damaged".
    """

    encoder: PublicEncoder
    state: str


def listed(folder: Path) -> list[Listed]:
    """Return every known encoder and whether its file is here and whole."""
    return [Listed(encoder=encoder, state=state_of(folder, encoder)) for encoder in ENCODERS.values()]


def brought(folder: Path) -> list[str]:
    """Return the hashes of encoders that an operator has added."""
    known = {encoder.sha256 for encoder in ENCODERS.values()}
    names = {path.name.removesuffix(SUFFIX) for path in folder.iterdir()} if folder.is_dir() else set()
    return sorted(name for name in names - known if re.fullmatch("[0-9a-f]{64}", name))


def require_encoder(folder: Path, encoder: PublicEncoder, program: str) -> Path:
    """Return where an encoder lies that is here and whole.

    Args:
        folder: The folder of encoders.
        encoder: Which.
        program: The command line that can fetch it, for the remedy.

    Raises:
        RefusedError: It is missing, or the file is another one.
    """
    state, place = state_of(folder, encoder), place_of(folder, encoder)
    if state == "here":
        return place
    elsewhere = "" if folder == default_folder() else f" --encoders {folder}"
    remedy = f"run `{program} encoder fetch {encoder.id}{elsewhere}`"
    if state == "not here":
        raise RefusedError(Code.NOT_FOUND, f"The public encoder {encoder.id} is not in {folder}; {remedy}.")
    raise RefusedError(Code.DIGEST, f"{place} is not the public encoder {encoder.id}, or it is damaged; {remedy}.")


def state_of(folder: Path, encoder: PublicEncoder) -> str:
    """Return "here", "not here" or "damaged" for an encoder."""
    try:
        data = read_bounded(place_of(folder, encoder), MAX_BYTES)
    except FileError as fault:
        return "not here" if fault.code is Code.NOT_FOUND else "damaged"
    except ProtocolError:
        return "damaged"
    return "here" if sha256(data).hexdigest() == encoder.sha256 else "damaged"
