"""Try from inside whether the walls hold."""

import contextlib
import ctypes
import errno
import functools
import os
import platform
import socket
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from protocol.errors import Code, ContainmentError
from protocol.sandbox.kernel import IO_URING_SETUP, syscall
from protocol.sandbox.landlock import landlock_abi
from protocol.sandbox.network import PORTS_SINCE, Network
from protocol.sandbox.seccomp import refused_calls
from protocol.sandbox.system_calls import ARCHITECTURES, FCNTL, FCNTLS, LIMITS, NEITHER, OPEN, OWN_SIGNALS

_PROBE_NAME = ".ecan-probe"


def probe_denied(paths: Iterable[Path], *, network: Network) -> None:
    """Show that the walls hold: each of these is tried, and each must fail.

    Args:
        paths: files and folders that must be neither readable nor writable; one that does not exist is out of reach.
        network: what `confine` was told.

    Raises:
        ContainmentError: something was within reach.
    """
    for path in paths:
        if _is_within_reach(path):
            raise ContainmentError(
                Code.CONTAINMENT,
                f"The walls do not hold: {path} is within reach of a process that must not see it; "
                "keep it out of the folders that the programs are installed in.",
            )
    for name, attempt in _forbidden_sockets(network):
        with contextlib.suppress(OSError):
            attempt().close()
            raise ContainmentError(
                Code.CONTAINMENT,
                f"The walls do not hold: a process could make {name}; report it with the kernel's version.",
            )
    if network.port is not None and landlock_abi() >= PORTS_SINCE and not _is_held_to(network.port):
        raise ContainmentError(
            Code.CONTAINMENT,
            f"The walls do not hold: a process could call another port than {network.port}; report it with the "
            "kernel's version.",
        )
    for what, number, arguments in _forbidden_calls(network):
        if syscall(number, *arguments) >= 0 or ctypes.get_errno() != errno.EPERM:
            raise ContainmentError(
                Code.CONTAINMENT,
                f"The walls do not hold: a process could {what}; report it with the kernel's version.",
            )


def _is_within_reach(path: Path) -> bool:
    """Return whether a file or folder can be opened in any way.

    A folder can be listed or written to.
    """
    for flags in (os.O_RDONLY, os.O_WRONLY, NEITHER):
        with contextlib.suppress(OSError):
            os.close(os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY))
            return True
    inside = path / _PROBE_NAME
    with contextlib.suppress(OSError):
        os.close(os.open(inside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        inside.unlink()
        return True
    return False


_MPTCP = 262


class Ring:
    """Hold a ring of system calls (io_uring), which `confine` forbids."""

    def __init__(self) -> None:
        parameters = ctypes.create_string_buffer(120)
        self._descriptor = syscall(IO_URING_SETUP, 1, ctypes.addressof(parameters))
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "no ring")

    def close(self) -> None:
        """Give it back."""
        os.close(self._descriptor)


def _is_held_to(port: int) -> bool:
    """Tell whether a call to another port of this machine is refused.

    Where no wall stands, a port that is closed gives another error.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as caller:
        caller.setblocking(False)
        return caller.connect_ex(("127.0.0.1", port - 1 or 2)) == errno.EACCES


def _forbidden_sockets(network: Network) -> Iterator[tuple[str, Callable[[], Ring | socket.socket]]]:
    """Yield name and maker of everything that `confine` forbids."""
    if network == Network.NONE:
        yield "a TCP socket", functools.partial(socket.socket, socket.AF_INET, socket.SOCK_STREAM)
        yield "a TCP socket", functools.partial(socket.socket, socket.AF_INET6, socket.SOCK_STREAM)
    yield "a UDP socket", functools.partial(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
    yield "a UDP socket", functools.partial(socket.socket, socket.AF_INET6, socket.SOCK_DGRAM)
    yield "a stream that is not TCP", functools.partial(socket.socket, socket.AF_INET, socket.SOCK_STREAM, _MPTCP)
    yield "a UNIX socket", functools.partial(socket.socket, socket.AF_UNIX, socket.SOCK_STREAM)
    yield "a netlink socket", functools.partial(socket.socket, socket.AF_NETLINK, socket.SOCK_RAW)
    yield "a packet socket", functools.partial(socket.socket, socket.AF_PACKET, socket.SOCK_RAW)
    yield "a vsock socket", functools.partial(socket.socket, socket.AF_VSOCK, socket.SOCK_STREAM)
    yield "a ring of system calls", Ring


def _forbidden_calls(network: Network) -> Iterator[tuple[str, int, tuple[int, ...]]]:
    """Yield what must be refused, with its system call and arguments.

    With these arguments the kernel itself does nothing.

    Without a filter, each ends well or with another error than that of a missing permission.
    """
    refused = refused_calls(network)
    partly = OWN_SIGNALS | LIMITS | FCNTL | OPEN
    architecture = ARCHITECTURES.get(platform.machine())
    if architecture is None:
        return
    nobody = (1 << 31) - 1  # larger than any process number
    for what, name, arguments in (
        ("cut a file", "truncate", (0, 0)),
        ("set a file's times", "utimensat", (-1, 0, 0, 0)),
        ("share memory", "shmget", (0, 0, 0)),
        ("use a message queue", "msgctl", (-1, 0, 0)),
        ("use a semaphore", "semctl", (-1, 0, 0, 0)),
        ("use a named message queue", "mq_open", (0, 0, 0, 0)),
        ("limit another process", "prlimit64", (nobody, 0, 0, 0)),
        ("signal another process", "kill", (nobody, 0)),
        ("signal another process", "tgkill", (nobody, nobody, 0)),
        ("signal another process", "tkill", (nobody, 0)),
        ("signal another process", "rt_sigqueueinfo", (nobody, 0, 0)),
        ("hold another process", "pidfd_open", (nobody, 0)),
        ("signal another process", "pidfd_send_signal", (-1, 0, 0, 0)),
        ("have another process signalled", "fcntl", (0, FCNTLS[0], nobody)),
        ("open a file to neither read nor write it", "openat", (-1, 0, NEITHER, 0)),
        ("run a program", "execve", (0, 0, 0)),
        ("make a pair of sockets", "socketpair", (0, 0, 0, 0)),
        ("call out", "connect", (-1, 0, 0)),
        ("take a port", "bind", (-1, 0, 0)),
        ("listen", "listen", (-1, 0)),
        ("take a call", "accept4", (-1, 0, 0, 0)),
    ):
        number = (refused | partly).get(name, (None, None))[architecture.column]
        if number is not None:
            yield what, number, arguments
