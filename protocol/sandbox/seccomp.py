"""Keep a process from system calls, with a seccomp filter."""

import ctypes
import errno
import functools
import mmap
import os
import socket
import struct
from collections.abc import Iterable

from protocol.sandbox.kernel import PR_SET_DUMPABLE, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, checked, prctl
from protocol.sandbox.network import Network
from protocol.sandbox.system_calls import (
    ACCESS,
    BY_DESCRIPTOR,
    CALLING,
    CALLS_OUT_BY_SENDING,
    CLONE,
    COMPUTING,
    CUT,
    FCNTL,
    FCNTLS,
    FLAGS_OF_OPENING,
    FLAGS_OF_SENDING,
    HIDDEN,
    IOCTL,
    IOCTLS,
    LIMITS,
    MEMORY,
    NEITHER,
    NEVER,
    NEW_NAMESPACES,
    OPEN,
    OWN_SIGNALS,
    PRCTL,
    PRCTLS,
    SENDING,
    SERVING,
    SOCKET,
    STATUS,
    Architecture,
    Calls,
)

_ALLOW, _KILL, _REFUSE = 0x7FFF0000, 0x80000000, 0x00050000
_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06
_IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT = 0x15, 0x35, 0x45
_NUMBER, _AUDIT = 0, 4
_ARGUMENTS = 16
"""Where the kernel shows a filter the call's number, its architecture and its arguments, 8 bytes each."""

_Program = list[bytes]


def restrict_calls(architecture: Architecture, network: Network) -> bool:
    """Install the filter; return False on a kernel that has none.

    The filter can only ever be narrowed.
    """
    return _install(_filter(architecture, network))


def restrict_to_computing(architecture: Architecture) -> bool:
    """Install a filter that leaves no more than computing and pipes.

    It returns False on a kernel that has none.
    """
    return _install(_computing(architecture))


def _install(program: _Program) -> bool:
    code = ctypes.create_string_buffer(b"".join(program))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(code)))
    installed = prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(header))
    if installed < 0 and ctypes.get_errno() == errno.EINVAL:
        return False
    checked(installed, "kept from system calls")
    return True


def refused_calls(network: Network) -> Calls:
    """Return the system calls that are refused whatever their arguments."""
    if network == Network.NONE:
        return NEVER | SOCKET | CALLING | SERVING | SENDING
    return NEVER | (CALLING if network.port is None else SERVING)


def _filter(architecture: Architecture, network: Network) -> _Program:
    column = architecture.column
    refused = refused_calls(network)
    no, go_on = _return(_REFUSE | errno.EPERM), _return(_ALLOW)
    number = [_load(_AUDIT), *_unless(architecture.audit, _return(_KILL)), _load(_NUMBER)]
    if architecture.x32_bit is not None:
        number += _when(_IF_AT_LEAST, architecture.x32_bit, _return(_KILL))
    for call in refused.values():
        number += _when_called(call[column], no)
    for hidden in HIDDEN.values():
        number += _when(_IF_EQUAL, hidden, _return(_REFUSE | errno.ENOSYS))
    new_namespace = [_load_argument(0), *_when(_IF_ANY_BIT, NEW_NAMESPACES, no), *go_on]
    number += _when_called(CLONE["clone"][column], new_namespace)
    number += _when_called(IOCTL["ioctl"][column], [_load_argument(1), *_among(IOCTLS, no), *go_on])
    number += _when_called(FCNTL["fcntl"][column], [_load_argument(1), *_among(FCNTLS, no), *go_on])
    for name, place in FLAGS_OF_OPENING.items():
        flags = [_load_argument(place), _instruction(_AND, ACCESS | CUT)]
        number += _when_called(OPEN[name][column], [*flags, *_among((NEITHER, NEITHER | CUT, CUT), no), *go_on])
    undumpable = [_load_argument(1), *_among((0,), go_on), *no]
    change = [_load_argument(0), *_among(PRCTLS, go_on), *_when(_IF_EQUAL, PR_SET_DUMPABLE, undumpable), *no]
    number += _when_called(PRCTL["prctl"][column], change)
    itself = os.getpid()
    for call in OWN_SIGNALS.values():
        number += _when_called(call[column], [_load_argument(0), *_among((itself,), go_on), *no])
    number += _when_called(LIMITS["prlimit64"][column], [_load_argument(0), *_among((0, itself), go_on), *no])
    if network != Network.NONE:
        number += _when_called(SOCKET["socket"][column], _only_tcp(go_on, no))
        for name, place in FLAGS_OF_SENDING.items():
            sending = [_load_argument(place), *_when(_IF_ANY_BIT, CALLS_OUT_BY_SENDING, no), *go_on]
            number += _when_called(SENDING[name][column], sending)
    return number + go_on


@functools.cache
def _computing(architecture: Architecture) -> _Program:
    """Return the filter of a process that has all it needs in memory."""
    column, no, go_on = architecture.column, _return(_REFUSE | errno.EPERM), _return(_ALLOW)
    number = [_load(_AUDIT), *_unless(architecture.audit, _return(_KILL)), _load(_NUMBER)]
    for call in COMPUTING.values():
        number += _when_called(call[column], go_on)
    limits = [_load_argument(0), *_among((0,), go_on), *no]
    number += _when_called(LIMITS["prlimit64"][column], limits)
    by_descriptor = [_load_argument(3), *_among((BY_DESCRIPTOR,), go_on), *no]
    number += _when_called(STATUS["newfstatat"][column], by_descriptor)
    for call in MEMORY.values():
        number += _when_called(call[column], [_load_argument(2), *_when(_IF_ANY_BIT, mmap.PROT_EXEC, no), *go_on])
    return number + no


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
