"""Run a program as on a kernel without Landlock: the first of its system calls does not exist there.

python -m tests.support.old_kernel PROGRAM ARGUMENT ...
"""

import ctypes
import errno
import os
import struct
import sys

from protocol import sandbox


def forget_landlock() -> None:
    """Take Landlock away from this process and all that it starts."""
    program = [
        sandbox._load(sandbox._NUMBER),
        *sandbox._when(
            sandbox._IF_EQUAL, sandbox._LANDLOCK_CREATE_RULESET, sandbox._return(sandbox._REFUSE | errno.ENOSYS)
        ),
        *sandbox._return(sandbox._ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(program))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(code)))
    assert sandbox._prctl(sandbox._PR_SET_NO_NEW_PRIVS, 1) == 0
    assert sandbox._prctl(sandbox._PR_SET_SECCOMP, sandbox._SECCOMP_MODE_FILTER, ctypes.addressof(header)) == 0


if __name__ == "__main__":
    forget_landlock()
    os.execv(sys.argv[1], sys.argv[1:])
