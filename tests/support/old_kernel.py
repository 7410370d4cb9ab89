"""Run a program as on a kernel that lacks something: the system calls for it do not exist there.

python -m tests.support.old_kernel PROGRAM ARGUMENT ...                     without Landlock
python -m tests.support.old_kernel --without namespaces PROGRAM ...         or `filters`, or `landlock`
"""

import ctypes
import errno
import os
import struct
import sys

from protocol.sandbox import confine

_PRCTL = {"x86_64": 157, "aarch64": 167}[os.uname().machine]


def forget_landlock() -> None:
    """Take Landlock away from this process and all that it starts."""
    forget("landlock")


def forget(what: str) -> None:
    """Take ``landlock``, ``namespaces`` or ``filters`` away from this process and all that it starts."""
    column = int(os.uname().machine == "aarch64")
    missing = confine._return(confine._REFUSE | errno.ENOSYS)
    blocks = {
        "landlock": confine._when(confine._IF_EQUAL, confine._LANDLOCK_CREATE_RULESET, missing),
        "namespaces": confine._when_called(
            confine._NEVER["unshare"][column], confine._return(confine._REFUSE | errno.EPERM)
        ),
        "filters": confine._when_called(
            _PRCTL,
            [
                confine._load_argument(0),
                *confine._among((confine._PR_SET_SECCOMP,), confine._return(confine._REFUSE | errno.EINVAL)),
                *confine._return(confine._ALLOW),
            ],
        ),
    }
    program = [confine._load(confine._NUMBER), *blocks[what], *confine._return(confine._ALLOW)]
    code = ctypes.create_string_buffer(b"".join(program))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(code)))
    assert confine._prctl(confine._PR_SET_NO_NEW_PRIVS, 1) == 0
    assert confine._prctl(confine._PR_SET_SECCOMP, confine._SECCOMP_MODE_FILTER, ctypes.addressof(header)) == 0


if __name__ == "__main__":
    words = sys.argv[1:]
    if words[0] == "--without":
        forget(words[1])
        words = words[2:]
    else:
        forget_landlock()
    os.execv(words[0], words)
