"""Find the public encoders that a model is read by, at this site."""

from pathlib import Path

from protocol.bundle.trust import VerifiedBundle
from protocol.encoders.registry import CAMPPLUS, ENCODERS, AddedEncoder, encoder_of
from protocol.encoders.store import default_folder, place_of, require_encoder, state_of
from target_site.model.folder import Reads, read_facts, reads_of

PROGRAM = "ecan-target"
HEARD, ESTIMATED = "campplus", "statistics"
"""What told a model's voices apart, as its receipt says."""


def reads_of_bundle(bundle: VerifiedBundle) -> Reads:
    """Return what a verified bundle's model is read by."""
    return Reads(bundle.manifest.arch, bundle.manifest.encoder.hex())


def folder_for(reads: Reads, encoders: Path | None) -> Path:
    """Return the folder of encoders if it holds what a model is read by.

    Args:
        reads: what the model says of itself.
        encoders: folder of public encoders; None takes the user's.

    Raises:
        RefusedError: the encoder is missing, or its file is another one.
    """
    folder = encoders or default_folder()
    encoder = encoder_of(reads.arch, reads.added_encoder)
    if encoder is not None:
        require_encoder(folder, encoder, PROGRAM)
    if state_of(folder, CAMPPLUS) == "damaged":
        require_encoder(folder, CAMPPLUS, PROGRAM)
    return folder.absolute()


def folder_of_model(model: Path, encoders: Path | None) -> Path:
    """Return the folder of encoders if it holds what a model asks for.

    Raises:
        RefusedError: an encoder is missing, or its file is another one.
    """
    folder = folder_for(reads_of(model), encoders)
    if read_facts(model)["provenance"].get("voices") == HEARD:
        require_encoder(folder, CAMPPLUS, PROGRAM)
    return folder


def encoder_files(folder: Path, added_encoder: str) -> tuple[Path, ...]:
    """Return where encoders lie in a folder, for a process's walls.

    Args:
        folder: the folder of encoders.
        added_encoder: SHA-256 of the one added encoder that may be read, in hexadecimal; empty for none.
    """
    added = (AddedEncoder(sha256=added_encoder),) if added_encoder else ()
    return tuple(place_of(folder, encoder) for encoder in (*ENCODERS.values(), *added))
