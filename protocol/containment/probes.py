"""Try every way out of a process, before it is contained and afterwards.

Before, an attempt should succeed: one that cannot would prove nothing. Afterwards every one must fail, and what was
planted outside must have heard nothing. All of it stays on this machine: the listeners are this site's own.
"""

import contextlib
import ctypes
import errno
import mmap
import os
import platform
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from protocol.sandbox import probes

LOOPBACK, LOOPBACK_6 = "127.0.0.1", "::1"
_SECONDS = 2.0
_Address = TypeVar("_Address", int, str)
_GOT_OUT, _KEPT_IN = 0, 77
_SET_NAME, _GET_NAME = 15, 16


@dataclass(frozen=True, kw_only=True)
class Plant:
    """Describe what lies outside the walls to be reached for.

    Attributes:
        tcp: port of a listener on the IPv4 loopback; 0 where there is none, so with the others.
        tcp6: the same over IPv6.
        udp: the same over UDP.
        path: a UNIX socket in the file system; empty where there is none.
        name: an abstract UNIX socket; empty where there is none.
        secret: a file that the contained process has no business with.
        listed: a file beside it that it may read.
        folder: a folder likewise.
    """

    tcp: int = 0
    tcp6: int = 0
    udp: int = 0
    path: str = ""
    name: str = ""
    secret: str
    listed: str
    folder: str


class Listeners:
    """Hold a plant and the listeners behind it; to be closed.

    Attributes:
        plant: where they are.
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="ecan-", dir=_short_folder()))
        secret, listed = self._folder / "secret", self._folder / "listed"
        for planted in (secret, listed):
            planted.write_bytes(secrets.token_bytes(16))
        self._open: dict[str, socket.socket] = {}
        tcp = self._listen("TCP", socket.AF_INET, socket.SOCK_STREAM, (LOOPBACK, 0))
        tcp6 = self._listen("TCP over IPv6", socket.AF_INET6, socket.SOCK_STREAM, (LOOPBACK_6, 0))
        udp = self._listen("UDP", socket.AF_INET, socket.SOCK_DGRAM, (LOOPBACK, 0))
        path = str(self._folder / "socket")
        name = f"ecan-{secrets.token_hex(8)}"
        by_path = self._listen("a UNIX socket", socket.AF_UNIX, socket.SOCK_STREAM, path)
        by_name = self._listen("an abstract UNIX socket", socket.AF_UNIX, socket.SOCK_STREAM, f"\0{name}")
        self.plant = Plant(
            tcp=tcp.getsockname()[1] if tcp else 0,
            tcp6=tcp6.getsockname()[1] if tcp6 else 0,
            udp=udp.getsockname()[1] if udp else 0,
            path=path if by_path else "",
            name=name if by_name else "",
            secret=str(secret),
            listed=str(listed),
            folder=str(self._folder),
        )

    def heard(self) -> list[str]:
        """Return the names of the listeners that were reached."""
        return [name for name, listener in self._open.items() if _was_reached(listener)]

    def close(self) -> None:
        """Close the listeners and remove what was planted."""
        for listener in self._open.values():
            listener.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _listen(
        self, name: str, family: socket.AddressFamily, kind: socket.SocketKind, address: tuple[str, int] | str
    ) -> socket.socket | None:
        """Open one listener; None where this machine has no such kind."""
        try:
            listener = socket.socket(family, kind)
        except OSError:
            return None
        try:
            listener.bind(address)
            if kind == socket.SOCK_STREAM:
                listener.listen()
        except OSError:
            listener.close()
            return None
        listener.setblocking(False)
        self._open[name] = listener
        return listener


def attempt_all(plant: Plant) -> dict[str, bool]:
    """Try every way out.

    Returns:
        By name, whether it led out; a way that this machine does not have leads nowhere.
    """
    return {name: _leads_out(attempt, plant) for name, attempt in _WAYS_OUT.items()}


def _leads_out(attempt: Callable[[Plant], None], plant: Plant) -> bool:
    try:
        attempt(plant)
    except (OSError, AttributeError):  # other systems lack some families, down to their names
        return False
    return True


# One way out each; an attempt that fails raises OSError. --------------------------------------------------------------


def _tcp(plant: Plant) -> None:
    _connect(socket.AF_INET, (LOOPBACK, _there(plant.tcp)))


def _tcp6(plant: Plant) -> None:
    _connect(socket.AF_INET6, (LOOPBACK_6, _there(plant.tcp6)))


def _udp(plant: Plant) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.sendto(b"?", (LOOPBACK, _there(plant.udp)))


def _icmp(_: Plant) -> None:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP).close()
    except PermissionError:  # for users in the kernel's ping_group_range alone; root has raw sockets
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()


def _raw(_: Plant) -> None:
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW).close()


def _packet(_: Plant) -> None:
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()


def _netlink(_: Plant) -> None:
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()


def _vsock(_: Plant) -> None:
    socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close()


def _unix_path(plant: Plant) -> None:
    _connect(socket.AF_UNIX, _there(plant.path))


def _unix_name(plant: Plant) -> None:
    _connect(socket.AF_UNIX, f"\0{_there(plant.name)}")


def _pair(_: Plant) -> None:
    for end in socket.socketpair():
        end.close()


def _ring(_: Plant) -> None:
    probes.Ring().close()


def _by_ctypes(_: Plant) -> None:
    """Open a socket that Python does not hear of."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.socket(int(socket.AF_INET), int(socket.SOCK_STREAM), 0)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "no socket")
    os.close(descriptor)


