"""Read a public encoder from one canonical safetensors file.

Its hash is checked on the bytes that are used.
"""

import os
import stat
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from ecan_core.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

Shape = tuple[int, ...]

MAX_BYTES = 2**26  # 64 MB; the largest known encoder takes 28

_AGAIN = "fetch or add the encoder again"


def read_weights(path: Path, expected_sha256: str, shapes: Mapping[str, Shape]) -> dict[str, "Tensor"]:
    """Read an encoder's tensors and refuse any file but the one that is meant.

    Args:
        path: The canonical file; a link is not followed.
        expected_sha256: Its hash, in hexadecimal.
        shapes: Every tensor that its network asks for.

    Returns:
        The tensors as float32.

    Raises:
        ModelError: The file is missing, no regular file, too large, another one or not what its network asks for.
    """
    return parsed(read_file(path, expected_sha256, MAX_BYTES), shapes)


def read_file(path: Path, expected_sha256: str, max_bytes: int) -> bytes:
    """Read an encoder's whole file and refuse any but the one that is meant.

    Args:
        path: The canonical file; a link is not followed.
        expected_sha256: Its hash, in hexadecimal.
        max_bytes: The largest size that is read, in bytes.

    Raises:
        ModelError: The file is missing, no regular file, too large or another one.
    """
    data = _read(path, max_bytes)
    if sha256(data).hexdigest() != expected_sha256:
        raise ModelError(f"The encoder's file is not the one that its name says; remove it and {_AGAIN}.")
    return data


def parsed(data: bytes, shapes: Mapping[str, Shape]) -> dict[str, "Tensor"]:
    """Parse safetensors bytes as exactly the named tensors, float32.

    Raises:
        ModelError: They are damaged, or a name, a shape, a type or a number is not as it must be.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(data)
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise ModelError(f"The encoder's file is damaged or something else; {_AGAIN}.") from error
    if {name: tuple(tensor.shape) for name, tensor in tensors.items()} != dict(shapes):
        raise ModelError(f"The encoder's file holds other tensors than its network has; {_AGAIN}.")
    return {name: _as_float32(tensor) for name, tensor in tensors.items()}


def _as_float32(tensor: "Tensor") -> "Tensor":
    import torch

    if tensor.dtype not in (torch.float16, torch.float32) or not tensor.isfinite().all():
        raise ModelError(f"The encoder's file holds numbers that no encoder has; {_AGAIN}.")
    return tensor.to(torch.float32)


def _read(path: Path, max_bytes: int) -> bytes:
    """Read a whole regular file of bounded size.

    The open file is what is checked, so that exchanging it changes nothing.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ModelError(f"The encoder's file is missing or cannot be read; {_AGAIN}.") from error
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > max_bytes:
            raise ModelError(f"The encoder's file is no regular file of a usual size; {_AGAIN}.")
        return file.read(max_bytes)
