"""Rows C08 and C10 to C15, C22 of the hostile corpus: what tries to get out of the process that reads recordings.

The attacks run as a dependency's code would: inside the contained process, while recordings are open.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from protocol.containment import launcher
from protocol.containment.probes import WAYS_OUT
from protocol.sandbox.landlock import landlock_abi
from target_site.results.days import latest_day
from tests.hostile.infected import INFECTED, infect, said_by_attack
from tests.support import cli
from tests.support.days import day_in
from tests.support.models import save_untrained
from tests.support.speech import synthesize

pytestmark = pytest.mark.skipif(landlock_abi() == 0, reason="this kernel has no Landlock")

COMMAND = Path(sys.executable).parent / "ecan-target"
ANOTHER_SYSTEM = "import types; sandbox.sys = types.SimpleNamespace(**vars(sys) | {'platform': 'darwin'})"


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A folder with a model and a few recordings."""
    folder = tmp_path_factory.mktemp("site")
    synthesize(folder / "calls", "valley", speakers=2, utterances=1)
    save_untrained(folder / "model")
    return folder


def predicting(site: Path, out: Path) -> list[object]:
    return ["predict", "--model", site / "model", "--audio", site / "calls", "--out", out, "--cache", out / "cache"]


def predict(site: Path, out: Path, *more: object) -> cli.Result:
    return cli.target(*predicting(site, out), *more)


def summary_of(out: Path) -> dict:
    return json.loads((day_in(out) / "summary.json").read_text())


# --- before any recording is opened --------------------------------------------------------------------------


def test_every_way_out_is_open_before_and_none_afterwards(site, tmp_path):
    result = predict(site, tmp_path)
    assert result.code == 0, result.stderr
    containment = summary_of(tmp_path)["containment"]
    assert containment["ways_out"].keys() == set(WAYS_OUT)
    led_out = {name: before for name, (before, after) in containment["ways_out"].items()}
    assert not any(after for _, after in containment["ways_out"].values())
    assert {"TCP", "UDP", "a UNIX socket", "a child process", "another program", "a socket past Python"} <= {
        name for name, before in led_out.items() if before
    }
    assert (containment["attempts"], containment["accepted"]) == (0, None)
    assert f"contained at level {containment['level']} of 3" in result.stderr


def test_c08_variables_that_steer_a_process_do_not_reach_it(site, tmp_path):
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "sitecustomize.py").write_text(
        f"import os\nopen(os.path.join({str(tmp_path)!r}, f'ran-{{os.getpid()}}'), 'w').close()\n"
    )
    steering = {"PYTHONPATH": str(tmp_path / "evil"), "HTTPS_PROXY": "http://127.0.0.1:9", "LD_PRELOAD": ""}
    process = subprocess.Popen(
        [COMMAND, *map(str, predicting(site, tmp_path / "out"))],
        env={**os.environ, **steering},
        stderr=subprocess.PIPE,
        text=True,
    )
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "not passed on to the process that reads recordings: HTTPS_PROXY, LD_PRELOAD, PYTHONPATH" in said
    assert [path.name for path in tmp_path.glob("ran-*")] == [f"ran-{process.pid}"]


def lacking(what: str, site: Path, out: Path, *more: object) -> subprocess.CompletedProcess[str]:
    """Predict on a kernel that lacks something."""
    return subprocess.run(
        [
            *(sys.executable, "-m", "tests.support.old_kernel", "--without", what, COMMAND),
            *map(str, [*predicting(site, out), *more]),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).resolve().parents[2],
    )


