"""Hide a process's command line.

It could write there what every user of the machine can read.
"""

import ctypes
import struct
from pathlib import Path

from protocol.sandbox.kernel import PR_SET_MM, c_library, prctl

_MAP = 14
"""PR_SET_MM_MAP, for which nobody has to be root."""
_NO_FILE = 0xFFFFFFFF
_CODE, _CODE_END, _STACK, _DATA, _DATA_END, _HEAP, _ARGUMENTS = 23, 24, 25, 42, 43, 44, 45
"""Fields of ``/proc/self/stat``, counted from the one behind the name."""


def hide_arguments() -> bool:
    """Have the kernel show an empty command line for this process.

    What it shows otherwise is memory of the process, which could put there what it has read.

    Returns:
        Whether it is hidden now; some kernels are built without this.
    """
    sbrk = c_library().sbrk
    sbrk.restype = ctypes.c_void_p
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    code, code_end, stack, data, data_end, heap, here = (
        int(fields[place]) for place in (_CODE, _CODE_END, _STACK, _DATA, _DATA_END, _HEAP, _ARGUMENTS)
    )
    places = (code, code_end, data, data_end, heap, sbrk(0), stack, here, here, here, here, 0)
    table = ctypes.create_string_buffer(struct.pack("<12QII", *places, 0, _NO_FILE), 104)
    return prctl(PR_SET_MM, _MAP, ctypes.addressof(table), 104) == 0
