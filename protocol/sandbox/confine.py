"""Build walls around a Linux process that it cannot take down again.

Nobody has to be root for them.

Six layers, each for what the others let through::

    descriptors   whatever was open before, such as a socket of the parent      close_range
    leftovers     core dumps, others looking in, the command line they can see  RLIMIT_CORE, PR_SET_DUMPABLE, PR_SET_MM
    rights        what root may do, in a namespace of its own too               capset
    no new rights programs that run as another user                             PR_SET_NO_NEW_PRIVS
    files         everything but the named folders                              Landlock
    system calls  sockets, shared memory and queues, other processes, exec      seccomp-BPF

Landlock knows paths, but neither UNIX sockets nor a file's mode; seccomp knows system calls and no paths; neither
closes what is open already. The first version of Landlock, in `OLDEST_KERNEL`, is enough: what later ones added
(truncating, calling out, signals) is refused by the filter, which is the same on every kernel. One thing needs a later
version: a process that may call a single port is held to it from `PORTS_SINCE` on. The walls hold for the calling
thread and all that it starts, so they are built before there is a second one. Whoever builds them then shows that they
hold, see `probe_denied`.
"""

import contextlib
import importlib.util
import os
import platform
import signal
import socket
import sys
import sysconfig
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from stat import S_ISSOCK

from protocol.errors import Code, ContainmentError
from protocol.sandbox.arguments import hide_arguments
from protocol.sandbox.kernel import (
    CLOSE_RANGE,
    PR_SET_DUMPABLE,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_PDEATHSIG,
    c_library,
    checked,
    prctl,
    syscall,
    unsupported,
)
from protocol.sandbox.landlock import DEVICE, LIST, READ, REMOVE, WRITE, landlock_abi, restrict_files
from protocol.sandbox.network import Network
from protocol.sandbox.rights import NET_BIND_SERVICE, drop_rights
from protocol.sandbox.seccomp import restrict_calls, restrict_to_computing
from protocol.sandbox.system_calls import ARCHITECTURES, NEW_NETWORK, NEW_USERS

_FAREWELL_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Confinement:
    """Describe which walls stand.

    Attributes:
        landlock_abi: version of Landlock's interface on this kernel; 0 where there is none.
        seccomp: whether system calls are filtered.
    """

    landlock_abi: int
    seccomp: bool

    @property
    def holds(self) -> bool:
        """Whether files and system calls are both walled off."""
        return self.landlock_abi > 0 and self.seccomp


def confine(
    *,
    readable: Sequence[Path],
    writable: Sequence[Path] = (),
    removable: Sequence[Path] = (),
    listable: Sequence[Path] = (),
    network: Network,
    required: bool = True,
    kept: Sequence[int] = (),
) -> Confinement:
    """Confine this process, and all that it will start, for good.

    Args:
        readable: files and folders that may be read.
        writable: folders in which files may also be made, changed and removed.
        removable: folders that may be read and whose files may be removed.
        listable: folders whose names may be read, and what lies in them not for that.
        network: what it may do with sockets.
        required: whether a layer that this kernel lacks is a fault; where False, the others are built all the same.
        kept: descriptors that stay open beside the standard streams: pipes to processes behind walls of their own.

    Raises:
        ContainmentError: another thread runs already, a path does not exist, a standard stream is a way out, or the
            kernel lacks a layer.
    """
    if sys.platform != "linux":
        if required:
            raise unsupported("only Linux can")
        return Confinement(landlock_abi=0, seccomp=False)
    _require_one_thread()
    if network != Network.NONE:
        _refuse_loose_sockets()
    else:
        hide_arguments()  # what may speak to others needs no such way, and is looked for by its command line
    _leave_behind([0, 1, 2, *kept], NET_BIND_SERVICE if network.is_serving else None)
    abi = landlock_abi()
    filters = ARCHITECTURES.get(platform.machine())
    if required and (abi == 0 or filters is None):
        raise unsupported("Landlock is not there" if abi == 0 else "its processor is not known")
    if abi > 0:
        restrict_files(
            abi,
            [(path, READ) for path in readable]
            + [(path, READ | WRITE) for path in writable]
            + [(path, READ | REMOVE) for path in removable]
            + [(path, LIST) for path in listable]
            + [(path, DEVICE) for path in _DEVICES],
            network,
        )
    is_filtered = filters is not None and restrict_calls(filters, network)
    if required and not is_filtered:
        raise unsupported("seccomp is not there")
    return Confinement(landlock_abi=abi, seccomp=is_filtered)


def confine_to_computing(num_descriptors: int = 3) -> Confinement:
    """Leave this process its memory and what it has open, for good.

    It can open no file at all, neither start a process nor signal one, and make no socket. What this kernel lacks of
    the walls is left out; whoever opens recordings stands behind walls of its own, which say so.

    Args:
        num_descriptors: how many stay open: the standard streams, and those that follow.

    Raises:
        ContainmentError: a wall that this kernel has cannot be built.
    """
    if sys.platform != "linux":
        return Confinement(landlock_abi=0, seccomp=False)
    hide_arguments()
    _leave_behind(range(num_descriptors))
    abi = landlock_abi()
    if abi > 0:
        restrict_files(abi, [], Network.NONE)
    architecture = ARCHITECTURES.get(platform.machine())
    return Confinement(landlock_abi=abi, seccomp=architecture is not None and restrict_to_computing(architecture))


