"""Each wall is tried from inside, in a process of its own; the same attempts must succeed before it stands."""

import functools
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from datetime import UTC, datetime
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from protocol.errors import ContainmentError
from protocol.federation.coordinator_keys import make_coordinator_keys
from protocol.sandbox import confine, kernel, probes, system_calls
from protocol.sandbox import network as network_module
from protocol.sandbox.landlock import landlock_abi
from protocol.sandbox.network import Network
from protocol.sandbox.probes import probe_denied
from tests.support import old_kernel

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.skipif(landlock_abi() == 0, reason="this kernel has no Landlock")

PRELUDE = """
import ctypes, errno, fcntl, json, mmap, os, resource, signal, socket, struct, subprocess, sys, threading
from pathlib import Path
from protocol.sandbox import confine as sandbox
from protocol.sandbox import kernel
from protocol.sandbox import landlock
from protocol.sandbox import probes
from protocol.sandbox import system_calls
from protocol.sandbox.network import Network
from protocol.sandbox.confine import confine
from protocol.sandbox.probes import probe_denied
from protocol.sandbox.confine import code_paths

place = Path(sys.argv[1])
readable, writable, removable, outside = (place / name for name in ("readable", "writable", "removable", "outside"))
folders = dict(readable=[*code_paths(), readable], writable=[writable], removable=[removable])
column = int(os.uname().machine == "aarch64")
tables = system_calls.NEVER | system_calls.CLONE | system_calls.OWN_SIGNALS | system_calls.LIMITS
call = {name: numbers[column] for name, numbers in tables.items() if numbers[column] is not None}
control = socket.socketpair()  # made while it may be

def raw(name, *arguments):
    result = kernel.syscall(call.get(name, name), *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result

def outcome(attempt):
    try:
        attempt()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "ok"

NONE, MADE = 0, 0o1600  # IPC_PRIVATE and IPC_CREAT: what is made belongs to nobody else
IPC_RMID = 0
def share_memory():
    number = raw("shmget", NONE, 4096, MADE)
    raw("shmdt", raw("shmat", number, 0, 0)); raw("shmctl", number, IPC_RMID, 0)
def use_a_queue():
    number = raw("msgget", NONE, MADE)
    message = ctypes.create_string_buffer(bytes([1]) + bytes(15))
    raw("msgsnd", number, ctypes.addressof(message), 8, 0); raw("msgrcv", number, ctypes.addressof(message), 8, 0, 0)
    raw("msgctl", number, IPC_RMID, 0)
def use_a_semaphore():
    number = raw("semget", NONE, 1, MADE)
    raised = ctypes.create_string_buffer(bytes([0, 0, 1, 0, 0, 0]))
    raw("semop", number, ctypes.addressof(raised), 1); raw("semctl", number, 0, IPC_RMID, 0)
def use_a_named_queue():
    name = ctypes.create_string_buffer(b"ecan-%d" % os.getpid())
    os.close(raw("mq_open", ctypes.addressof(name), os.O_CREAT | os.O_RDWR, 0o600, 0))
    raw("mq_unlink", ctypes.addressof(name))
def queue_a_signal(name, *receiver):
    told = ctypes.create_string_buffer(bytes(8) + bytes([255] * 4), 128)  # SI_QUEUE
    raw(name, *receiver, 0, ctypes.addressof(told))
def have_it_signalled(command, argument):
    reading, writing = os.pipe()
    try:
        fcntl.fcntl(reading, command, argument)
    finally:
        os.close(reading); os.close(writing)
def opened(path, flags): os.close(os.open(path, flags))
def changed(how):
    def attempt():
        with (readable / "file").open("rb") as file:
            how(file.fileno())
    return attempt
def cut_what_is_open(path):
    with path.open("r+b") as file:
        file.truncate(2)
def limit_itself():
    resource.prlimit(os.getpid(), resource.RLIMIT_NOFILE, resource.prlimit(0, resource.RLIMIT_NOFILE))
def signal_itself():
    signal.raise_signal(signal.SIGCHLD); os.kill(os.getpid(), 0); signal.pthread_kill(threading.get_ident(), 0)

def read(path): return path.read_bytes()
def write(path): path.open("r+b").close()
def make(path): path.write_bytes(b"new"); path.unlink()
def made(family, kind): socket.socket(family, kind).close()
def new_user_namespace():
    pid = raw("clone", 0x10000000 | 17, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
def read_memory():
    raw("process_vm_readv", os.getpid(), 0, 0, 0, 0, 0)
def in_a_child(attempt):
    def forked():
        pid = os.fork()
        if pid == 0:
            os._exit({"ok": 0, "EPERM": 1, "EACCES": 2}[outcome(attempt)])
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code:
            raise PermissionError([0, errno.EPERM, errno.EACCES][code], "in the child")
    return forked
def in_a_thread(attempt):
    def threaded():
        seen = []
        thread = threading.Thread(target=lambda: seen.append(outcome(attempt)))
        thread.start(); thread.join()
        if seen != ["ok"]:
            raise OSError(getattr(errno, seen[0]), "in the thread")
    return threaded
"""

