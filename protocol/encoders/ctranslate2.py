"""Read CTranslate2's file `model.bin` as data.

version u32 · specification text · revision u32 · count u32 · tensors · count u32 · aliases
tensor  name text · rank u8 · extents u32 each · type u8 · length u32 · numbers
text    length u16 with its closing zero · bytes · zero

Source: the file format of CTranslate2, binary version 6. Nothing is allocated by what a file says: every length is
compared with what is left of the bytes, and a tensor is a view of them.
"""

import math
import struct
from collections.abc import Container

import numpy as np
import numpy.typing as npt

from protocol.errors import Code, MalformedError

Array = npt.NDArray[np.generic]

VERSION = 6
MAX_TENSORS = 4096
MAX_RANK = 4

_TYPES = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}


def read_tensors(data: bytes, wanted: Container[str]) -> dict[str, Array]:
    """Read the wanted tensors of a file; all others are walked over.

    Args:
        data: The whole file.
        wanted: Names of tensors.

    Returns:
        Read-only views of the bytes.

    Raises:
        MalformedError: The bytes are cut off, of another version, or say something that no such file says.
    """
    cursor = _Cursor(data)
    if cursor.number("<I") != VERSION:
        raise _fault(Code.VERSION, "is of another version")
    cursor.text()
    cursor.number("<I")
    count = cursor.number("<I")
    if count > MAX_TENSORS:
        raise _fault(Code.RANGE, f"says that it has more than {MAX_TENSORS} tensors")
    found: dict[str, Array] = {}
    for _ in range(count):
        name, tensor = cursor.tensor()
        if name in found:
            raise _fault(Code.DUP_KEY, "has two tensors of one name")
        if name in wanted:
            found[name] = tensor
    return found


class _Cursor:
    """Walk over bytes and refuse to step beyond their end."""

    def __init__(self, data: bytes) -> None:
        self._data, self._place = memoryview(data), 0

    def take(self, length: int) -> memoryview:
        """Return the next bytes."""
        taken = self._data[self._place : self._place + length]
        if len(taken) < length:
            raise _fault(Code.TRUNCATED, "is cut off")
        self._place += length
        return taken

    def number(self, form: str) -> int:
        """Return the next whole number."""
        (value,) = struct.unpack(form, self.take(struct.calcsize(form)))
        return int(value)

    def text(self) -> str:
        """Return the next text."""
        raw = bytes(self.take(self.number("<H")))
        if not raw.isascii() or raw[-1:] != b"\0" or 0 in raw[:-1]:
            raise _fault(Code.VALUE, "has a name that is no text")
        return raw[:-1].decode("ascii")

    def tensor(self) -> tuple[str, Array]:
        """Return the next tensor and its name."""
        name, rank = self.text(), self.number("<B")
        if rank > MAX_RANK:
            raise _fault(Code.SHAPE, f"has a tensor of more than {MAX_RANK} dimensions")
        shape = tuple(self.number("<I") for _ in range(rank))
        dtype = _TYPES.get(self.number("<B"))
        if dtype is None:
            raise _fault(Code.TYPE, "has a tensor of an unknown type")
        length = self.number("<I")
        if length != math.prod(shape) * np.dtype(dtype).itemsize:
            raise _fault(Code.SHAPE, "has a tensor whose length is not that of its shape")
        return name, np.frombuffer(self.take(length), dtype).reshape(shape)


def _fault(code: Code, what: str) -> MalformedError:
    return MalformedError(code, f"The encoder's model.bin {what}; fetch the encoder again.")
