"""Write the one file that an encoder is kept as.

It is safetensors with sorted names, one type and nothing beside the tensors.

Whatever container the weights came in, the same numbers give the same bytes, so that a hash names an encoder and not
a download. Numbers that float16 can hold are kept as float16.
"""

import json
import struct
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from protocol.errors import Code, MalformedError

Array = npt.NDArray[np.generic]

_DTYPES = {"F16": np.dtype("<f2"), "F32": np.dtype("<f4")}


def canonical_bytes(tensors: Mapping[str, Array]) -> bytes:
    """Write tensors as the canonical file.

    Raises:
        MalformedError: A number is not finite.
    """
    wide = {name: np.asarray(tensors[name], "<f4") for name in sorted(tensors)}
    if not all(np.isfinite(tensor).all() for tensor in wide.values()):
        raise MalformedError(Code.VALUE, "The encoder has numbers that are not finite; take another copy of it.")
    with np.errstate(over="ignore"):
        narrow = {name: tensor.astype("<f2") for name, tensor in wide.items()}
    fits = all(np.array_equal(narrow[name], tensor) for name, tensor in wide.items())
    return _written("F16", narrow) if fits else _written("F32", wide)


def _written(dtype: str, tensors: Mapping[str, Array]) -> bytes:
    entries, place = {}, 0
    for name, tensor in tensors.items():
        entries[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [place, place + tensor.nbytes]}
        place += tensor.nbytes
    text = json.dumps(entries, separators=(",", ":")).encode("ascii")
    text = text.ljust(-(-len(text) // 8) * 8)
    return b"".join([struct.pack("<Q", len(text)), text, *(tensor.tobytes() for tensor in tensors.values())])