FORBIDDEN = {
    "read a file": "lambda: read(outside / 'secret')",
    "list a folder": "lambda: os.listdir(outside)",
    "list the root": "lambda: os.listdir('/')",
    "follow a link to a file": "lambda: read(readable / 'link')",
    "change a file": "lambda: write(outside / 'secret')",
    "make a file": "lambda: make(outside / 'new')",
    "make a temporary file": "lambda: make(Path('/tmp') / f'ecan-{os.getpid()}')",
    "change a file that may be read": "lambda: write(readable / 'file')",
    "make a file where it may read": "lambda: make(readable / 'new')",
    "make a file where it may remove": "lambda: make(removable / 'new')",
    "open a file's mode": "lambda: os.chmod(outside / 'secret', 0o600)",
    "change a file's owner": "lambda: os.chown(outside / 'secret', os.getuid(), os.getgid())",
    "mark a file": "lambda: os.setxattr(outside / 'secret', 'user.mark', b'x')",
    "cut a file that may be read": "lambda: os.truncate(readable / 'file', 4)",
    "cut a file that is out of reach": "lambda: os.truncate(outside / 'secret', 4)",
    "cut a file by opening it to read": "lambda: opened(readable / 'cut', os.O_RDONLY | os.O_TRUNC)",
    "open a file for neither": "lambda: opened(outside / 'secret', 3)",
    "cut a file by opening it for neither": "lambda: opened(outside / 'cut', 3 | os.O_TRUNC)",
    "set a file's times": "lambda: os.utime(outside / 'secret', (1, 1))",
    "set the times of a file that may be read": "lambda: os.utime(readable / 'file')",
    "share memory": "share_memory",
    "use a queue": "use_a_queue",
    "use a semaphore": "use_a_semaphore",
    "use a named queue": "use_a_named_queue",
    "see another process's limits": "lambda: resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE)",
    "change another process's limits": """lambda: resource.prlimit(
        os.getppid(), resource.RLIMIT_NOFILE, resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE))""",
    "signal another process": "lambda: os.kill(os.getppid(), 0)",
    "signal its group": "lambda: os.kill(0, 0)",
    "signal all": "lambda: os.kill(-1, 0)",
    "signal a thread": "lambda: raw('tgkill', os.getppid(), os.getppid(), 0)",
    "signal a thread without its process": "lambda: raw('tkill', os.getppid(), 0)",
    "queue a signal": "lambda: queue_a_signal('rt_sigqueueinfo', os.getppid())",
    "queue a signal for a thread": "lambda: queue_a_signal('rt_tgsigqueueinfo', os.getppid(), os.getppid())",
    "hold another process": "lambda: os.close(raw('pidfd_open', os.getppid(), 0))",
    "have another process signalled": "lambda: have_it_signalled(fcntl.F_SETOWN, os.getppid())",
    "have another process signalled by its kind": "lambda: have_it_signalled(15, struct.pack('ii', 1, os.getppid()))",
    "open the mode of a file that may be read": "changed(lambda one: os.fchmod(one, 0o600))",
    "change the owner of a file that may be read": "changed(lambda one: os.fchown(one, -1, -1))",
    "mark a file that may be read": "changed(lambda one: os.setxattr(one, 'user.mark', b'x'))",
    "make a link where it may write": "lambda: ((writable / 'l').symlink_to('x'), (writable / 'l').unlink())",
    "read another process's surroundings": "lambda: read(Path(f'/proc/{os.getppid()}/environ'))",
    "run a program": "lambda: subprocess.run(['/bin/true'])",
    "open TCP": "lambda: made(socket.AF_INET, socket.SOCK_STREAM)",
    "open TCP over IPv6": "lambda: made(socket.AF_INET6, socket.SOCK_STREAM)",
    "open UDP": "lambda: made(socket.AF_INET, socket.SOCK_DGRAM)",
    "open a UNIX socket": "lambda: made(socket.AF_UNIX, socket.SOCK_STREAM)",
    "open netlink": "lambda: made(socket.AF_NETLINK, socket.SOCK_RAW)",
    "open a pair of sockets": "lambda: [one.close() for one in socket.socketpair()]",
    "call a planted UNIX socket": "lambda: socket.socket(socket.AF_UNIX).connect(str(outside / 'socket'))",
    "make namespaces": "new_user_namespace",
    "leave namespaces": "lambda: raw('unshare', 0)",
    "read memory": "read_memory",
    "read a file in a child": "in_a_child(lambda: read(outside / 'secret'))",
    "open a socket in a child": "in_a_child(lambda: made(socket.AF_INET, socket.SOCK_STREAM))",
    "open a socket in a thread": "in_a_thread(lambda: made(socket.AF_INET, socket.SOCK_STREAM))",
    "read a file in a thread": "in_a_thread(lambda: read(outside / 'secret'))",
}
ALLOWED = {
    "read a readable file": "lambda: read(readable / 'file')",
    "list a readable folder": "lambda: os.listdir(readable)",
    "make and remove a file where it may write": "lambda: make(writable / 'new')",
    "change a file where it may write": "lambda: write(writable / 'file')",
    "move a file where it may write": "lambda: (writable / 'file').rename(writable / 'm').rename(writable / 'file')",
    "read where it may remove": "lambda: read(removable / 'kept')",
    "use the null device": "lambda: write(Path('/dev/null'))",
    "import what is installed": "lambda: __import__('numpy')",
    "start a thread": "in_a_thread(lambda: None)",
    "fork": "in_a_child(lambda: None)",
    "cut a file that is open": "lambda: cut_what_is_open(writable / 'file')",
    "write a file anew": "lambda: (writable / 'file').write_bytes(b'some')",
    "limit itself": "limit_itself",
    "signal itself": "signal_itself",
}
OLD_ABIS = (1, 2, 3, 4, 5)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folders with something in each."""
    place = tmp_path_factory.mktemp("walls")
    for name in ("readable", "writable", "removable", "outside"):
        (place / name).mkdir()
    files = ("readable/file", "readable/cut", "writable/file", "removable/file", "removable/kept")
    for name in (*files, "outside/secret", "outside/cut"):
        (place / name).write_bytes(b"some")
    (place / "readable" / "link").symlink_to(place / "outside" / "secret")
    with socket.socket(socket.AF_UNIX) as planted:
        # By a short name: the path may be longer than a socket's address.
        here = os.open(place / "outside", os.O_RDONLY)
        planted.bind(f"/proc/self/fd/{here}/socket")
        os.close(here)
        planted.listen()
        yield place


def deny() -> int:
    """Fail as the kernel does."""
    raise PermissionError


def child(code: str, place: Path, *, before=None) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh process."""
    return subprocess.run(
        [sys.executable, "-c", PRELUDE + code, str(place)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=before,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )


def result(code: str, place: Path, **options) -> object:
    """What the code printed as JSON."""
    done = child(code, place, **options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module", params=[abi for abi in (*OLD_ABIS, landlock_abi()) if abi <= landlock_abi()])
def outcomes(place, request):
    """Every attempt before and after confinement, in one process, also with what older kernels know of Landlock."""
    attempts = ",".join(f"{name!r}: {code}" for name, code in {**FORBIDDEN, **ALLOWED}.items())
    code = f"""
attempts = {{{attempts}}}
before = {{name: outcome(attempt) for name, attempt in attempts.items()}}
sandbox.landlock_abi = probes.landlock_abi = lambda: {request.param}
confine(network=Network.NONE, **folders)
after = {{name: outcome(attempt) for name, attempt in attempts.items()}}
print(json.dumps([before, after]))
"""
    return result(code, place)


@pytest.mark.parametrize("name", FORBIDDEN)
def test_what_succeeds_before_the_walls_stand_fails_behind_them(outcomes, name):
    before, after = outcomes
    assert before[name] == "ok", "the attempt itself is broken"
    assert after[name] in ("EPERM", "EACCES")


@pytest.mark.parametrize("name", ALLOWED)
def test_what_a_process_needs_still_works_behind_the_walls(outcomes, name):
    before, after = outcomes
    assert (before[name], after[name]) == ("ok", "ok")


def test_a_file_can_be_removed_where_that_is_allowed(place):
    (place / "removable" / "file").write_bytes(b"some")
    result("confine(network=Network.NONE, **folders); (removable / 'file').unlink(); print(1)", place)
    assert not (place / "removable" / "file").exists()


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


def test_a_socket_that_was_there_before_is_closed(place):
    code = """
open_before = [outcome(lambda: os.fstat(one.fileno())) for one in control]
confine(network=Network.NONE, **folders)
print(json.dumps([open_before, [outcome(lambda: os.fstat(one.fileno())) for one in control]]))
"""
    assert result(code, place) == [["ok", "ok"], ["EBADF", "EBADF"]]


def test_a_socket_that_came_as_stdin_can_neither_be_pointed_elsewhere_nor_raise_signals(place):
    code = """
pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
os.dup2(pair[0].fileno(), 0)
stdin = socket.socket(fileno=0)
def attempts():
    return [
        outcome(lambda: stdin.sendto(b"x", str(outside / "datagrams"))),
        outcome(lambda: stdin.sendmsg([b"x"], [], 0, str(outside / "datagrams"))),
        outcome(lambda: stdin.connect(str(outside / "datagrams"))),
        outcome(lambda: fcntl.ioctl(stdin, 0x8901, struct.pack("i", os.getpid()))),
        outcome(lambda: fcntl.ioctl(stdin, 0x8902, struct.pack("i", os.getpid()))),
    ]
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as planted:
    os.chdir(outside)
    planted.bind("datagrams")
    outside = Path(".")
    before = attempts()
os.unlink("datagrams")
confine(network=Network.NONE, **folders)
print(json.dumps([before, attempts()]))
"""
    assert result(code, place) == [["ok"] * 5, ["EPERM"] * 5]


def test_no_core_is_dumped_nobody_looks_in_and_no_rights_are_gained(place):
    code = """
confine(network=Network.NONE, **folders)
print(json.dumps([resource.getrlimit(resource.RLIMIT_CORE), kernel.prctl(3), kernel.prctl(39)]))
"""
    assert result(code, place) == [[0, 0], 0, 1]


@pytest.mark.parametrize("site", ["source", "target"])
def test_a_command_leaves_no_dump_and_lets_nobody_look_in(place, site):
    code = f"""
from {site}_site import cli
dumpable = lambda: [resource.getrlimit(resource.RLIMIT_CORE)[0], kernel.prctl(3)]
resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
before = dumpable()
cli.run = lambda *_, **__: print(json.dumps([before, dumpable()]))
cli.main()
"""
    before, after = result(code, place)
    assert before[1] == 1
    assert after == [0, 0]


@pytest.mark.parametrize("module", ["gate", "exporter"])
def test_what_loads_a_key_is_closed_to_dumps_before_it_does(place, module):
    code = f"""
from source_site.release import {module}
class Looked(BaseException): pass
def look(*_, **__):
    raise Looked(kernel.prctl(3), resource.getrlimit(resource.RLIMIT_CORE))
{module}.run = {module}.answer = look
sys.stdin = open(os.devnull)
try:
    {module}.main()
except Looked as looked:
    print(json.dumps(looked.args))
"""
    assert result(code, place) == [0, [0, 0]]


def test_a_system_that_has_no_dumps_to_forbid_is_left_alone(monkeypatch):
    monkeypatch.setattr(confine, "prctl", lambda *_: pytest.fail("no such call there"))
    monkeypatch.setattr(confine.sys, "platform", "win32")
    confine.forbid_dumps()


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


def test_a_listener_may_listen_and_answer_but_neither_call_out_nor_use_other_sockets(place):
    code = """
def listen():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pass
def call_out():
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        pass
elsewhere = socket.create_server(("127.0.0.1", 0))
os.dup2(elsewhere.fileno(), 0)  # stays open
port = elsewhere.getsockname()[1]
def call_out_by_sending():
    with socket.socket() as caller:
        caller.sendto(b"x", socket.MSG_FASTOPEN, ("127.0.0.1", port))
attempts = [listen, call_out, call_out_by_sending, *(lambda kind=kind: made(*kind) for kind in (
    (socket.AF_INET6, socket.SOCK_STREAM), (socket.AF_INET, socket.SOCK_DGRAM), (socket.AF_UNIX, socket.SOCK_STREAM),
    (socket.AF_NETLINK, socket.SOCK_RAW)))]
before = [outcome(attempt) for attempt in attempts]
confine(network=Network.SERVE, **folders)
probe_denied([outside], network=Network.SERVE)
print(json.dumps([before, [outcome(attempt) for attempt in attempts]]))
"""
    before, after = result(code, place)
    assert before == ["ok"] * 7
    assert after == ["ok", "EPERM", "EPERM", "ok", "EPERM", "EPERM", "EPERM"]


@pytest.fixture
def ports():
    """Two ports of the loopback interface that answer."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        yield one.getsockname()[1], other.getsockname()[1]


CALLER = """
def call(port):
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        pass
def call_by_sending(port):
    with socket.socket() as caller:
        caller.sendto(b"x", socket.MSG_FASTOPEN, ("127.0.0.1", port))
def call_by_opening_fast(port):
    with socket.socket() as caller:
        caller.setsockopt(socket.IPPROTO_TCP, 30, 1)  # TCP_FASTOPEN_CONNECT
        caller.connect(("127.0.0.1", port))
def call_by_mptcp(port):
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262) as caller:
        caller.connect(("127.0.0.1", port))
def listen():
    with socket.create_server(("127.0.0.1", 0)):
        pass
def listen_anywhere():
    with socket.socket() as listener:
        listener.listen()
"""


def test_a_caller_reaches_its_one_port_and_neither_listens_nor_uses_other_sockets(place, ports):
    code = f"""{CALLER}
attempts = {{
    "call": lambda: call({ports[0]}),
    "call in a thread": in_a_thread(lambda: call({ports[0]})),
    "read inside": lambda: read(readable / "file"),
    "call elsewhere": lambda: call({ports[1]}),
    "call elsewhere in a child": in_a_child(lambda: call({ports[1]})),
    "call elsewhere by opening fast": lambda: call_by_opening_fast({ports[1]}),
    "call by sending": lambda: call_by_sending({ports[0]}),
    "listen": listen,
    "listen anywhere": listen_anywhere,
    "bind": lambda: socket.socket().bind(("127.0.0.1", 0)),
    "UDP": lambda: made(socket.AF_INET, socket.SOCK_DGRAM),
    "UNIX": lambda: made(socket.AF_UNIX, socket.SOCK_STREAM),
    "pair": lambda: [one.close() for one in socket.socketpair()],
    "netlink": lambda: made(socket.AF_NETLINK, socket.SOCK_RAW),
    "read outside": lambda: read(outside / "secret"),
    "run": lambda: subprocess.run(["/bin/true"]),
}}
before = [outcome(attempt) for attempt in attempts.values()]
confine(network=Network.call({ports[0]}), **folders)
probe_denied([outside], network=Network.call({ports[0]}))
print(json.dumps([before, {{name: outcome(attempt) for name, attempt in attempts.items()}}]))
"""
    before, after = result(code, place)
    assert set(before) == {"ok"}
    elsewhere = "EACCES" if landlock_abi() >= network_module.PORTS_SINCE else "ok"
    assert [after.pop(name) for name in ("call", "call in a thread", "read inside")] == ["ok"] * 3
    assert {after.pop(name) for name in [*after] if name.startswith("call elsewhere")} == {elsewhere}
    assert after.pop("read outside") == "EACCES"
    assert set(after.values()) == {"EPERM"}


def test_a_stream_that_is_not_tcp_is_refused_to_whoever_has_a_network(place, ports):
    code = f"""{CALLER}
before = outcome(lambda: call_by_mptcp({ports[1]}))
confine(network=Network.call({ports[0]}), **folders)
print(json.dumps([before, outcome(lambda: call_by_mptcp({ports[1]}))]))
"""
    before, after = result(code, place)
    if before != "ok":
        pytest.skip("this kernel has no MPTCP")
    assert after == "EPERM"


def test_a_kernel_that_knows_no_ports_lets_a_caller_call_any_but_nothing_else(place, ports):
    code = f"""{CALLER}
sandbox.landlock_abi = probes.landlock_abi = lambda: 3
confine(network=Network.call({ports[0]}), **folders)
probe_denied([outside], network=Network.call({ports[0]}))
attempts = [lambda: call({ports[0]}), lambda: call({ports[1]}), listen, lambda: read(outside / "secret")]
print(json.dumps([outcome(attempt) for attempt in attempts]))
"""
    assert result(code, place) == ["ok", "ok", "EPERM", "EACCES"]


def test_a_caller_that_is_not_held_to_its_port_is_found(place, ports):
    if landlock_abi() < network_module.PORTS_SINCE:
        pytest.skip("this kernel knows no ports")
    code = f"""
landlock._BIND_TCP = landlock._CONNECT_TCP = 0
landlock._allow_calls = lambda *_: None
confine(network=Network.call({ports[0]}), **folders)
try:
    probe_denied([outside], network=Network.call({ports[0]}))
except sandbox.ContainmentError as fault:
    print(json.dumps(str(fault)))
"""
    assert "could call another port" in str(result(code, place))


def test_a_caller_speaks_https_from_several_threads(place, tmp_path):
    make_coordinator_keys(tmp_path, "127.0.0.1", datetime.now(UTC))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")
    handler = functools.partial(SimpleHTTPRequestHandler, directory=place / "readable")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        code = f"""
import httpx, ssl
from concurrent.futures import ThreadPoolExecutor
address, keys = "https://127.0.0.1:{server.server_port}/", Path({str(tmp_path)!r})
confine(network=Network.call({server.server_port}), **folders | {{"readable": [*folders["readable"], keys]}})
with httpx.Client(verify=ssl.create_default_context(cafile=keys / "ca.crt"), trust_env=False) as client:
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(client.get, [address] * 12))
print(json.dumps([answer.status_code for answer in answers]))
"""
        try:
            assert result(code, place) == [200] * 12
        finally:
            server.shutdown()
            serving.join()


@pytest.mark.parametrize(
    "kind", ["AF_UNIX, socket.SOCK_STREAM", "AF_UNIX, socket.SOCK_DGRAM", "AF_INET, socket.SOCK_DGRAM"]
)
def test_a_standard_stream_that_could_be_pointed_elsewhere_is_a_fault_where_there_is_a_network(place, kind):
    code = f"""
