"""Each wall is tried from inside, in a process of its own; the same attempts must succeed before it stands."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from protocol import sandbox
from protocol.errors import ContainmentFault
from protocol.sandbox import landlock_abi, probe_denied
from tests.support import old_kernel

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(landlock_abi() == 0, reason="this kernel has no Landlock")

PRELUDE = """
import ctypes, errno, json, mmap, os, resource, socket, subprocess, sys, threading
from pathlib import Path
from protocol import sandbox
from protocol.sandbox import confine, probe_denied, code_paths

place = Path(sys.argv[1])
readable, writable, removable, outside = (place / name for name in ("readable", "writable", "removable", "outside"))
folders = dict(readable=[*code_paths(), readable], writable=[writable], removable=[removable])
call = {name: number for name, (number, _) in {**sandbox._NEVER, **sandbox._CLONE}.items()}
if os.uname().machine == "aarch64":
    call = {name: number for name, (_, number) in {**sandbox._NEVER, **sandbox._CLONE}.items()}
control = socket.socketpair()  # made while it may be

def raw(name, *arguments):
    result = sandbox._syscall(call.get(name, name), *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result

def outcome(attempt):
    try:
        attempt()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "ok"

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
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folders with something in each."""
    place = tmp_path_factory.mktemp("walls")
    for name in ("readable", "writable", "removable", "outside"):
        (place / name).mkdir()
    for name in ("readable/file", "writable/file", "removable/file", "removable/kept", "outside/secret"):
        (place / name).write_bytes(b"some")
    (place / "readable" / "link").symlink_to(place / "outside" / "secret")
    with socket.socket(socket.AF_UNIX) as planted:
        # By a short name: the path may be longer than a socket's address.
        here = os.open(place / "outside", os.O_RDONLY)
        planted.bind(f"/proc/self/fd/{here}/socket")
        os.close(here)
        planted.listen()
        yield place


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


@pytest.fixture(scope="module")
def outcomes(place):
    """Every attempt before and after confinement, in one process."""
    attempts = ",".join(f"{name!r}: {code}" for name, code in {**FORBIDDEN, **ALLOWED}.items())
    code = f"""
attempts = {{{attempts}}}
before = {{name: outcome(attempt) for name, attempt in attempts.items()}}
confine(sockets=False, **folders)
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
    result("confine(sockets=False, **folders); (removable / 'file').unlink(); print(1)", place)
    assert not (place / "removable" / "file").exists()


def test_every_call_on_the_list_is_refused_as_if_it_had_no_permission(place):
    code = """
confine(sockets=False, **folders)
print(json.dumps({name: outcome(lambda: raw(name, -1, 0, 0, 0, 0)) for name in sandbox._NEVER}))
"""
    outcomes = result(code, place)
    assert len(outcomes) >= 40
    assert set(outcomes.values()) == {"EPERM"}


def test_the_list_is_refused_by_the_filter_and_not_by_the_kernel(place):
    names = ("io_uring_setup", "unshare", "process_vm_readv", "setns", "pidfd_getfd", "add_key", "mount_setattr")
    code = f"print(json.dumps([outcome(lambda: raw(name, -1, 0, 0, 0, 0)) for name in {names!r}]))"
    assert "EPERM" not in set(result(code, place)) - {"ENOSYS"}


def test_threads_are_started_without_the_call_that_hides_its_flags(place):
    assert result("confine(sockets=False, **folders); print(json.dumps(outcome(lambda: raw(435, 0, 0))))", place) == (
        "ENOSYS"
    )


def test_calls_of_another_kind_of_program_kill_the_process(place):
    if os.uname().machine != "x86_64":
        pytest.skip("only x86_64 has calls of two other kinds")
    x32 = child("confine(sockets=False, **folders); raw(0x40000000 | 39)", place)
    assert x32.returncode == -signal.SIGSYS
    # mov eax, 20; int 0x80; ret: getpid as a 32-bit program calls it
    foreign = """
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(bytes.fromhex("b814000000cd80c3"))
call_it = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
"""
    if child(foreign + "call_it()", place).returncode != 0:
        pytest.skip("this kernel does not run 32-bit programs")
    assert child(foreign + "confine(sockets=False, **folders); call_it()", place).returncode == -signal.SIGSYS


def test_a_socket_that_was_there_before_is_closed_unless_it_is_named(place):
    code = """
kept, gone = (one.fileno() for one in control)
confine(sockets=False, keep=[kept], **folders)
print(json.dumps([outcome(lambda: os.fstat(kept)), outcome(lambda: os.fstat(gone))]))
"""
    assert result(code, place) == ["ok", "EBADF"]


def test_a_socket_that_is_kept_cannot_be_pointed_elsewhere(place):
    code = """
pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
confine(sockets=False, keep=[pair[0].fileno()], **folders)
print(json.dumps([
    outcome(lambda: pair[0].sendto(b"x", str(outside / "socket"))),
    outcome(lambda: pair[0].sendmsg([b"x"], [], 0, str(outside / "socket"))),
    outcome(lambda: pair[0].connect(str(outside / "socket"))),
]))
"""
    assert result(code, place) == ["EPERM", "EPERM", "EPERM"]


def test_no_core_is_dumped_nobody_looks_in_and_no_rights_are_gained(place):
    code = """
confine(sockets=False, **folders)
print(json.dumps([resource.getrlimit(resource.RLIMIT_CORE), sandbox._prctl(3), sandbox._prctl(39)]))
"""
    assert result(code, place) == [[0, 0], 0, 1]


def test_nothing_is_typed_into_the_terminal_that_it_was_started_from(place):
    code = """
import fcntl, pty, termios
main, terminal = pty.openpty()
confine(sockets=False, keep=[main, terminal], **folders)
print(json.dumps([outcome(lambda: fcntl.ioctl(terminal, termios.TIOCSTI, b"x")),
                  outcome(lambda: fcntl.ioctl(terminal, 0x541C, b"x")),
                  outcome(lambda: fcntl.ioctl(terminal, termios.TIOCGWINSZ, b"12345678"))]))
"""
    assert result(code, place) == ["EPERM", "EPERM", "ok"]


def test_programs_may_be_started_where_that_is_allowed(place):
    code = """
confine(sockets=False, programs=True, readable=[*code_paths(), Path("/bin"), Path("/usr/bin")])
print(json.dumps(subprocess.run(["/bin/true"]).returncode))
"""
    assert result(code, place) == 0


def test_a_listener_may_listen_and_answer_but_neither_call_out_nor_use_other_sockets(place):
    code = """
def listen():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pass
def call_out():
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        pass
elsewhere = socket.create_server(("127.0.0.1", 0))
port = elsewhere.getsockname()[1]
def call_out_by_sending():
    with socket.socket() as caller:
        caller.sendto(b"x", socket.MSG_FASTOPEN, ("127.0.0.1", port))
attempts = [listen, call_out, call_out_by_sending, *(lambda kind=kind: made(*kind) for kind in (
    (socket.AF_INET6, socket.SOCK_STREAM), (socket.AF_INET, socket.SOCK_DGRAM), (socket.AF_UNIX, socket.SOCK_STREAM),
    (socket.AF_NETLINK, socket.SOCK_RAW)))]
before = [outcome(attempt) for attempt in attempts]
confine(sockets=True, keep=[elsewhere.fileno()], **folders)
probe_denied([outside], sockets=True)
print(json.dumps([before, [outcome(attempt) for attempt in attempts]]))
"""
    before, after = result(code, place)
    assert before == ["ok"] * 7
    assert after == ["ok", "EPERM", "EPERM", "ok", "EPERM", "EPERM", "EPERM"]


def test_the_probes_themselves_fail_before_the_walls_stand(place):
    for paths in ([place / "outside" / "secret"], [place / "outside"]):
        with pytest.raises(ContainmentFault, match="within reach") as caught:
            probe_denied(paths, sockets=True)
        assert caught.value.exit_code == 15
    assert sorted(path.name for path in (place / "outside").iterdir()) == ["secret", "socket"]
    for sockets in (True, False):
        with pytest.raises(ContainmentFault, match="socket"):
            probe_denied([], sockets=sockets)


def test_the_probes_pass_behind_the_walls_and_find_a_gap_in_them(place):
    code = """
confine(sockets=False, **folders)
probe_denied([outside, outside / "secret", outside / "missing", Path("/"), Path.home()], sockets=False)
gaps = []
for gap in (readable, readable / "file", writable, removable):
    try:
        probe_denied([outside, gap], sockets=False)
    except sandbox.ContainmentFault as fault:
        gaps.append(str(gap) in str(fault))
print(json.dumps(gaps))
"""
    assert result(code, place) == [True] * 4


def test_a_process_with_a_second_thread_is_not_confined_by_halves(place):
    code = """
stop = threading.Event()
threading.Thread(target=stop.wait).start()
try:
    confine(sockets=False, **folders)
except sandbox.ContainmentFault as fault:
    print(json.dumps(str(fault)))
stop.set()
"""
    assert "threads already" in str(result(code, place))


def test_a_folder_that_is_missing_is_a_fault(place):
    code = """
try:
    confine(sockets=False, readable=[place / "nothing"])
except sandbox.ContainmentFault as fault:
    print(json.dumps(str(fault)))
"""
    assert "nothing" in str(result(code, place))


def test_a_kernel_without_landlock_is_refused_with_the_remedy(place):
    code = """
try:
    confine(sockets=False, **folders)
except sandbox.ContainmentFault as fault:
    print(json.dumps([fault.exit_code, str(fault)]))
"""
    exit_code, message = result(code, place, before=old_kernel.forget_landlock)
    assert exit_code == 15
    assert "--unconfined" in message


def test_where_it_is_not_required_the_layers_that_there_are_are_built(place):
    code = """
walls = confine(sockets=False, required=False, **folders)
print(json.dumps([walls.landlock_abi, walls.seccomp, walls.holds, outcome(lambda: read(outside / "secret")),
                  outcome(lambda: made(socket.AF_INET, socket.SOCK_STREAM))]))
"""
    assert result(code, place, before=old_kernel.forget_landlock) == [0, True, False, "ok", "EPERM"]


def test_an_unknown_processor_is_refused(place):
    code = """
import platform
platform.machine = lambda: "pdp11"
try:
    confine(sockets=False, **folders)
except sandbox.ContainmentFault as fault:
    print(json.dumps(str(fault)))
"""
    assert "processor" in str(result(code, place))


def test_the_two_processors_have_a_number_for_every_call():
    tables = (
        sandbox._NEVER,
        sandbox._PROGRAM_CALLS,
        sandbox._SOCKET,
        sandbox._SOCKET_USE,
        sandbox._CLONE,
        sandbox._IOCTL,
    )
    old = {"chmod", "chown", "lchown"}
    for column in (0, 1):
        numbers = [call[column] for table in tables for name, call in table.items() if column == 0 or name not in old]
        assert len(set(numbers)) == len(numbers)
        assert all(0 < number < 512 for number in numbers)


def test_the_code_paths_hold_no_more_than_code():
    paths = sandbox.code_paths("source_site")
    assert ROOT not in paths
    assert ROOT / "source_site" in paths
    assert not any(Path.home().is_relative_to(path) or Path("/tmp").is_relative_to(path) for path in paths)
