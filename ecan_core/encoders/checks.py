"""Check an encoder that somebody brings, before it is kept.

Its network must be buildable of it.
"""

from pathlib import Path

from ecan_core.encoders import campplus, whisper
from ecan_core.encoders.weights import parsed

_SHAPES = {"whisper": whisper.tensor_shapes, "campplus": campplus.tensor_shapes}


def check_file(kind: str, data: bytes) -> None:
    """Refuse a canonical file that its network cannot be built of.

    Args:
        kind: "whisper" or "campplus".
        data: The file.

    Raises:
        ModelError: A tensor is missing, unknown, of another shape or not finite.
    """
    parsed(data, _SHAPES[kind]())


def check_folder(folder: Path) -> str:
    """Try a self-supervised encoder's folder and return its identity.

    Raises:
        ModelError: The encoder is a pickle, incomplete, damaged, of an unknown type or not what its config says.
    """
    from ecan_core.audio.selfsupervised import load_front_end

    return load_front_end(folder).identity