loose = socket.socket(socket.{kind})
os.dup2(loose.fileno(), 0)
for network in (Network.SERVE, Network.call(443)):
    try:
        confine(network=network, **folders)
    except sandbox.ContainmentError as fault:
        print(json.dumps(str(fault)))
"""
    done = child(code, place)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Standard stream 0 is a socket that could be pointed elsewhere") == 2


def test_a_standard_stream_to_a_log_stays_where_it_is(place, ports):
    code = f"""{CALLER}
ours, theirs = socket.socketpair()
os.dup2(ours.fileno(), 0); os.dup2(theirs.fileno(), 2)
confine(network=Network.call({ports[0]}), **folders)
stream = socket.socket(fileno=2)
print(json.dumps([outcome(lambda: stream.connect(str(outside / "socket"))), outcome(lambda: call({ports[0]}))]))
"""
    assert result(code, place) == ["EISCONN", "ok"]


@pytest.mark.parametrize("name", ["socketpair", "bind", "listen", "accept4"])
def test_a_call_that_a_caller_could_make_after_all_is_found(place, name):
    code = f"""
confine(network=Network.call(443), **folders)
probe_denied([], network=Network.call(443))
true, asked = kernel.syscall, (system_calls.NEVER | system_calls.SERVING)[{name!r}][column]
def let_through(called, *given):
    if called == asked:
        ctypes.set_errno(errno.EBADF)
        return -1
    return true(called, *given)