def _by_child(plant: Plant) -> None:
    """Try from a process that this one starts."""
    _in_child(lambda: _any_of(_tcp, _unix_path, plant=plant))


def _by_program(_: Plant) -> None:
    """Start another program."""
    _in_child(lambda: os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", ""]))


def _by_32_bit_call(_: Plant) -> None:
    """Open a socket by the system calls of 32-bit programs.

    They have other numbers.
    """
    if platform.machine() != "x86_64":
        raise OSError(errno.ENOSYS, "no such calls")
    _in_child(_old_socket)


def _by_name(_: Plant) -> None:
    """Take another name, which every process of the machine can read."""
    libc = ctypes.CDLL(None, use_errno=True)
    name = ctypes.create_string_buffer(16)
    libc.prctl(_GET_NAME, name, 0, 0, 0)
    if libc.prctl(_SET_NAME, name, 0, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "no other name")


def _by_priority(_: Plant) -> None:
    os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0))


def _by_processor(_: Plant) -> None:
    os.sched_setaffinity(0, os.sched_getaffinity(0))


def _read_outside(plant: Plant) -> None:
    Path(plant.secret).read_bytes()


def _write_outside(plant: Plant) -> None:
    written = Path(plant.folder) / "written"
    written.write_bytes(b"?")
    written.unlink()


_WAYS_OUT: Mapping[str, Callable[[Plant], None]] = {
    "TCP": _tcp,
    "TCP over IPv6": _tcp6,
    "UDP": _udp,
    "ICMP": _icmp,
    "raw IP": _raw,
    "raw packets": _packet,
    "netlink": _netlink,
    "vsock": _vsock,
    "a UNIX socket": _unix_path,
    "an abstract UNIX socket": _unix_name,
    "a pair of sockets": _pair,
    "io_uring": _ring,
    "a socket past Python": _by_ctypes,
    "a child process": _by_child,
    "another program": _by_program,
    "a 32-bit system call": _by_32_bit_call,
    "its name": _by_name,
    "its priority": _by_priority,
    "its processors": _by_processor,
    "reading outside": _read_outside,
    "writing outside": _write_outside,
}
WAYS_OUT = tuple(_WAYS_OUT)
"""The names of all ways out."""


def _connect(family: socket.AddressFamily, address: tuple[str, int] | str) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as out:
        out.settimeout(_SECONDS)
        out.connect(address)


def _there(address: _Address) -> _Address:
    if not address:
        raise OSError(errno.EADDRNOTAVAIL, "nothing was planted")
    return address


def _any_of(*attempts: Callable[[Plant], None], plant: Plant) -> None:
    if not any(_leads_out(attempt, plant) for attempt in attempts):
        raise OSError(errno.EPERM, "none of them")


def _in_child(attempt: Callable[[], object]) -> None:
    """Make an attempt in a process of its own, which it may cost its life.

    Raises:
        OSError: the process cannot be started, or the attempt failed.
    """
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            attempt()
            os._exit(_GOT_OUT)
        os._exit(_KEPT_IN)
    if os.waitpid(child, 0)[1] != _GOT_OUT:
        raise OSError(errno.EPERM, "it did not get out")


_OLD_SOCKET = bytes.fromhex(
    "53"  # push rbx
    "b867010000"  # mov eax, 359: socket
    "bb02000000"  # mov ebx, AF_INET
    "b901000000"  # mov ecx, SOCK_STREAM
    "31d2"  # xor edx, edx
    "cd80"  # int 0x80
    "5b"  # pop rbx
    "c3"  # ret
)


def _old_socket() -> None:
    with mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as code:
        code.write(_OLD_SOCKET)
        start = ctypes.addressof(ctypes.c_char.from_buffer(code))
        if ctypes.CFUNCTYPE(ctypes.c_int)(start)() < 0:
            raise OSError(errno.EPERM, "no socket")
        os._exit(_GOT_OUT)  # the function above still points into the code, which therefore cannot be closed


def _was_reached(listener: socket.socket) -> bool:
    try:
        if listener.type == socket.SOCK_DGRAM:
            listener.recv(1)
        else:
            listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def _short_folder() -> str | None:
    """Return the folder for temporary folders, or None.

    It is None if the path is too long for a UNIX socket.
    """
    return "/tmp" if len(tempfile.gettempdir()) > 60 and Path("/tmp").is_dir() else None
