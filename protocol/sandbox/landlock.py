"""Keep a process from files, ports and other processes, with Landlock."""

import ctypes
import os
import struct
from collections.abc import Sequence
from pathlib import Path

from protocol.errors import Code, ContainmentError
from protocol.sandbox.kernel import (
    ASK_VERSION,
    LANDLOCK_ADD_RULE,
    LANDLOCK_CREATE_RULESET,
    LANDLOCK_RESTRICT_SELF,
    checked,
    syscall,
)
from protocol.sandbox.network import PORTS_SINCE, Network


def landlock_abi() -> int:
    """Return the version of Landlock's interface on this kernel.

    It is 0 where there is none or it is switched off.
    """
    return max(syscall(LANDLOCK_CREATE_RULESET, 0, 0, ASK_VERSION), 0)


_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_DIR, _REMOVE_FILE = (1 << bit for bit in range(6))
_MAKE_DIR, _MAKE_REG, _REFER, _TRUNCATE = 1 << 7, 1 << 8, 1 << 13, 1 << 14
READ = _READ_FILE | _READ_DIR
LIST = _READ_DIR
REMOVE = _REMOVE_FILE
WRITE = _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _REFER | _TRUNCATE
DEVICE = _READ_FILE | _WRITE_FILE
_OF_A_FILE = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
"""Rights that mean something for a single file."""

_NUM_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many kinds of file access each version of the interface walls off: 2 adds moving, 3 truncating, 5 ioctl."""
_BIND_TCP, _CONNECT_TCP = 1, 2
_ABSTRACT_UNIX, _SIGNALS = 1, 2
_PATH_BENEATH, _NET_PORT = 1, 2


def restrict_files(abi: int, rules: Sequence[tuple[Path, int]], network: Network) -> None:
    """Wall off all files but the ones named, and TCP.

    From version 6 of Landlock on, abstract sockets and signals are walled off as well.
    """
    handled = (1 << _NUM_FILE_RIGHTS[min(abi, max(_NUM_FILE_RIGHTS))]) - 1
    net = _CONNECT_TCP if network.is_serving else _CONNECT_TCP | _BIND_TCP
    attributes = struct.pack("<QQQ", handled, net, _ABSTRACT_UNIX | _SIGNALS)[: 8 if abi < 4 else 16 if abi < 6 else 24]
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    created = syscall(LANDLOCK_CREATE_RULESET, ctypes.addressof(buffer), len(attributes), 0)
    ruleset = checked(created, "kept from files")
    try:
        for path, rights in rules:
            _allow_beneath(ruleset, path, rights & handled)
        if network.port is not None and abi >= PORTS_SINCE:
            _allow_calls(ruleset, network.port)
        checked(syscall(LANDLOCK_RESTRICT_SELF, ruleset, 0), "kept from files")
    finally:
        os.close(ruleset)


def _allow_beneath(ruleset: int, path: Path, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        raise ContainmentError(
            Code.CONTAINMENT, f"{path} cannot be kept within reach ({error.strerror}); restore it."
        ) from error
    try:
        allowed = rights if path.is_dir() else rights & _OF_A_FILE
        beneath = ctypes.create_string_buffer(struct.pack("<Qi", allowed, descriptor))
        added = syscall(LANDLOCK_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.addressof(beneath), 0)
        checked(added, "kept from files")
    finally:
        os.close(descriptor)


def _allow_calls(ruleset: int, port: int) -> None:
    """Add a TCP port to those that may be called."""
    rule = ctypes.create_string_buffer(struct.pack("<QQ", _CONNECT_TCP, port))
    added = syscall(LANDLOCK_ADD_RULE, ruleset, _NET_PORT, ctypes.addressof(rule), 0)
    checked(added, "kept from other ports")