sandbox.syscall = landlock.syscall = probes.syscall = let_through
try:
    probe_denied([], network=Network.call(443))
except sandbox.ContainmentError as fault:
    print(json.dumps(str(fault)))
"""
    assert "The walls do not hold" in str(result(code, place))


def test_the_probes_themselves_fail_before_the_walls_stand(place):
    for paths in ([place / "outside" / "secret"], [place / "outside"]):
        with pytest.raises(ContainmentError, match="within reach") as caught:
            probe_denied(paths, network=Network.SERVE)
        assert caught.value.exit_code == 15
    assert sorted(path.name for path in (place / "outside").iterdir()) == ["cut", "secret", "socket"]
    for network in (Network.SERVE, Network.NONE, Network.call(443)):
        with pytest.raises(ContainmentError, match="socket"):
            probe_denied([], network=network)


def test_every_call_that_is_probed_would_be_answered_otherwise_without_walls(place):
    code = """
print(json.dumps([[name, outcome(lambda: raw(number, *arguments))]
                  for name, number, arguments in probes._forbidden_calls(Network.NONE)]))
"""
    answers = result(code, place)
    assert len(answers) >= 14
    assert {answer for _, answer in answers}.isdisjoint({"EPERM", "ok"})


@pytest.mark.parametrize("index", range(len(list(probes._forbidden_calls(Network.NONE)))))
def test_one_call_that_is_not_refused_is_a_gap(place, index):
    code = f"""
