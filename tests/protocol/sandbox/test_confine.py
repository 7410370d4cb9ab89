"""Each wall is tried from inside, in a process of its own; the same attempts must succeed before it stands."""

from pathlib import Path

import pytest

from protocol.sandbox import confine
from protocol.sandbox.landlock import landlock_abi
from tests.protocol.sandbox.behind_walls import ROOT, result
from tests.support import old_kernel

pytestmark = pytest.mark.skipif(landlock_abi() == 0, reason="this kernel has no Landlock")

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
    "name itself": "lambda: named('leaked')",
    "name a thread": "in_a_thread(lambda: named('leaked'))",
    "write its name": "lambda: Path('/proc/self/comm').write_text('leaked')",
    "let others look in": "lambda: told('dumpable', 4, 1)",
    "set another process's priority": "lambda: os.setpriority(os.PRIO_PROCESS, os.getppid(), 0)",
    "set its own priority": "lambda: os.nice(1)",
    "set another process's class": "lambda: os.sched_setscheduler(os.getppid(), os.SCHED_OTHER, os.sched_param(0))",
    "set its own class": "lambda: os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))",
    "choose another process's processors": "lambda: os.sched_setaffinity(os.getppid(), os.sched_getaffinity(0))",
    "choose its own processors": "lambda: os.sched_setaffinity(0, os.sched_getaffinity(0))",
    "set another process's priority of reading": "lambda: raw('ioprio_set', 1, os.getppid(), 2 << 13)",
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


def test_what_is_open_is_closed_but_for_what_is_kept(place):
    code = """
kept, other = os.pipe(), os.pipe()
confine(network=Network.NONE, kept=kept[::-1], **folders)
print(json.dumps([[outcome(lambda: os.fstat(one)) for one in ends] for ends in (kept, other)]))
"""
    assert result(code, place) == [["ok"] * 2, ["EBADF"] * 2]


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


def test_the_code_paths_hold_no_more_than_code():
    paths = confine.code_paths("source_site")
    assert ROOT not in paths
    assert ROOT / "source_site" in paths
    assert not any(Path.home().is_relative_to(path) or Path("/tmp").is_relative_to(path) for path in paths)


def test_of_a_folder_that_may_be_listed_the_names_are_read_and_nothing_else(place):
    code = """
folders['listable'] = [outside]
confine(network=Network.NONE, **folders)
print(json.dumps([outcome(lambda: os.listdir(outside)), outcome(lambda: read(outside / 'secret')),
                  outcome(lambda: make(outside / 'new'))]))
"""
    assert result(code, place) == ["ok", "EACCES", "EACCES"]


def test_a_single_file_may_be_read_without_its_folder(place):
    code = """
folders['readable'][-1] = readable / 'file'
confine(network=Network.NONE, **folders)
print(json.dumps([outcome(lambda: read(readable / 'file')), outcome(lambda: read(readable / 'cut')),
                  outcome(lambda: os.listdir(readable))]))
"""
    assert result(code, place) == ["ok", "EACCES", "EACCES"]


def test_a_process_that_only_computes_has_its_memory_and_what_it_was_left(place):
    code = """
more = [os.dup(0) for _ in range(3)][-1]
os.dup2(os.open(writable / "file", os.O_WRONLY), 3)
sandbox.confine_to_computing(4)
os.write(3, b"some")
attempts = [lambda: os.fstat(more), lambda: os.fstat(3), lambda: bytearray(1 << 24), lambda: read(readable / "file"),
            os.fork, lambda: os.dup(3), os.pipe]
print(json.dumps([outcome(one) for one in attempts]))
"""
    assert result(code, place) == ["EBADF", "ok", "ok", "EPERM", "EPERM", "EPERM", "EPERM"]
