"""Code that is tried behind the walls, in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
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

def told(what, option, *arguments):
    if kernel.prctl(option, *arguments) < 0:
        raise OSError(ctypes.get_errno(), what)
def named(name):
    told(name, 15, ctypes.addressof(ctypes.create_string_buffer(name.encode())))
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