what, number, arguments = list(probes._forbidden_calls(Network.NONE))[{index}]
confine(network=Network.NONE, **folders)
probe_denied([], network=Network.NONE)
true = kernel.syscall
def let_through(called, *given):
    if called == number:
        ctypes.set_errno(errno.EINVAL)
        return -1
    return true(called, *given)
sandbox.syscall = landlock.syscall = probes.syscall = let_through
try:
    probe_denied([], network=Network.NONE)
except sandbox.ContainmentError as fault:
    print(json.dumps(what in str(fault)))
"""
    assert result(code, place) is True


def test_a_file_that_can_be_opened_for_neither_is_within_reach(place, monkeypatch):
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, flags, *more: real(path, flags, *more) if flags & 3 == 3 else deny())
    with pytest.raises(ContainmentError, match="within reach"):
        probe_denied([place / "outside" / "secret"], network=Network.SERVE)


def test_the_probes_pass_behind_the_walls_and_find_a_gap_in_them(place):
    code = """
confine(network=Network.NONE, **folders)
probe_denied([outside, outside / "secret", outside / "missing", Path("/"), Path.home()], network=Network.NONE)
gaps = []
for gap in (readable, readable / "file", writable, removable):
    try:
        probe_denied([outside, gap], network=Network.NONE)
    except sandbox.ContainmentError as fault:
        gaps.append(str(gap) in str(fault))
