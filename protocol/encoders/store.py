"""Keep public encoders in a folder, each named by its hash."""

import os
import re
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from protocol.encoders.canonical import read_form
from protocol.encoders.registry import ENCODERS, AddedEncoder, Encoder, PublicEncoder
from protocol.errors import Code, FileError, MalformedError, ProtocolError, RefusedError
from protocol.files import make_private_folder, read_blocks, write_atomic

SUFFIX = ".safetensors"


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


def place_of(folder: Path, encoder: Encoder) -> Path:
    """Return where an encoder lies in a folder, whether it is there or not."""
    return folder / f"{encoder.sha256}{SUFFIX}"


def keep(folder: Path, encoder: Encoder, data: bytes) -> Path:
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


@dataclass(frozen=True, kw_only=True)
class AddedHere:
    """Describe an encoder that an operator has added.

    Attributes:
        sha256: of its file, in hexadecimal.
        name: what it is called here, such as "hubert-768-1a2b3c4d"; its hash where the file does not say what it is.
        width: E, the width that a front end reads; 0 where no front end reads by it.
        state: "here" or "damaged".
    """

    sha256: str
    name: str
    width: int
    state: str

    @property
    def purpose(self) -> str:
        """Return what it is used for here."""
        return f"front end stats-ssl-{self.width}-v1" if self.width else "nothing: no front end reads by it"


def added_hashes(folder: Path) -> list[str]:
    """Return the hashes by which added encoders are called in a folder."""
    known = {encoder.sha256 for encoder in ENCODERS.values()}
    names = {path.name.removesuffix(SUFFIX) for path in folder.iterdir()} if folder.is_dir() else set()
    return sorted(name for name in names - known if re.fullmatch("[0-9a-f]{64}", name))


def added(folder: Path) -> list[AddedHere]:
    """Return every encoder that an operator has added."""
    return [describe_added(folder, AddedEncoder(sha256=name)) for name in added_hashes(folder)]


def describe_added(folder: Path, encoder: AddedEncoder) -> AddedHere:
    """Describe an encoder by its file, which may be damaged or gone."""
    try:
        form = read_form(place_of(folder, encoder))
    except ProtocolError:
        form = None
    name = encoder.sha256 if form is None else f"{form.model_type}-{form.width}-{encoder.sha256[:8]}"
    width = 0 if form is None else form.width
    return AddedHere(sha256=encoder.sha256, name=name, width=width, state=state_of(folder, encoder))


def require_encoder(folder: Path, encoder: Encoder, program: str) -> Path:
    """Return where an encoder lies that is here and whole.

    Args:
        folder: The folder of encoders.
        encoder: Which.
        program: The command line that can bring it, for the remedy.

    Raises:
        RefusedError: It is missing, or the file is another one.
    """
    state, place = state_of(folder, encoder), place_of(folder, encoder)
    if state == "here":
        return place
    elsewhere = "" if folder == default_folder() else f" --encoders {folder}"
    remedy = f"run `{program} encoder {encoder.remedy}{elsewhere}`"
    if state == "not here":
        raise RefusedError(Code.NOT_FOUND, f"The public encoder {encoder.id} is not in {folder}; {remedy}.")
    raise RefusedError(Code.DIGEST, f"{place} is not the public encoder {encoder.id}, or it is damaged; {remedy}.")


def state_of(folder: Path, encoder: Encoder) -> str:
    """Return "here", "not here" or "damaged" for an encoder."""
    digest = sha256()
    try:
        for block in read_blocks(place_of(folder, encoder), encoder.max_bytes):
            digest.update(block)
    except FileError as fault:
        return "not here" if fault.code is Code.NOT_FOUND else "damaged"
    except ProtocolError:
        return "damaged"
    return "here" if digest.hexdigest() == encoder.sha256 else "damaged"
