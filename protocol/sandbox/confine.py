"""Build walls around a Linux process that it cannot take down again.

Nobody has to be root for them.

Five layers, each for what the others let through::

    descriptors   whatever was open before, such as a socket of the parent      close_range
    leftovers     core dumps, other processes of the same user looking in       RLIMIT_CORE, PR_SET_DUMPABLE
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
import ctypes
import errno
import functools
import importlib.util
import os
import platform
import signal
import socket
import struct
import sys
import sysconfig
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISSOCK
from typing import ClassVar

from protocol.errors import Code, ContainmentFault

OLDEST_KERNEL = "Linux 5.13"
"""What the walls need, for all of them; docs/operations.md says the same."""

PORTS_SINCE = 4
"""The version of Landlock that tells ports apart; it came with Linux 6.7."""

_PROBE_NAME = ".ecan-probe"
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


@dataclass(frozen=True)
class Network:
    """Describe what a confined process may do with sockets.

    There are three cases: `NONE`, `SERVE` and ``call(port)``.

    Attributes:
        is_serving: it may listen and answer over TCP, and may not call out.
        port: it may call this TCP port, and may not listen; None where it may call nobody. Landlock before
            `PORTS_SINCE` does not tell ports apart: there it may call any. Names are to be looked up before, because
            that takes UDP.
    """

    is_serving: bool = False
    port: int | None = None

    NONE: ClassVar["Network"]
    """No new socket at all, not even a pair of them."""
    SERVE: ClassVar["Network"]

    @classmethod
    def call(cls, port: int) -> "Network":
        """Allow calls to one TCP port, whatever the address."""
        return cls(port=port)


Network.NONE = Network()
Network.SERVE = Network(is_serving=True)


def confine(
    *,
    readable: Sequence[Path],
    writable: Sequence[Path] = (),
    removable: Sequence[Path] = (),
    network: Network,
    required: bool = True,
) -> Confinement:
    """Confine this process, and all that it will start, for good.

    Args:
        readable: files and folders that may be read.
        writable: folders in which files may also be made, changed and removed.
        removable: folders that may be read and whose files may be removed.
        network: what it may do with sockets.
        required: whether a layer that this kernel lacks is a fault; where False, the others are built all the same.

    Raises:
        ContainmentFault: another thread runs already, a path does not exist, a standard stream is a way out, or the
            kernel lacks a layer.
    """
    if sys.platform != "linux":
        if required:
            raise _unsupported("only Linux can")
        return Confinement(landlock_abi=0, seccomp=False)
    _require_one_thread()
    if network != Network.NONE:
        _refuse_loose_sockets()
    _checked(_syscall(_CLOSE_RANGE, 3, (1 << 31) - 1, 0), "rid of its open files")
    forbid_dumps()
    _checked(_prctl(_PR_SET_NO_NEW_PRIVS, 1), "kept from gaining rights")
    abi = landlock_abi()
    filters = _ARCHITECTURES.get(platform.machine())
    if required and (abi == 0 or filters is None):
        raise _unsupported("Landlock is not there" if abi == 0 else "its processor is not known")
    if abi > 0:
        _restrict_files(
            abi,
            [(path, _READ) for path in readable]
            + [(path, _READ | _WRITE) for path in writable]
            + [(path, _READ | _REMOVE) for path in removable]
            + [(path, _DEVICE) for path in _DEVICES],
            network,
        )
    is_filtered = filters is not None and _restrict_calls(filters, network)
    if required and not is_filtered:
        raise _unsupported("seccomp is not there")
    return Confinement(landlock_abi=abi, seccomp=is_filtered)


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
    libc = _libc()
    if libc.unshare(_NEW_NETWORK) == 0:  # for root
        return True
    if libc.unshare(_NEW_USERS | _NEW_NETWORK) == 0:
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
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(-signal.SIGKILL & 0xFF)


def forbid_dumps() -> None:
    """Forbid core dumps and looks into this process; Linux only.

    Other processes of the same user cannot look into it any more.

    Raises:
        ContainmentFault: the kernel does not let it.
    """
    if sys.platform != "linux":
        return
    import resource  # other systems do not have it

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _checked(_prctl(_PR_SET_DUMPABLE, 0), "hidden from other processes")


def probe_denied(paths: Iterable[Path], *, network: Network) -> None:
    """Show that the walls hold: each of these is tried, and each must fail.

    Args:
        paths: files and folders that must be neither readable nor writable; one that does not exist is out of reach.
        network: what `confine` was told.

    Raises:
        ContainmentFault: something was within reach.
    """
    for path in paths:
        if _is_within_reach(path):
            raise ContainmentFault(
                Code.CONTAINMENT,
                f"The walls do not hold: {path} is within reach of a process that must not see it; "
                "keep it out of the folders that the programs are installed in.",
            )
    for name, attempt in _forbidden_sockets(network):
        with contextlib.suppress(OSError):
            attempt().close()
            raise ContainmentFault(
                Code.CONTAINMENT,
                f"The walls do not hold: a process could make {name}; report it with the kernel's version.",
            )
    if network.port is not None and landlock_abi() >= PORTS_SINCE and not _is_held_to(network.port):
        raise ContainmentFault(
            Code.CONTAINMENT,
            f"The walls do not hold: a process could call another port than {network.port}; report it with the "
            "kernel's version.",
        )
    for what, number, arguments in _forbidden_calls(network):
        if _syscall(number, *arguments) >= 0 or ctypes.get_errno() != errno.EPERM:
            raise ContainmentFault(
                Code.CONTAINMENT,
                f"The walls do not hold: a process could {what}; report it with the kernel's version.",
            )


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
    return tuple(dict.fromkeys(path for path in found if path.exists()))


def landlock_abi() -> int:
    """Return the version of Landlock's interface on this kernel.

    It is 0 where there is none or it is switched off.
    """
    return max(_syscall(_LANDLOCK_CREATE_RULESET, 0, 0, _ASK_VERSION), 0)


# What the kernel calls these things. ---------------------------------------------------------------------------------

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 4, 22, 38
_SECCOMP_MODE_FILTER = 2
# These numbers are the same on every architecture.
_IO_URING_SETUP, _CLOSE_RANGE = 425, 436
_LANDLOCK_CREATE_RULESET, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT_SELF = 444, 445, 446
_ASK_VERSION = 1

_SYSTEM_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache")
_DEVICES = (Path("/dev/null"), Path("/dev/zero"), Path("/dev/urandom"))


def _unsupported(why: str) -> ContainmentFault:
    return ContainmentFault(
        Code.CONTAINMENT,
        f"This system cannot confine a process ({why}); use {OLDEST_KERNEL} or newer on x86_64 or aarch64 with "
        "Landlock enabled, or accept the risk by the option that the command's --help names.",
    )


@functools.cache
def _libc() -> ctypes.CDLL:
    """Load the C library when it is needed.

    Not every system that shows a command's help has one that is found so.
    """
    return ctypes.CDLL(None, use_errno=True)


def _syscall(number: int, *arguments: int) -> int:
    """Make a system call with every argument as a whole register.

    It does not matter what the kernel makes of it.
    """
    libc = _libc()
    libc.syscall.restype = ctypes.c_long
    return int(libc.syscall(*map(ctypes.c_long, (number, *arguments))))


def _prctl(option: int, *arguments: int) -> int:
    whole = (*arguments, 0, 0, 0, 0)[:4]
    return int(_libc().prctl(ctypes.c_int(option), *map(ctypes.c_ulong, whole)))


def _checked(result: int, what: str) -> int:
    if result < 0:
        raise ContainmentFault(
            Code.CONTAINMENT,
            f"The process cannot be {what} ({os.strerror(ctypes.get_errno())}); use a newer kernel, "
            "or accept the risk by the option that the command's --help names.",
        )
    return result


# Descriptors and threads. --------------------------------------------------------------------------------------------


def _require_one_thread() -> None:
    """Refuse to go on with a second thread.

    Walls do not reach a thread that is there already. One that has ended is listed for a moment longer.
    """
    deadline = time.monotonic() + _FAREWELL_S
    while _num_threads() > 1:
        if time.monotonic() > deadline:
            raise ContainmentFault(
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
        ContainmentFault: there is one.
    """
    for stream in range(3):
        with contextlib.suppress(OSError):
            if S_ISSOCK(os.fstat(stream).st_mode) and _is_loose(stream):
                raise ContainmentFault(
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


# Landlock: files, and calling out. -----------------------------------------------------------------------------------

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_DIR, _REMOVE_FILE = (1 << bit for bit in range(6))
_MAKE_DIR, _MAKE_REG, _REFER, _TRUNCATE = 1 << 7, 1 << 8, 1 << 13, 1 << 14
_READ = _READ_FILE | _READ_DIR
_REMOVE = _REMOVE_FILE
_WRITE = _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _REFER | _TRUNCATE
_DEVICE = _READ_FILE | _WRITE_FILE
_OF_A_FILE = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
"""Rights that mean something for a single file."""

_NUM_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many kinds of file access each version of the interface walls off: 2 adds moving, 3 truncating, 5 ioctl."""
_BIND_TCP, _CONNECT_TCP = 1, 2
_ABSTRACT_UNIX, _SIGNALS = 1, 2
_PATH_BENEATH, _NET_PORT = 1, 2


def _restrict_files(abi: int, rules: Sequence[tuple[Path, int]], network: Network) -> None:
    """Wall off all files but the ones named, and TCP.

    From version 6 of Landlock on, abstract sockets and signals are walled off as well.
    """
    handled = (1 << _NUM_FILE_RIGHTS[min(abi, max(_NUM_FILE_RIGHTS))]) - 1
    net = _CONNECT_TCP if network.is_serving else _CONNECT_TCP | _BIND_TCP
    attributes = struct.pack("<QQQ", handled, net, _ABSTRACT_UNIX | _SIGNALS)[: 8 if abi < 4 else 16 if abi < 6 else 24]
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    created = _syscall(_LANDLOCK_CREATE_RULESET, ctypes.addressof(buffer), len(attributes), 0)
    ruleset = _checked(created, "kept from files")
    try:
        for path, rights in rules:
            _allow_beneath(ruleset, path, rights & handled)
        if network.port is not None and abi >= PORTS_SINCE:
            _allow_calls(ruleset, network.port)
        _checked(_syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0), "kept from files")
    finally:
        os.close(ruleset)


def _allow_beneath(ruleset: int, path: Path, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        raise ContainmentFault(
            Code.CONTAINMENT, f"{path} cannot be kept within reach ({error.strerror}); restore it."
        ) from error
    try:
        allowed = rights if path.is_dir() else rights & _OF_A_FILE
        beneath = ctypes.create_string_buffer(struct.pack("<Qi", allowed, descriptor))
        added = _syscall(_LANDLOCK_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.addressof(beneath), 0)
        _checked(added, "kept from files")
    finally:
        os.close(descriptor)


def _allow_calls(ruleset: int, port: int) -> None:
    """Add a TCP port to those that may be called."""
    rule = ctypes.create_string_buffer(struct.pack("<QQ", _CONNECT_TCP, port))
    added = _syscall(_LANDLOCK_ADD_RULE, ruleset, _NET_PORT, ctypes.addressof(rule), 0)
    _checked(added, "kept from other ports")


# seccomp: system calls. ----------------------------------------------------------------------------------------------

_Calls = dict[str, tuple[int, int | None]]
"""System calls with their numbers on x86_64 and on aarch64, which lacks some old ones."""

_NEVER: _Calls = {
    # Other processes: their memory and their open files.
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438),
    # Signals to them; `_OWN_SIGNALS` are those that a process needs for itself.
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    # Ways to hand something over that are no files: memory, queues and semaphores under a number or a name.
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "shmdt": (67, 197),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "semget": (64, 190),
    "semop": (65, 193),
    "semctl": (66, 191),
    "semtimedop": (220, 192),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    "mq_timedsend": (242, 182),
    "mq_timedreceive": (243, 183),
    "mq_notify": (244, 184),
    "mq_getsetattr": (245, 185),
    # Ways around the other filters: calls through a ring, files by their handle, other namespaces.
    "io_uring_setup": (_IO_URING_SETUP, _IO_URING_SETUP),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "open_by_handle_at": (304, 265),
    "unshare": (272, 97),
    "setns": (308, 268),
    # What Landlock does not see, or not at first: the modes, owners, attributes, times and lengths of files. What is
    # open for writing may be cut: ftruncate stays.
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "lchown": (94, None),
    "fchown": (93, 55),
    "fchownat": (260, 54),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "setxattrat": (463, 463),
    "removexattrat": (466, 466),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "truncate": (76, 45),
    # A pair of sockets is no way out by itself, but one of datagrams can be pointed at any named socket.
    "socketpair": (53, 199),
    # Other views of the files.
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    # The kernel itself.
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    # Other programs.
    "execve": (59, 221),
    "execveat": (322, 281),
}
_SOCKET: _Calls = {"socket": (41, 198)}
_CALLING: _Calls = {"connect": (42, 203)}
_SERVING: _Calls = {
    "accept": (43, 202),
    "accept4": (288, 242),
    "bind": (49, 200),
    "listen": (50, 201),
}
# Without a network there is no use for a socket that came with stdin, stdout or stderr either.
_SENDING: _Calls = {
    "sendto": (44, 206),
    "sendmsg": (46, 211),
    "sendmmsg": (307, 269),
}
# Calls that are refused with some arguments only: which argument, and which values or bits of it.
_CLONE: _Calls = {"clone": (56, 220)}
_NEW_USERS, _NEW_NETWORK = 0x10000000, 0x40000000
_NEW_NAMESPACES = 0x7E020000
"""The flags with which clone makes namespaces."""
_HIDDEN = {"clone3": 435, "openat2": 437}
"""Their flags lie in memory, out of a filter's sight; without them, libraries fall back to clone and openat."""
_OPEN: _Calls = {"open": (2, None), "openat": (257, 56)}
_FLAGS_OF_OPENING = {"open": 1, "openat": 2}
_ACCESS, _NEITHER, _CUT = 0x3, 0x3, 0x200
"""O_ACCMODE; its fourth value, to neither read nor write, for which Landlock asks for no right; and O_TRUNC."""
_IOCTL: _Calls = {"ioctl": (16, 29)}
_IOCTLS = (0x5412, 0x541C, 0x8901, 0x8902)
"""TIOCSTI and TIOCLINUX type into the terminal that the process was started from; FIOSETOWN and SIOCSPGRP: as below."""
_FCNTL: _Calls = {"fcntl": (72, 25)}
_FCNTLS = (8, 15)
"""F_SETOWN and F_SETOWN_EX: to have the kernel send a signal of one's choice to any process of the user."""
_OWN_SIGNALS: _Calls = {"kill": (62, 129), "tgkill": (234, 131)}
_LIMITS: _Calls = {"prlimit64": (302, 261)}
_FLAGS_OF_SENDING = {"sendto": 3, "sendmsg": 2, "sendmmsg": 3}
_CALLS_OUT_BY_SENDING = 0x20000000
"""MSG_FASTOPEN, which calls without connect and so past Landlock."""


@dataclass(frozen=True)
class _Architecture:
    """Describe how system calls are told apart on a processor.

    By its audit number, its column in the tables, and its odd numbers.
    """

    audit: int
    column: int
    x32_bit: int | None


_ARCHITECTURES = {
    "x86_64": _Architecture(audit=0xC000003E, column=0, x32_bit=0x40000000),
    "aarch64": _Architecture(audit=0xC00000B7, column=1, x32_bit=None),
}

_ALLOW, _KILL, _REFUSE = 0x7FFF0000, 0x80000000, 0x00050000
_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06
_IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT = 0x15, 0x35, 0x45
_NUMBER, _AUDIT = 0, 4
_ARGUMENTS = 16
"""Where the kernel shows a filter the call's number, its architecture and its arguments, 8 bytes each."""

_Program = list[bytes]


def _restrict_calls(architecture: _Architecture, network: Network) -> bool:
    """Install the filter; return False on a kernel that has none.

    The filter can only ever be narrowed.
    """
    program = _filter(architecture, network)
    code = ctypes.create_string_buffer(b"".join(program))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(code)))
    installed = _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(header))
    if installed < 0 and ctypes.get_errno() == errno.EINVAL:
        return False
    _checked(installed, "kept from system calls")
    return True