print(json.dumps(gaps))
"""
    assert result(code, place) == [True] * 4


def test_a_process_with_a_second_thread_is_not_confined_by_halves(place):
    code = """
stop = threading.Event()
threading.Thread(target=stop.wait).start()
try:
    confine(network=Network.NONE, **folders)
except sandbox.ContainmentError as fault:
    print(json.dumps(str(fault)))
stop.set()
"""
    assert "threads already" in str(result(code, place))


def test_a_folder_that_is_missing_is_a_fault(place):
    code = """
try:
    confine(network=Network.NONE, readable=[place / "nothing"])
except sandbox.ContainmentError as fault:
    print(json.dumps(str(fault)))
"""
    assert "nothing" in str(result(code, place))


def test_a_kernel_without_landlock_is_refused_with_the_remedy(place):
    code = """
try:
    confine(network=Network.NONE, **folders)
except sandbox.ContainmentError as fault:
    print(json.dumps([fault.exit_code, str(fault)]))
"""
    exit_code, message = result(code, place, before=old_kernel.forget_landlock)
    assert exit_code == 15
    assert "accept the risk" in message
    assert f"use {kernel.OLDEST_KERNEL} or newer" in message


def test_the_manual_names_the_same_kernel():
    (row,) = (
        line for line in (ROOT / "docs/operations.md").read_text("utf-8").splitlines() if line.startswith("| 15 ")
    )
    assert f"use {kernel.OLDEST_KERNEL} or newer" in row


def test_where_it_is_not_required_the_layers_that_there_are_are_built(place):
    code = """
