"""Run a program as on a kernel that lacks something: the system calls for it do not exist there.

python -m tests.support.old_kernel PROGRAM ARGUMENT ...                     without Landlock
python -m tests.support.old_kernel --without namespaces PROGRAM ...         or `filters`, or `landlock`
"""

import ctypes
import errno
import os
import struct
import sys

from protocol import sandbox

_PRCTL = {"x86_64": 157, "aarch64": 167}[os.uname().machine]


def forget_landlock() -> None:
    """Take Landlock away from this process and all that it starts."""
    forget("landlock")


def forget(what: str) -> None:
    """Take ``landlock``, ``namespaces`` or ``filters`` away from this process and all that it starts."""
    column = int(os.uname().machine == "aarch64")
    missing = sandbox._return(sandbox._REFUSE | errno.ENOSYS)
    blocks = {
        "landlock": sandbox._when(sandbox._IF_EQUAL, sandbox._LANDLOCK_CREATE_RULESET, missing),
        "namespaces": sandbox._when_called(
            sandbox._NEVER["unshare"][column], sandbox._return(sandbox._REFUSE | errno.EPERM)
        ),
        "filters": sandbox._when_called(
            _PRCTL,
            [
                sandbox._load_argument(0),
                *sandbox._among((sandbox._PR_SET_SECCOMP,), sandbox._return(sandbox._REFUSE | errno.EINVAL)),
                *sandbox._return(sandbox._ALLOW),
            ],
        ),
    }
    program = [sandbox._load(sandbox._NUMBER), *blocks[what], *sandbox._return(sandbox._ALLOW)]
    code = ctypes.create_string_buffer(b"".join(program))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(code)))
    assert sandbox._prctl(sandbox._PR_SET_NO_NEW_PRIVS, 1) == 0
    assert sandbox._prctl(sandbox._PR_SET_SECCOMP, sandbox._SECCOMP_MODE_FILTER, ctypes.addressof(header)) == 0


if __name__ == "__main__":
    words = sys.argv[1:]
    if words[0] == "--without":
        forget(words[1])
        words = words[2:]
    else:
        forget_landlock()
    os.execv(words[0], words)
