"""Take the rights of root from a process.

Root of a namespace of its own has them too.
"""

import ctypes
import struct

from protocol.sandbox.kernel import PR_CAPBSET_DROP, c_library, checked, prctl

NET_BIND_SERVICE = 10
"""The right to listen at a port below 1024."""
_VERSION = 0x20080522
_NUM_RIGHTS = 64


def drop_rights(kept: int | None = None) -> None:
    """Drop all capabilities of this process for good.

    Args:
        kept: one that it keeps if it has it; None keeps none.

    Raises:
        ContainmentError: the kernel does not let it.
    """
    mine = rights()
    if not mine:
        return
    for right in range(_NUM_RIGHTS):
        if right != kept:
            prctl(PR_CAPBSET_DROP, right)  # it needs a right itself; without, nothing can be gained by the others
    left = mine & (0 if kept is None else 1 << kept)
    data = struct.pack("<6I", left & 0xFFFFFFFF, left & 0xFFFFFFFF, 0, left >> 32, left >> 32, 0)
    checked(_call("capset", ctypes.create_string_buffer(data)), "kept from the rights of root")


def rights() -> int:
    """Return the capabilities that this process may use, a bit each."""
    buffer = ctypes.create_string_buffer(24)
    checked(_call("capget", buffer), "asked for its rights")
    _, low, _, _, high, _ = struct.unpack("<6I", buffer.raw[:24])
    return int(low | high << 32)


def _call(name: str, data: "ctypes.Array[ctypes.c_char]") -> int:
    header = ctypes.create_string_buffer(struct.pack("<II", _VERSION, 0))
    return int(getattr(c_library(), name)(header, data))
