"""Check an encoder that somebody brings, before it is kept.

Its network must be buildable of it.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from ecan_core.encoders import campplus, whisper
from ecan_core.encoders.weights import parsed

Array = npt.NDArray[np.float32]

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


def check_folder(config: bytes, preprocessor: bytes | None, weights: bytes) -> tuple[Mapping[str, Array], str]:
    """Check a self-supervised encoder and return what is kept of it.

    Args:
        config: `config.json`.
        preprocessor: `preprocessor_config.json`; None if there is none.
        weights: `model.safetensors`.

    Returns:
        The tensors that are kept, float32, and their form as JSON.

    Raises:
        ModelError: The encoder is damaged, of an unknown type or width, or not what its config says.
    """
    from ecan_core.encoders.selfsupervised.folder import read_folder

    return read_folder(config, preprocessor, weights)
