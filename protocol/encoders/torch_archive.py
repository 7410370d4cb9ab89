"""Read weights in the archive that torch writes as data.

It is a zip with a pickle in it that is never unpickled.

The pickle of a plain state dictionary needs few of a pickle's instructions. A reader of our own knows these and no
others; the four global names that occur stand for themselves and are never looked up, and calling one of them makes a
record of what it was called with. So no byte of the file chooses what runs. Every number is bounded by the file's size.
"""

import io
import math
import struct
import zipfile
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from protocol.errors import Code, MalformedError

Array = npt.NDArray[np.generic]

MAX_PICKLE_BYTES = 2**20
MAX_STORAGES = 4096
DAMAGED_ZIP = (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, RuntimeError, ValueError, KeyError)
"""What Python's reader of archives raises at bytes that are none, or that lack a member."""
MAX_RANK = 4

_STORAGES = {"torch FloatStorage": "<f4", "torch HalfStorage": "<f2", "torch LongStorage": "<i8"}
_REBUILD, _DICTIONARY = "torch._utils _rebuild_tensor_v2", "collections OrderedDict"


class _Global(NamedTuple):
    """Stand for a global name, which is never looked up."""

    name: str


class _Storage(NamedTuple):
    """Name a run of numbers in the archive."""

    dtype: str
    key: str
    length: int


class _Tensor(NamedTuple):
    """Describe a tensor: which numbers, from where on, in what shape."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]


def read_tensors(data: bytes) -> dict[str, Array]:
    """Read every tensor of a state dictionary.

    Args:
        data: The whole archive.

    Returns:
        Read-only arrays by name.

    Raises:
        MalformedError: The archive is damaged, or its pickle holds anything but a dictionary of plain tensors.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _tensors(archive, len(data))
    except DAMAGED_ZIP as error:
        raise _fault(Code.VALUE, "is damaged or no archive") from error