def test_c10_without_namespaces_it_runs_at_level_2_and_says_so(site, tmp_path):
    done = lacking("namespaces", site, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "contained at level 2 of 3" in done.stderr
    assert summary_of(tmp_path)["containment"]["level"] == 2


@pytest.mark.parametrize(("what", "level"), [("landlock", 1), ("filters", 0)])
def test_c10_with_fewer_walls_it_refuses_unless_somebody_accepts_that(site, tmp_path, what, level):
    refused = lacking(what, site, tmp_path / "out")
    assert refused.returncode == 15
    (said,) = (line for line in refused.stderr.splitlines() if line.startswith("error: "))
    assert f"at level {level} only" in said
    assert "--accept-uncontained" in said
    assert not (tmp_path / "out").exists()
    accepted = lacking(what, site, tmp_path, "--accept-uncontained", "a test")
    assert accepted.returncode == 0, accepted.stderr
    assert f"UNCONTAINED (level {level} of 3" in accepted.stderr
    containment = summary_of(tmp_path)["containment"]
    assert (containment["level"], containment["accepted"]) == (level, "a test")


def test_c10_another_system_has_no_walls(site, tmp_path, monkeypatch):
    infect(monkeypatch, before=ANOTHER_SYSTEM)
    result = predict(site, tmp_path)
    assert result.code == 15
    assert "at level 0 only" in result.refusal()
    assert predict(site, tmp_path, "--accept-uncontained", "a test").code == 0


def test_c10_the_reminder_comes_again_and_again(site, tmp_path, monkeypatch):
    monkeypatch.setattr(launcher, "BANNER_EVERY_S", 0.05)
    infect(monkeypatch, before=ANOTHER_SYSTEM, attack="import time; time.sleep(0.5)")
    result = predict(site, tmp_path, "--accept-uncontained", "a test")
    assert result.stderr.count("UNCONTAINED: recordings are being read") > 2


@pytest.mark.parametrize(
    ("gap", "found"),
    [
        ("sandbox.restrict_calls = lambda *_, **__: True", "a UNIX socket"),
        ("sandbox.restrict_files = lambda *_, **__: None", "reading outside"),
    ],
)
def test_c11_a_wall_that_does_not_hold_is_found_before_a_recording_is_opened(site, tmp_path, monkeypatch, gap, found):
    infect(monkeypatch, before=gap, attack="print('attack: a recording is open', file=sys.stderr)")
    result = predict(site, tmp_path / "out")
    assert result.code == 15
    assert result.refusal().startswith("The walls do not hold: ")
    assert found in result.refusal()
    assert result.refusal().endswith("[PROBE]")
    assert "a recording is open" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_c11_a_listener_that_is_reached_after_all_is_an_alarm(site, tmp_path, monkeypatch):
    blind = """
from protocol.containment import probes, walls
def blind(plant):
    results = probes.attempt_all(plant)
    return results if plant.tcp == first else dict.fromkeys(results, False)
walls.attempt_all = lambda plant: blind(plant)
first = None
def remember(plant, attempt_all=probes.attempt_all):
    global first
    first = first or plant.tcp
    results = attempt_all(plant)
    return results if plant.tcp == first else dict.fromkeys(results, False)
walls.attempt_all = remember
sandbox.restrict_calls = lambda *_, **__: True
wall_probes.probe_denied = lambda *_, **__: None
"""
    infect(monkeypatch, before=blind)
    result = predict(site, tmp_path)
    assert result.code == 15
    assert "the contained process reached a UNIX socket" in result.refusal()


# --- while recordings are open -------------------------------------------------------------------------------


def test_c12_no_descriptor_of_a_socket_is_inherited(site, tmp_path, monkeypatch):
    infect(
        monkeypatch,
        """
        import stat
        def is_socket(descriptor):
            try:
                return stat.S_ISSOCK(os.fstat(descriptor).st_mode)
            except OSError:
                return False
        print("attack:", [number for number in range(1024) if is_socket(number)], file=sys.stderr)
        """,
    )
    ours, theirs = socket.socketpair()
    os.set_inheritable(ours.fileno(), True)
    with ours, theirs:
        result = predict(site, tmp_path)
    assert result.code == 0, result.stderr
    assert said_by_attack(result) == "[]"


def test_c13_a_dependency_that_calls_home_is_blocked_counted_and_marked(site, tmp_path, monkeypatch):
    heard = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        port = listener.getsockname()[1]
        infect(
            monkeypatch,
            f"""
            import urllib.request
            print("attack:", outcome(lambda: urllib.request.urlopen("http://127.0.0.1:{port}/?voice")), file=sys.stderr)
            """,
        )
        result = predict(site, tmp_path)
        with pytest.raises(TimeoutError):
            heard.append(listener.accept())
    assert not heard
    assert said_by_attack(result) != "ok"
    assert result.code == 15
    assert "attempts to reach a network or to start a program were blocked" in result.refusal()
    assert summary_of(tmp_path)["containment"]["attempts"] > 0
    assert (day_in(tmp_path) / "segments.csv").exists()


ATTACKS = {
    "C14-ctypes": """
        libc = ctypes.CDLL(None, use_errno=True)
        made = libc.socket(2, 1, 0)
        print("attack:", "ok" if made >= 0 else errno.errorcode[ctypes.get_errno()], file=sys.stderr)
        """,
    "C15-thread": """
        results = []
        thread = threading.Thread(target=lambda: results.append(outcome(lambda: socket.socket(socket.AF_INET))))
        thread.start(); thread.join()
        print("attack:", results[0], file=sys.stderr)
        """,
    "C15-child": """
        reading, writing = os.pipe()
        if os.fork() == 0:
            os.write(writing, outcome(lambda: socket.socket(socket.AF_UNIX)).encode())
            os._exit(0)
        os.wait()
        print("attack:", os.read(reading, 100).decode(), file=sys.stderr)
        """,
    "C15-io_uring": """print("attack:", outcome(wall_probes.Ring), file=sys.stderr)""",
    "C15-exec": """print("attack:", outcome(lambda: subprocess.run(["/bin/true"])), file=sys.stderr)""",
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_ways_around_python_end_at_the_kernel(site, tmp_path, monkeypatch, attack):
    infect(monkeypatch, attack)
    assert said_by_attack(predict(site, tmp_path)) == "EPERM"


def test_c15_a_32_bit_call_costs_the_process_its_life(site, tmp_path, monkeypatch):
    if os.uname().machine != "x86_64":
        pytest.skip("this processor has no 32-bit calls")
    infect(monkeypatch, "from protocol.containment import probes; probes._old_socket()")
    result = predict(site, tmp_path)
    assert result.code == 1
    assert "was ended by SIGSYS" in result.refusal()
    assert latest_day(tmp_path) is None


@pytest.mark.parametrize("place", ["outside", "model"])
def test_what_is_not_the_commands_to_write_stays_as_it_is(site, tmp_path, monkeypatch, place):
    (tmp_path / "outside").mkdir()
    target = {"outside": tmp_path / "outside" / "x", "model": site / "model" / "x"}[place]
    infect(monkeypatch, f"print('attack:', outcome(lambda: open({str(target)!r}, 'w')), file=sys.stderr)")
    assert said_by_attack(predict(site, tmp_path / "out")) == "EACCES"
    assert not target.exists()


def test_c22_a_crash_leaves_no_core_file(site, tmp_path, monkeypatch):
    infect(
        monkeypatch,
        """
        print("attack:", resource.getrlimit(resource.RLIMIT_CORE), file=sys.stderr)
        ctypes.string_at(0)
        """,
    )
    monkeypatch.chdir(tmp_path)
    result = predict(site, tmp_path / "out")
    assert said_by_attack(result) == "(0, 0)"
    assert "was ended by SIGSEGV" in result.refusal()
    assert not list(tmp_path.glob("**/core*"))


# --- the process that watches --------------------------------------------------------------------------------


def test_what_the_contained_process_says_is_heard_where_standard_error_is_a_socket(site, tmp_path):
    ours, theirs = socket.socketpair()
    heard = []

    def listen() -> None:
        while said := ours.recv(1 << 16):
            heard.append(said)

    listening = threading.Thread(target=listen)
    listening.start()
    with theirs:
        done = subprocess.run([COMMAND, *map(str, predicting(site, tmp_path))], stderr=theirs, timeout=60)
    listening.join(10)
    ours.close()
    assert done.returncode == 0
    assert b"contained at level" in b"".join(heard)


def slowly(site: Path, out: Path) -> tuple[subprocess.Popen[str], int]:
    """Start a command whose contained process takes its time, in a session of its own; also that process's number."""
    process = subprocess.Popen(
        [sys.executable, "-c", _slow(), *map(str, predicting(site, out))],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    for line in process.stderr:
        if line.startswith("attack: "):
            break
    return process, int(line.removeprefix("attack: "))


@pytest.mark.parametrize(("end", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_the_contained_process_ends_with_the_one_that_started_it(site, tmp_path, end, code):
    process, contained = slowly(site, tmp_path)
    os.killpg(process.pid, end)
    with process.stderr:
        said = process.stderr.read()  # ends when nobody holds it any more
    assert process.wait(10) == code, said
    deadline = time.monotonic() + 10
    while not _has_ended(contained):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _has_ended(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def _slow() -> str:
    attack = "print('attack:', os.getpid(), file=sys.stderr, flush=True); import time; time.sleep(60)"
    code = INFECTED.format(before="", attack=textwrap.indent(attack, " " * 8))
    start = f"exec({code!r})\n{launcher._START}"
    imports = "from protocol.containment import launcher; from target_site import cli"
    return f"{imports}; launcher._START = {start!r}; cli.main()"
