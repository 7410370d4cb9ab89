"""Call the kernel by number where the standard library has no function."""

import ctypes
import functools
import os

from protocol.errors import Code, ContainmentError

OLDEST_KERNEL = "Linux 5.13"
"""What the walls need, for all of them; docs/operations.md says the same."""

PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_MM = 1, 24, 35
PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 4, 22, 38
SECCOMP_MODE_FILTER = 2
# These numbers are the same on every architecture.
IO_URING_SETUP, CLOSE_RANGE = 425, 436
LANDLOCK_CREATE_RULESET, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT_SELF = 444, 445, 446
ASK_VERSION = 1


def unsupported(why: str) -> ContainmentError:
    """Return the fault of a system that has no such wall."""
    return ContainmentError(
        Code.CONTAINMENT,
        f"This system cannot confine a process ({why}); use {OLDEST_KERNEL} or newer on x86_64 or aarch64 with "
        "Landlock enabled, or accept the risk by the option that the command's --help names.",
    )


@functools.cache
def c_library() -> ctypes.CDLL:
    """Load the C library when it is needed.

    Not every system that shows a command's help has one that is found so.
    """
    return ctypes.CDLL(None, use_errno=True)


def syscall(number: int, *arguments: int) -> int:
    """Make a system call with every argument as a whole register.

    It does not matter what the kernel makes of it.
    """
    libc = c_library()
    libc.syscall.restype = ctypes.c_long
    return int(libc.syscall(*map(ctypes.c_long, (number, *arguments))))


def prctl(option: int, *arguments: int) -> int:
    """Change this process by `prctl`; every argument is a whole register."""
    whole = (*arguments, 0, 0, 0, 0)[:4]
    return int(c_library().prctl(ctypes.c_int(option), *map(ctypes.c_ulong, whole)))


def checked(result: int, what: str) -> int:
    """Return what a call returned, or refuse to go on where it failed."""
    if result < 0:
        raise ContainmentError(
            Code.CONTAINMENT,
            f"The process cannot be {what} ({os.strerror(ctypes.get_errno())}); use a newer kernel, "
            "or accept the risk by the option that the command's --help names.",
        )
    return result
