"""Write the one file that an encoder is kept as.

It is safetensors with sorted names and one type. Nothing stands beside the tensors but the form of what a folder
brought.

Whatever container the weights came in, the same numbers give the same bytes, so that a hash names an encoder and not
a download. Numbers that float16 can hold are kept as float16.
"""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from protocol.encoders.registry import AddedEncoder
from protocol.errors import Code, MalformedError
from protocol.files import read_blocks

Array = npt.NDArray[np.generic]

_DTYPES = {"F16": np.dtype("<f2"), "F32": np.dtype("<f4")}


MODEL_TYPES = ("wav2vec2", "hubert", "wavlm")
"""Kinds of encoders whose form stands in their file."""
MAX_HEADER_BYTES = 2**20

_BESIDE, _FORM = "__metadata__", "form"


class Form(NamedTuple):
    """Hold what a file says of the network in it.

    Attributes:
        model_type: one of `MODEL_TYPES`.
        width: E, the width of its layers.
    """

    model_type: str
    width: int


def canonical_bytes(tensors: Mapping[str, Array], form: str = "") -> bytes:
    """Write tensors as the canonical file.

    Args:
        tensors: The tensors by name.
        form: Their form as JSON, where a network of theirs has more than one.

    Raises:
        MalformedError: A number is not finite.
    """
    wide = {name: np.asarray(tensors[name], "<f4") for name in sorted(tensors)}
    if not all(np.isfinite(tensor).all() for tensor in wide.values()):
        raise MalformedError(Code.VALUE, "The encoder has numbers that are not finite; take another copy of it.")
    with np.errstate(over="ignore"):
        narrow = {name: tensor.astype("<f2") for name, tensor in wide.items()}
    fits = all(np.array_equal(narrow[name], tensor) for name, tensor in wide.items())
    return _written("F16", narrow, form) if fits else _written("F32", wide, form)


def read_form(path: Path) -> Form | None:
    """Read what a canonical file says of its network; believe nothing.

    Returns:
        None where it says nothing, or something else.

    Raises:
        ProtocolError: It is no regular file, or cannot be read.
    """
    return form_in(next(read_blocks(path, AddedEncoder.max_bytes, block_bytes=MAX_HEADER_BYTES), b""))


def form_in(start: bytes) -> Form | None:
    """Read the same from how a file begins."""
    try:
        (length,) = struct.unpack_from("<Q", start)
        stated = json.loads(json.loads(start[8 : 8 + min(length, MAX_HEADER_BYTES)])[_BESIDE][_FORM])
        form = Form(stated["model_type"], stated["hidden_size"])
    except (struct.error, ValueError, RecursionError, KeyError, TypeError):
        return None
    return form if form.model_type in MODEL_TYPES and type(form.width) is int else None


def _written(dtype: str, tensors: Mapping[str, Array], form: str) -> bytes:
    entries: dict[str, object] = {_BESIDE: {_FORM: form}} if form else {}
    place = 0
    for name, tensor in tensors.items():
        entries[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [place, place + tensor.nbytes]}
        place += tensor.nbytes
    text = json.dumps(entries, separators=(",", ":")).encode("ascii")
    text = text.ljust(-(-len(text) // 8) * 8)
    return b"".join([struct.pack("<Q", len(text)), text, *(tensor.tobytes() for tensor in tensors.values())])