def _refused(network: Network) -> _Calls:
    """Return the system calls that are refused whatever their arguments."""
    if network == Network.NONE:
        return _NEVER | _SOCKET | _CALLING | _SERVING | _SENDING
    return _NEVER | (_CALLING if network.port is None else _SERVING)


def _filter(architecture: _Architecture, network: Network) -> _Program:
    column = architecture.column
    refused = _refused(network)
    no, go_on = _return(_REFUSE | errno.EPERM), _return(_ALLOW)
    number = [_load(_AUDIT), *_unless(architecture.audit, _return(_KILL)), _load(_NUMBER)]
    if architecture.x32_bit is not None:
        number += _when(_IF_AT_LEAST, architecture.x32_bit, _return(_KILL))
    for call in refused.values():
        number += _when_called(call[column], no)
    for hidden in _HIDDEN.values():
        number += _when(_IF_EQUAL, hidden, _return(_REFUSE | errno.ENOSYS))
    new_namespace = [_load_argument(0), *_when(_IF_ANY_BIT, _NEW_NAMESPACES, no), *go_on]
    number += _when_called(_CLONE["clone"][column], new_namespace)
    number += _when_called(_IOCTL["ioctl"][column], [_load_argument(1), *_among(_IOCTLS, no), *go_on])
    number += _when_called(_FCNTL["fcntl"][column], [_load_argument(1), *_among(_FCNTLS, no), *go_on])
    for name, place in _FLAGS_OF_OPENING.items():
        flags = [_load_argument(place), _instruction(_AND, _ACCESS | _CUT)]
        number += _when_called(_OPEN[name][column], [*flags, *_among((_NEITHER, _NEITHER | _CUT, _CUT), no), *go_on])
    itself = os.getpid()
    for call in _OWN_SIGNALS.values():
        number += _when_called(call[column], [_load_argument(0), *_among((itself,), go_on), *no])
    number += _when_called(_LIMITS["prlimit64"][column], [_load_argument(0), *_among((0, itself), go_on), *no])
    if network != Network.NONE:
        number += _when_called(_SOCKET["socket"][column], _only_tcp(go_on, no))
        for name, place in _FLAGS_OF_SENDING.items():
            sending = [_load_argument(place), *_when(_IF_ANY_BIT, _CALLS_OUT_BY_SENDING, no), *go_on]
            number += _when_called(_SENDING[name][column], sending)
    return number + go_on


