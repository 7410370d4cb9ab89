"""Run a program as on a kernel that lacks something: the system calls for it do not exist there.

python -m tests.support.old_kernel PROGRAM ARGUMENT ...                     without Landlock
python -m tests.support.old_kernel --without namespaces PROGRAM ...         or `filters`, or `landlock`
"""

import ctypes
import errno
import os
import struct
import sys

from protocol.sandbox import kernel, seccomp, system_calls

_PRCTL = {"x86_64": 157, "aarch64": 167}[os.uname().machine]


def forget_landlock() -> None:
    """Take Landlock away from this process and all that it starts."""
    forget("landlock")


def forget(what: str) -> None:
    """Take ``landlock``, ``namespaces`` or ``filters`` away from this process and all that it starts."""
    column = int(os.uname().machine == "aarch64")
    missing = seccomp._return(seccomp._REFUSE | errno.ENOSYS)
    blocks = {
        "landlock": seccomp._when(seccomp._IF_EQUAL, kernel.LANDLOCK_CREATE_RULESET, missing),
        "namespaces": seccomp._when_called(
            system_calls.NEVER["unshare"][column], seccomp._return(seccomp._REFUSE | errno.EPERM)
        ),
        "filters": seccomp._when_called(
            _PRCTL,
            [
                seccomp._load_argument(0),
                *seccomp._among((kernel.PR_SET_SECCOMP,), seccomp._return(seccomp._REFUSE | errno.EINVAL)),
                *seccomp._return(seccomp._ALLOW),
            ],
        ),
    }
    program = [seccomp._load(seccomp._NUMBER), *blocks[what], *seccomp._return(seccomp._ALLOW)]
    code = ctypes.create_string_buffer(b"".join(program))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(code)))
    assert kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1) == 0
    assert kernel.prctl(kernel.PR_SET_SECCOMP, kernel.SECCOMP_MODE_FILTER, ctypes.addressof(header)) == 0


if __name__ == "__main__":
    words = sys.argv[1:]
    if words[0] == "--without":
        forget(words[1])
        words = words[2:]
    else:
        forget_landlock()
    os.execv(words[0], words)