walls = confine(network=Network.NONE, required=False, **folders)
print(json.dumps([walls.landlock_abi, walls.seccomp, walls.holds, outcome(lambda: read(outside / "secret")),
                  outcome(lambda: made(socket.AF_INET, socket.SOCK_STREAM))]))
"""
    assert result(code, place, before=old_kernel.forget_landlock) == [0, True, False, "ok", "EPERM"]


def test_an_unknown_processor_is_refused(place):
    code = """
import platform
platform.machine = lambda: "pdp11"
try:
    confine(network=Network.NONE, **folders)
except sandbox.ContainmentError as fault:
    print(json.dumps(str(fault)))
"""
    assert "processor" in str(result(code, place))


def test_the_two_processors_have_a_number_for_every_call():
    tables = (
        system_calls.NEVER,
        system_calls.SOCKET,
        system_calls.CALLING,
        system_calls.SERVING,
        system_calls.SENDING,
        system_calls.CLONE,
        system_calls.IOCTL,
        system_calls.FCNTL,
        system_calls.OPEN,
        system_calls.OWN_SIGNALS,
        system_calls.LIMITS,
    )
    old = {"chmod", "chown", "lchown", "utime", "utimes", "futimesat", "open"}
    for column in (0, 1):
        numbers = [call[column] for table in tables for name, call in table.items() if column == 0 or name not in old]
        assert len(set(numbers)) == len(numbers)
        assert all(0 < number < 512 for number in numbers)


def test_the_code_paths_hold_no_more_than_code():
    paths = confine.code_paths("source_site")
    assert ROOT not in paths
    assert ROOT / "source_site" in paths
    assert not any(Path.home().is_relative_to(path) or Path("/tmp").is_relative_to(path) for path in paths)