def _leave_behind(descriptors: Sequence[int], right: int | None = None) -> None:
    """Give up open files, looks into this process, and rights.

    Args:
        descriptors: what stays open.
        right: the one that is kept.
    """
    for before, behind in pairwise([-1, *sorted(descriptors), 1 << 31]):
        if before + 1 < behind:
            checked(syscall(CLOSE_RANGE, before + 1, behind - 1, 0), "rid of its open files")
    forbid_dumps()
    drop_rights(right)
    checked(prctl(PR_SET_NO_NEW_PRIVS, 1), "kept from gaining rights")


def leave_network() -> bool:
    """Move this process into a network of its own, with nobody else in it.

    Call it before `confine`, which forbids it.

    Returns:
        Whether it is in such a network now. Some systems do not let users make one; where all that the process has
        is the loopback interface of a container that is cut off already, that is as good.
    """
    if sys.platform != "linux":
        return False
    user, group = os.getuid(), os.getgid()
    libc = c_library()
    if libc.unshare(NEW_NETWORK) == 0:  # for root
        return True
    if libc.unshare(NEW_USERS | NEW_NETWORK) == 0:
        for name, content in (
            ("setgroups", "deny"),
            ("uid_map", f"{user} {user} 1"),
            ("gid_map", f"{group} {group} 1"),
        ):
            with contextlib.suppress(OSError):  # without a map it is nobody, and cannot write what is its user's
                Path("/proc/self", name).write_text(content)
        return os.getuid() == user
    try:
        devices = Path("/proc/self/net/dev").read_text().splitlines()[2:]
    except OSError:
        return False
    return {device.split(":")[0].strip() for device in devices} <= {"lo"}


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; Linux only.

    Args:
        parent: its process number, which may have ended already.
    """
    if sys.platform != "linux":
        return
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(-signal.SIGKILL & 0xFF)


def forbid_dumps() -> None:
    """Forbid core dumps and looks into this process; Linux only.

    Other processes of the same user cannot look into it any more.

    Raises:
        ContainmentError: the kernel does not let it.
    """
    if sys.platform != "linux":
        return
    import resource  # other systems do not have it

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    checked(prctl(PR_SET_DUMPABLE, 0), "hidden from other processes")


def code_paths(*packages: str) -> tuple[Path, ...]:
    """Return what a Python process reads in order to run.

    The standard library, what is installed, and the system's libraries.

    Args:
        packages: names of our own packages, which may lie elsewhere when they are being worked on.
    """
    prefixes = {Path(prefix).resolve() for prefix in (sys.prefix, sys.base_prefix, sys.exec_prefix)}
    found = [path for path in map(Path, sys.path) if any(path.resolve().is_relative_to(one) for one in prefixes)]
    for package in ("protocol", *packages):
        spec = importlib.util.find_spec(package)
        found += map(Path, (spec and spec.submodule_search_locations) or ())
    found += map(Path, (sysconfig.get_config_var("LIBDIR") or "/usr/lib", *_SYSTEM_LIBRARIES))
    # Not `Path.exists`, which fails at what is out of reach, such as the place where a moved Python was built.
    return tuple(dict.fromkeys(path for path in found if os.path.exists(path)))  # noqa: PTH110


_SYSTEM_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache")
_DEVICES = (Path("/dev/null"), Path("/dev/zero"), Path("/dev/urandom"))


def _require_one_thread() -> None:
    """Refuse to go on with a second thread.

    Walls do not reach a thread that is there already. One that has ended is listed for a moment longer.
    """
    deadline = time.monotonic() + _FAREWELL_S
    while _num_threads() > 1:
        if time.monotonic() > deadline:
            raise ContainmentError(
                Code.CONTAINMENT, "The process has started threads already; confine it before it does."
            )
        time.sleep(0.001)


def _num_threads() -> int:
    try:
        return len(os.listdir("/proc/self/task"))  # noqa: PTH208 - no paths are wanted
    except FileNotFoundError:  # no /proc: nothing to count
        return 1


def _refuse_loose_sockets() -> None:
    """Refuse a standard stream that is a socket which can change its peer.

    A UNIX socket could be pointed at any other one, which Landlock does not see.

    Raises:
        ContainmentError: there is one.
    """
    for stream in range(3):
        with contextlib.suppress(OSError):
            if S_ISSOCK(os.fstat(stream).st_mode) and _is_loose(stream):
                raise ContainmentError(
                    Code.CONTAINMENT,
                    f"Standard stream {stream} is a socket that could be pointed elsewhere; start the process with a "
                    "pipe, a file or a connected stream in its place.",
                )


def _is_loose(stream: int) -> bool:
    """Tell whether a socket is neither TCP nor a connected stream."""
    with socket.socket(fileno=os.dup(stream)) as copy:
        if copy.type != socket.SOCK_STREAM:
            return True
        if copy.family in (socket.AF_INET, socket.AF_INET6):
            return copy.proto != socket.IPPROTO_TCP
        try:
            copy.getpeername()
        except OSError:
            return True
        return False
