"""Each call that the filter forbids is tried behind it, in a process of its own."""

import os
import signal

import pytest

from protocol.sandbox.landlock import landlock_abi
from tests.protocol.sandbox.behind_walls import child, result

pytestmark = pytest.mark.skipif(landlock_abi() == 0, reason="this kernel has no Landlock")


def test_every_call_on_the_list_is_refused_as_if_it_had_no_permission(place):
    code = """
confine(network=Network.NONE, **folders)
never = [name for name in system_calls.NEVER if name in call]
print(json.dumps({name: outcome(lambda: raw(name, -1, 0, 0, 0, 0)) for name in never}))
"""
    outcomes = result(code, place)
    assert len(outcomes) >= 70
    assert set(outcomes.values()) == {"EPERM"}


def test_the_list_is_refused_by_the_filter_and_not_by_the_kernel(place):
    names = ("io_uring_setup", "unshare", "process_vm_readv", "setns", "pidfd_getfd", "add_key", "mount_setattr")
    code = f"print(json.dumps([outcome(lambda: raw(name, -1, 0, 0, 0, 0)) for name in {names!r}]))"
    assert "EPERM" not in set(result(code, place)) - {"ENOSYS"}


def test_calls_that_hide_their_flags_do_not_exist(place):
    code = """
confine(network=Network.NONE, **folders)
print(json.dumps([outcome(lambda: raw(number, 0, 0, 0, 0)) for number in system_calls.HIDDEN.values()]))
"""
    assert result(code, place) == ["ENOSYS", "ENOSYS"]


@pytest.mark.parametrize("end", ["os.abort()", "os.kill(os.getpid(), signal.SIGABRT)"])
def test_a_process_can_still_end_itself(place, end):
    assert child(f"confine(network=Network.NONE, **folders); {end}", place).returncode == -signal.SIGABRT


def test_a_child_that_is_forked_behind_the_walls_signals_not_even_itself(place):
    code = """
confine(network=Network.NONE, **folders)
in_a_child(lambda: os.kill(os.getpid(), 0))()
"""
    assert "PermissionError" in child(code, place).stderr


def test_calls_of_another_kind_of_program_kill_the_process(place):
    if os.uname().machine != "x86_64":
        pytest.skip("only x86_64 has calls of two other kinds")
    x32 = child("confine(network=Network.NONE, **folders); raw(0x40000000 | 39)", place)
    assert x32.returncode == -signal.SIGSYS
    # mov eax, 20; int 0x80; ret: getpid as a 32-bit program calls it
    foreign = """
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(bytes.fromhex("b814000000cd80c3"))
call_it = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
"""
    if child(foreign + "call_it()", place).returncode != 0:
        pytest.skip("this kernel does not run 32-bit programs")
    assert child(foreign + "confine(network=Network.NONE, **folders); call_it()", place).returncode == -signal.SIGSYS


def test_nothing_is_typed_into_the_terminal_that_it_was_started_from(place):
    code = """
import pty, termios
main, terminal = pty.openpty()
os.dup2(main, 0)
terminal = os.dup2(terminal, 2)
confine(network=Network.NONE, **folders)
print(json.dumps([outcome(lambda: fcntl.ioctl(terminal, termios.TIOCSTI, b"x")),
                  outcome(lambda: fcntl.ioctl(terminal, 0x541C, b"x")),
                  outcome(lambda: fcntl.ioctl(terminal, termios.TIOCGWINSZ, b"12345678"))]))
"""
    assert result(code, place) == ["EPERM", "EPERM", "ok"]