def _only_tcp(go_on: _Program, no: _Program) -> _Program:
    """Let a call to socket pass if it asks for TCP over IPv4 or IPv6.

    Other streams, such as MPTCP, are no TCP to Landlock, which lets them call anywhere.
    """
    protocol = [_load_argument(2), *_among((0, socket.IPPROTO_TCP), go_on), *no]
    kind = [_load_argument(1), _instruction(_AND, 0xF), *_when(_IF_EQUAL, socket.SOCK_STREAM, protocol), *no]
    families = (socket.AF_INET, socket.AF_INET6)
    return [_load_argument(0), *_among(families, kind), *no]


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, value)


def _load(offset: int) -> bytes:
    return _instruction(_LOAD, offset)


def _load_argument(place: int) -> bytes:
    """Load the low half of an argument.

    The kernel looks at no more of those that are filtered.
    """
    return _load(_ARGUMENTS + 8 * place)


def _return(action: int) -> _Program:
    return [_instruction(_RETURN, action)]


def _when(condition: int, value: int, then: _Program) -> _Program:
    """Run a block, which returns, if a comparison with what was loaded holds."""
    return [_instruction(condition, value, 0, len(then)), *then]


def _among(values: Iterable[int], then: _Program) -> _Program:
    """Run a block, which returns, if what was loaded is one of these."""
    return [line for value in values for line in _when(_IF_EQUAL, value, then)]


def _when_called(number: int | None, then: _Program) -> _Program:
    """Run a block if the call is this one.

    There is no block for a call that the processor does not have.
    """
    return [] if number is None else _when(_IF_EQUAL, number, then)


def _unless(value: int, then: _Program) -> _Program:
    return [_instruction(_IF_EQUAL, value, len(then), 0), *then]


# Probes. -------------------------------------------------------------------------------------------------------------


def _is_within_reach(path: Path) -> bool:
    """Return whether a file or folder can be opened in any way.

    A folder can be listed or written to.
    """
    for flags in (os.O_RDONLY, os.O_WRONLY, _NEITHER):
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
        self._descriptor = _syscall(_IO_URING_SETUP, 1, ctypes.addressof(parameters))
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
    refused = _refused(network)
    partly = _OWN_SIGNALS | _LIMITS | _FCNTL | _OPEN
    architecture = _ARCHITECTURES.get(platform.machine())
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
        ("have another process signalled", "fcntl", (0, _FCNTLS[0], nobody)),
        ("open a file to neither read nor write it", "openat", (-1, 0, _NEITHER, 0)),
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
