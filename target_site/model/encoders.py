"""Find the public encoders that a model is read by, at this site."""

from pathlib import Path

from protocol.bundle.architecture import PUBLIC_ENCODERS
from protocol.encoders.registry import ENCODERS
from protocol.encoders.store import default_folder, place_of, require_encoder

PROGRAM = "ecan-target"


def folder_for(arch: str, encoders: Path | None) -> Path:
    """Return the folder of encoders if it holds what a model is read by.

    Args:
        arch: the model's architecture.
        encoders: folder of public encoders; None takes the user's.

    Raises:
        Refused: the encoder is missing, or its file is another one.
    """
    folder = encoders or default_folder()
    if arch in PUBLIC_ENCODERS:
        require_encoder(folder, PUBLIC_ENCODERS[arch], PROGRAM)
    return folder.absolute()


def encoder_files(folder: Path) -> tuple[Path, ...]:
    """Return where the known encoders lie in a folder, for a process's walls."""
    return tuple(place_of(folder, encoder) for encoder in ENCODERS.values())
