"""Find the public encoders that a model is read by, at this site."""

from pathlib import Path

from protocol.encoders.registry import CAMPPLUS, ENCODERS, PUBLIC_ENCODERS
from protocol.encoders.store import default_folder, place_of, require_encoder, state_of
from target_site.model.folder import arch_of, read_facts

PROGRAM = "ecan-target"
HEARD, ESTIMATED = "campplus", "statistics"
"""What told a model's voices apart, as its receipt says."""


def folder_for(arch: str, encoders: Path | None) -> Path:
    """Return the folder of encoders if it holds what a model is read by.

    Args:
        arch: the model's architecture.
        encoders: folder of public encoders; None takes the user's.

    Raises:
        RefusedError: the encoder is missing, or its file is another one.
    """
    folder = encoders or default_folder()
    if arch in PUBLIC_ENCODERS:
        require_encoder(folder, PUBLIC_ENCODERS[arch], PROGRAM)
    if state_of(folder, CAMPPLUS) == "damaged":
        require_encoder(folder, CAMPPLUS, PROGRAM)
    return folder.absolute()


def folder_of_model(model: Path, encoders: Path | None) -> Path:
    """Return the folder of encoders if it holds what a model asks for.

    Raises:
        RefusedError: an encoder is missing, or its file is another one.
    """
    folder = folder_for(arch_of(model), encoders)
    if read_facts(model)["provenance"].get("voices") == HEARD:
        require_encoder(folder, CAMPPLUS, PROGRAM)
    return folder


def encoder_files(folder: Path) -> tuple[Path, ...]:
    """Return where the known encoders lie in a folder, for a process's walls."""
    return tuple(place_of(folder, encoder) for encoder in ENCODERS.values())