def _tensors(archive: zipfile.ZipFile, size: int) -> dict[str, Array]:
    members = {info.filename: info for info in archive.infolist()}
    if len(members) > MAX_STORAGES or any(info.compress_type != zipfile.ZIP_STORED for info in members.values()):
        raise _fault(Code.RANGE, "has too many or compressed members")
    if sum(info.file_size for info in members.values()) > size:
        raise _fault(Code.LENGTH, "says that it is larger than it is")
    pickles = [name for name in members if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise _fault(Code.MISSING, "has no index, or several")
    root = pickles[0].removesuffix("data.pkl")
    described = _Machine(archive.read(pickles[0])[:MAX_PICKLE_BYTES]).run()
    return {name: _array(archive, root, tensor) for name, tensor in described.items()}


def _array(archive: zipfile.ZipFile, root: str, tensor: _Tensor) -> Array:
    numbers = np.frombuffer(archive.read(f"{root}data/{tensor.storage.key}"), tensor.storage.dtype)
    end = tensor.offset + math.prod(tensor.shape)
    if len(numbers) != tensor.storage.length or end > len(numbers):
        raise _fault(Code.SHAPE, "has a tensor that reaches beyond its numbers")
    return numbers[tensor.offset : end].reshape(tensor.shape)


class _Machine:
    """Run the few instructions that the pickle of a state dictionary has."""

    def __init__(self, code: bytes) -> None:
        self._code, self._place = code, 0
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> dict[str, _Tensor]:
        """Return the dictionary that the pickle describes."""
        try:
            while (instruction := self._take(1)) != b".":
                _INSTRUCTIONS[instruction](self)
            (found,) = self._stack
        except (KeyError, IndexError, ValueError, TypeError, AttributeError, struct.error, UnicodeDecodeError) as error:
            raise _fault(Code.ENUM, "has an index that is more than a list of tensors") from error
        if not isinstance(found, dict) or not all(isinstance(tensor, _Tensor) for tensor in found.values()):
            raise _fault(Code.TYPE, "has an index of something else than tensors")
        return found

    def _take(self, length: int) -> bytes:
        taken = self._code[self._place : self._place + length]
        if len(taken) < length:
            raise _fault(Code.TRUNCATED, "has an index that is cut off")
        self._place += length
        return taken

    def _number(self, form: str) -> int:
        (value,) = struct.unpack(form, self._take(struct.calcsize(form)))
        return int(value)

    def _line(self) -> str:
        end = self._code.index(b"\n", self._place)
        return self._take(end + 1 - self._place)[:-1].decode("ascii")

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _since_mark(self) -> list[Any]:
        mark = self._marks.pop()
        taken = self._stack[mark:]
        del self._stack[mark:]
        return taken

    def protocol(self) -> None:
        """Check the pickle's version."""
        if self._number("<B") != 2:
            raise ValueError

    def text(self) -> None:
        """Push a text."""
        self._push(self._take(self._number("<I")).decode("utf-8"))

    def name(self) -> None:
        """Push a global name if it is one of the few."""
        name = f"{self._line()} {self._line()}"
        if name not in (*_STORAGES, _REBUILD, _DICTIONARY):
            raise ValueError
        self._push(_Global(name))

    def small_tuple(self, length: int) -> None:
        """Push a tuple of so many values."""
        values = [self._stack.pop() for _ in range(length)]
        self._push(tuple(reversed(values)))

    def storage(self) -> None:
        """Push the run of numbers that a tuple names."""
        kind, storage, key, device, length = self._stack.pop()
        if (kind, device) != ("storage", "cpu") or not isinstance(key, str) or not key.isdigit():
            raise ValueError
        if type(length) is not int or length < 0:
            raise ValueError
        self._push(_Storage(_STORAGES[storage.name], key, length))

    def call(self) -> None:
        """Push what one of the two known calls describes."""
        arguments, called = self._stack.pop(), self._stack.pop()
        if called == _Global(_DICTIONARY) and arguments == ():
            self._push({})
        elif called == _Global(_REBUILD):
            self._push(_described(*arguments))
        else:
            raise ValueError

    def store(self) -> None:
        """Put the pairs since the mark into the dictionary before it."""
        values = self._since_mark()
        into = self._stack[-1]
        for name, tensor in zip(values[::2], values[1::2], strict=True):
            if not isinstance(into, dict) or not isinstance(name, str) or name in into:
                raise ValueError
            into[name] = tensor


def _described(
    storage: object, offset: object, shape: object, stride: object, has_gradient: object, hooks: object
) -> _Tensor:
    """Check what a tensor is rebuilt from: whole, in order, without hooks."""
    if not isinstance(storage, _Storage) or has_gradient is not False or hooks != {}:
        raise ValueError
    if not isinstance(shape, tuple) or len(shape) > MAX_RANK:
        raise ValueError
    if any(type(number) is not int or number < 0 for number in (offset, *shape)):
        raise ValueError
    if stride != tuple(math.prod(shape[place + 1 :]) for place in range(len(shape))):
        raise ValueError
    assert isinstance(offset, int)
    return _Tensor(storage, offset, shape)


_INSTRUCTIONS: dict[bytes, Callable[[_Machine], None]] = {
    b"\x80": _Machine.protocol,
    b"}": lambda machine: machine._push({}),
    b")": lambda machine: machine._push(()),
    b"\x89": lambda machine: machine._push(False),
    b"(": lambda machine: machine._marks.append(len(machine._stack)),
    b"t": lambda machine: machine._push(tuple(machine._since_mark())),
    b"\x85": lambda machine: machine.small_tuple(1),
    b"\x86": lambda machine: machine.small_tuple(2),
    b"\x87": lambda machine: machine.small_tuple(3),
    b"K": lambda machine: machine._push(machine._number("<B")),
    b"M": lambda machine: machine._push(machine._number("<H")),
    b"J": lambda machine: machine._push(machine._number("<i")),
    b"q": lambda machine: machine._memo.update({machine._number("<B"): machine._stack[-1]}),
    b"r": lambda machine: machine._memo.update({machine._number("<I"): machine._stack[-1]}),
    b"h": lambda machine: machine._push(machine._memo[machine._number("<B")]),
    b"j": lambda machine: machine._push(machine._memo[machine._number("<I")]),
    b"X": _Machine.text,
    b"c": _Machine.name,
    b"Q": _Machine.storage,
    b"R": _Machine.call,
    b"u": _Machine.store,
}


def _fault(code: Code, what: str) -> MalformedError:
    return MalformedError(code, f"The encoder's archive {what}; fetch the encoder again.")
