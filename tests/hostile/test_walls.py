"""Rows C25 to C31 of the hostile corpus: what a contained process that was taken over can still reach, and be heard by.

One attacker tries everything in one run, while recordings are open; every attempt is a row of its own.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import soundfile

from protocol.sandbox.landlock import landlock_abi
from target_site.results.days import latest_day
from tests.hostile.infected import infect
from tests.support import cli
from tests.support.days import day_in
from tests.support.models import save_untrained
from tests.support.speech import synthesize

pytestmark = pytest.mark.skipif(landlock_abi() == 0, reason="this kernel has no Landlock")

COMMAND = Path(sys.executable).parent / "ecan-target"
NOBODY = 65534
KEYS = ("signing.key", "sealing.key", "tls.key", "trust.state")
READS = {
    **{f"C26-{name}": f"keys/{name}" for name in KEYS},
    "C26-rules": "site.yaml",
    "C26-a-key-beside-the-list": "signing.key",
    "C26-an-approval": "model.ecan.approval",
    "C26-what-lies-beside-the-list": "notes.txt",
    "C26-a-recording-that-is-not-listed": "calls/other.wav",
    "C26-the-folder-of-the-list": ".",
    "C26-the-keys-folder": "keys",
}
WRITES = {
    "C27-trust-state": "keys/trust.state",
    "C27-a-key": "keys/signing.key",
    "C27-a-new-key": "keys/planted",
    "C27-rules": "site.yaml",
    "C27-an-approval": "other.ecan.approval",
    "C27-beside-the-cache": "planted",
    "C27-a-recording": "calls/0.wav",
    "C27-the-model": "model/planted",
}
OTHERS = {
    "C28-its-name": "told(15, ctypes.addressof(ctypes.create_string_buffer(b'leaked')))",
    "C28-its-name-by-a-file": "open('/proc/self/comm', 'w').write('leaked')",
    "C28-look-in": "told(4, 1)",
    "C28-its-priority": "os.nice(1)",
    "C28-the-priority-of-another": "os.setpriority(os.PRIO_PROCESS, os.getppid(), 0)",
    "C28-its-processors": "os.sched_setaffinity(0, os.sched_getaffinity(0))",
    "C28-the-processors-of-another": "os.sched_setaffinity(os.getppid(), {0})",
    "C28-the-class-of-another": "os.sched_setscheduler(os.getppid(), os.SCHED_OTHER, os.sched_param(0))",
    "C28-the-disk-priority-of-another": "called('ioprio_set', 1, os.getppid(), 2 << 13)",
    "C28-the-memory-of-another": "called('process_madvise', -1, 0, 0, 0, 0)",
    "C28-the-pages-of-another": "called('migrate_pages', os.getppid(), 0, 0, 0)",
    "C28-its-group": "os.setpgid(0, 0)",
    "C28-its-session": "called('setsid')",
    "C28-the-machines-name": "called('sethostname', 0, 0)",
    "C28-a-signal": "os.kill(os.getppid(), 0)",
    "C28-the-clock": "called('clock_settime', 0, 0)",
}
DECODER = {
    "C29-a-recording": "os.close(os.open({recording!r}, os.O_RDONLY))",
    "C29-its-own-recording": "os.close(os.open('/proc/self/fd/3', os.O_RDONLY))",
    "C29-the-cache": "os.close(os.open({cache!r}, os.O_RDWR))",
    "C29-its-code": "os.close(os.open({code!r}, os.O_RDONLY))",
    "C29-a-folder": "os.listdir('/')",
    "C29-the-null-device": "os.close(os.open('/dev/null', os.O_RDWR))",
    "C29-a-new-file": "os.close(os.open({out!r}, os.O_CREAT | os.O_WRONLY))",
    "C29-a-socket": "socket.socket(socket.AF_UNIX)",
    "C29-a-process": "os.fork()",
    "C29-a-signal": "os.kill(os.getppid(), 0)",
    "C29-code-of-its-own": "mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC)",
}
MAKER = {
    "C29-a-recording-by-its-maker": "os.close(os.open({recording!r}, os.O_RDONLY))",
    "C29-the-cache-by-its-maker": "os.close(os.open({cache!r}, os.O_RDWR))",
    "C29-a-key-by-its-maker": "os.close(os.open({key!r}, os.O_RDONLY))",
    "C29-a-folder-by-its-maker": "os.listdir('/')",
    "C29-a-new-file-by-its-maker": "os.close(os.open({out!r}, os.O_CREAT | os.O_WRONLY))",
    "C29-a-socket-by-its-maker": "socket.socket(socket.AF_UNIX)",
    "C29-a-program-by-its-maker": "os.execv('/bin/true', ['true'])",
    "C29-a-signal-by-its-maker": "os.kill(os.getppid(), 0)",
}
BEFORE = """
import errno, json, mmap, os, socket
from ecan_core.audio import foreign
def attempted(code):
    try:
        eval(code, globals())
    except OSError as error:
        return errno.errorcode.get(error.errno, "OSError")
    return "ok"
def tell(place, codes):
    said = {{name: attempted(code) for name, code in codes.items()}}
    place.seek(0)
    place.write(json.dumps(said).encode())
facts, make = foreign._Decoder._facts, foreign._Maker.__call__
def decoder_taken_over(self):
    tell(decoded, {decoder!r})
    return facts(self)
def maker_taken_over(self, order):
    if order[:1] == foreign._MAKE:
        tell(made, {maker!r})
    return make(self, order)
decoded, made = mmap.mmap(-1, 1 << 16), mmap.mmap(-1, 1 << 16)
foreign._Decoder._facts, foreign._Maker.__call__ = decoder_taken_over, maker_taken_over
"""
ATTACK = """
import json, mmap
from protocol.sandbox import kernel, rights, system_calls
def checked(result, what):
    if result < 0:
        raise OSError(ctypes.get_errno(), what)
def told(option, argument):
    checked(kernel.prctl(option, argument), option)
def called(name, *arguments):
    checked(kernel.syscall(system_calls.NEVER[name][int(os.uname().machine == "aarch64")], *arguments), name)
def opened(path, flags):
    os.close(os.open(path, flags))
out = {{name: outcome(lambda: opened(path, os.O_RDONLY)) for name, path in {reads!r}.items()}}
out |= {{name: outcome(lambda: opened(path, os.O_WRONLY | os.O_CREAT)) for name, path in {writes!r}.items()}}
names = dict(os=os, ctypes=ctypes, told=told, called=called, socket=socket, mmap=mmap)
out |= {{name: outcome(lambda: eval(code, names)) for name, code in {others!r}.items()}}
out["rights"] = rights.rights()
from pathlib import Path
out["listed"] = outcome(lambda: Path({listed!r}).read_bytes())
Path({tried!r}).write_text(json.dumps(out))
place = ctypes.c_char_p.in_dll(ctypes.CDLL(None), "program_invocation_name")
ctypes.memmove(ctypes.cast(place, ctypes.c_void_p), b"LEAKED" + bytes(1), 7)
import time
time.sleep(1)
try:
    return work.carry_out(containment)
finally:
    Path({decoded!r}).write_bytes(decoded[:].rstrip(bytes(1)))
    Path({made!r}).write_bytes(made[:].rstrip(bytes(1)))
"""


def make_site(folder: Path) -> Path:
    """Make a folder in which everything lies side by side: list, recordings, keys, rules, approval, model."""
    synthesize(folder / "calls", "valley", speakers=1, utterances=3)
    recordings = sorted((folder / "calls").rglob("*.wav"))
    for number, path in enumerate(recordings):
        path.rename(folder / "calls" / f"{number}.wav")
    sound, rate = soundfile.read(folder / "calls" / "1.wav")
    soundfile.write(folder / "calls" / "packed.flac", sound[::-1], rate)
    (folder / "calls" / "2.wav").rename(folder / "calls" / "other.wav")
    (folder / "list.csv").write_text("file\ncalls/0.wav\ncalls/packed.flac\n")
    save_untrained(folder / "model")
    (folder / "keys").mkdir()
    for name in KEYS:
        (folder / "keys" / name).write_bytes(b"secret")
    for name in ("signing.key", "site.yaml", "notes.txt", "model.ecan.approval"):
        (folder / name).write_bytes(b"secret")
    return folder


def attack_before_on(site: Path, out: Path) -> str:
    """Return the code of an attacker who waits for a decoder and its maker."""
    places = {
        "recording": str(site / "calls" / "0.wav"),
        "cache": str(out / "cache"),
        "code": os.__file__,
        "out": str(out / "planted"),
        "key": str(site / "keys" / "signing.key"),
    }
    decoder, maker = ({name: code.format(**places) for name, code in codes.items()} for codes in (DECODER, MAKER))
    return BEFORE.format(decoder=decoder, maker=maker)


def attack_on(site: Path, out: Path) -> str:
    """Return the attacker's code for a site."""
    return ATTACK.format(
        reads={name: str(site / path) for name, path in READS.items()},
        writes={name: str(site / path) for name, path in WRITES.items()},
        others=OTHERS,
        listed=str(site / "calls" / "0.wav"),
        tried=str(out / "tried"),
        decoded=str(out / "decoded"),
        made=str(out / "made"),
    )


def predicting(site: Path, out: Path, *more: object) -> list[object]:
    audio = () if "--audio" in more else ("--audio", site / "list.csv")
    cache = () if "--cache" in more else ("--cache", out / "cache")
    return ["predict", "--model", site / "model", *audio, "--out", out, *cache, *more]


class Spy:
    """Read what every user of the machine may read of every process, for as long as a block runs."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self._is_over = threading.Event()
        self._looking = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._is_over.wait(0.05):
            for name in ("cmdline", "comm", "environ"):
                for path in Path("/proc").glob(f"[0-9]*/{name}"):
                    try:
                        said = path.read_bytes()
                    except OSError:
                        continue
                    if said.lower().startswith(b"leaked"):
                        self.seen.add(said)

    def __enter__(self) -> "Spy":
        self._looking.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._looking.join()


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    return make_site(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def attacked(site, tmp_path_factory) -> dict:
    """What came of every attempt, in one run of the command."""
    out = tmp_path_factory.mktemp("attacked")
    with pytest.MonkeyPatch.context() as monkeypatch, Spy() as spy:
        infect(monkeypatch, attack_on(site, out), attack_before_on(site, out))
        result = cli.target(*predicting(site, out))
    assert result.code == 15, result.stderr
    assert "attempts to reach a network" in result.refusal()  # the decoder's
    tried, decoded, made = (json.loads((out / name).read_text()) for name in ("tried", "decoded", "made"))
    return {"tried": tried, "decoded": decoded, "made": made, "seen": spy.seen, "out": out}


@pytest.mark.parametrize("attempt", [*READS, *WRITES, *OTHERS])
def test_what_a_process_that_was_taken_over_cannot_reach(attacked, attempt):
    assert attacked["tried"][attempt] in ("EACCES", "EPERM")


def test_and_yet_the_listed_files_were_read(attacked):
    assert attacked["tried"]["listed"] == "ok"
    assert len((day_in(attacked["out"]) / "segments.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize("attempt", DECODER)
def test_what_a_decoder_that_was_taken_over_cannot_reach(attacked, attempt):
    assert attacked["decoded"][attempt] in ("EACCES", "EPERM")


@pytest.mark.parametrize("attempt", MAKER)
def test_what_a_maker_of_decoders_that_was_taken_over_cannot_reach(attacked, attempt):
    assert attacked["made"][attempt] in ("EACCES", "EPERM")


def test_row_c28_nobody_on_the_machine_can_read_its_command_line(attacked):
    assert attacked["seen"] == set()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to lose")
def test_row_c30_root_has_no_rights_behind_the_walls(attacked):
    assert attacked["tried"]["rights"] == 0


def _is_for_all() -> bool:
    """Tell whether this is root, and another user can run this very interpreter."""
    try:
        return os.geteuid() == 0 and subprocess.run([sys.executable, "-c", ""], user=NOBODY).returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(not _is_for_all(), reason="only root can become a user, who has to be let in")
def test_row_c30_a_user_without_rights_is_contained_as_well(tmp_path_factory, monkeypatch):
    place = Path(shutil.copytree(make_site(tmp_path_factory.mktemp("site")), f"/tmp/ecan-{os.getpid()}-site"))
    try:
        for path in (place, *place.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
        done = subprocess.run(
            [COMMAND, *map(str, predicting(place, place / "out"))],
            user=NOBODY,
            group=NOBODY,
            extra_groups=(),
            env={**os.environ, "HOME": str(place), "TMPDIR": "/tmp"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        containment = json.loads((day_in(place / "out") / "summary.json").read_text())["containment"]
        assert containment["level"] >= 2
        assert not any(after for _, after in containment["ways_out"].values())
    finally:
        shutil.rmtree(place)


# --- layouts -------------------------------------------------------------------------------------------------


def _link(place: Path, *, hard: bool) -> None:
    (place / "list.csv").write_text("file\ncalls/0.wav\ncalls/linked.wav\n")
    (os.link if hard else os.symlink)(place / "keys" / "signing.key", place / "calls" / "linked.wav")


LAYOUTS = {
    "C25-keys-among-the-recordings": (lambda place: (place / "keys").rename(place / "calls" / "keys"), "calls"),
    "C25-keys-deep-among-the-recordings": (lambda place: None, "."),
    "C25-trust-state-among-them": (lambda place: (place / "calls" / "trust.state").touch(), "calls"),
    "C25-rules-among-them": (lambda place: (place / "calls" / "site.yaml").touch(), "calls"),
    "C25-an-approval-among-them": (lambda place: (place / "calls" / "model.ecan.approval").touch(), "calls"),
    "C25-a-ledger-among-them": (lambda place: (place / "calls" / "ledger.sqlite").touch(), "calls"),
    "C25-a-list-that-names-a-key": (
        lambda place: (place / "list.csv").write_text("file\ncalls/0.wav\nkeys/signing.key\n"),
        "list.csv",
    ),
    "C25-a-list-that-names-a-link-to-a-key": (lambda place: _link(place, hard=False), "list.csv"),
    "C25-a-list-that-names-a-key-by-another-name": (lambda place: _link(place, hard=True), "list.csv"),
}


@pytest.fixture
def place(tmp_path) -> Path:
    return make_site(tmp_path / "site")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_row_keys_or_rules_within_reach_of_reading_are_refused(place, tmp_path, layout):
    change, audio = LAYOUTS[layout]
    change(place)
    result = cli.target(*predicting(place, tmp_path / "out", "--audio", place / audio))
    assert result.code == 15
    assert result.refusal().startswith("The process that reads recordings could read ")
    assert latest_day(tmp_path / "out") is None


@pytest.mark.row("C25", "outputs into the folder of the keys")
@pytest.mark.parametrize("option", ["--out", "--cache"])
def test_keys_within_reach_of_writing_are_refused(place, tmp_path, option):
    where = {
        "--out": (place / "keys", tmp_path / "c" / "cache"),
        "--cache": (tmp_path / "out", place / "keys" / "cache"),
    }
    out, cache = where[option]
    result = cli.target(*predicting(place, out, "--cache", cache))
    assert result.code == {"--out": 15, "--cache": 2}[option]
    assert str(place / "keys") in result.refusal()
    assert {path.name for path in (place / "keys").iterdir()} - {".lock"} == set(KEYS)


@pytest.mark.row("C25", "a cache beside other files")
def test_a_cache_has_a_folder_of_its_own(place, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("to my mother")
    result = cli.target(*predicting(place, tmp_path / "out", "--cache", tmp_path / "mine" / "cache"))
    assert result.code == 2
    assert "choose a --cache in a folder of its own" in result.refusal()
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["letter.txt"]


def test_a_pattern_reads_the_files_that_it_matches_and_nothing_else(site, tmp_path, monkeypatch):
    infect(
        monkeypatch,
        f"""
        said = [outcome(lambda: open({str(site / "calls")!r} + "/" + name).close()) for name in ("0.wav", "other.wav")]
        print("attack:", said, outcome(lambda: os.listdir({str(site / "calls")!r})), file=sys.stderr)
        """,
    )
    result = cli.target(*predicting(site, tmp_path, "--audio", site / "calls" / "[01].wav"))
    assert result.code == 0, result.stderr
    assert "attack: ['ok', 'EACCES'] ok" in result.stderr


# --- words ---------------------------------------------------------------------------------------------------

WORDS = {
    "C31-an-escape": ("print('attack: \\x1b]52;c;bGVhaw==\\x07\\x1b[2J', file=sys.stderr)", "\\x1b]52"),
    "C31-a-line-that-feigns-another": ("print('attack: a\\rerror: all is well', file=sys.stderr)", "a\\rerror"),
    "C31-bytes": ("os.write(2, bytes(range(128, 256)) + b'\\n')", "\ufffd"),
    "C31-a-descriptor-past-python": ("os.write(2, b'\\x1b[31mattack\\n')", "\\x1b[31mattack"),
}


@pytest.mark.parametrize("words", WORDS)
def test_row_words_steer_no_terminal(site, tmp_path, monkeypatch, words):
    attack, shown = WORDS[words]
    infect(monkeypatch, attack)
    result = cli.target(*predicting(site, tmp_path))
    assert result.code == 0, result.stderr
    assert shown in result.stderr
    assert all(letter.isprintable() or letter == "\n" for letter in result.stderr)


@pytest.mark.row("C31", "a flood of words")
def test_a_flood_is_cut_and_its_end_is_heard(site, tmp_path, monkeypatch):
    infect(
        monkeypatch, "os.write(2, b'y' * 100_000 + b'\\n')\nfor _ in range(50_000): os.write(2, b'leak' * 5 + b'\\n')"
    )
    result = cli.target(*predicting(site, tmp_path))
    assert result.code == 0
    assert "lines more are not shown" in result.stderr
    assert len(result.stderr) < 100_000


@pytest.mark.row("C32", "a fork that holds on to the pipes")
def test_what_it_leaves_behind_ends_with_it(site, tmp_path, monkeypatch):
    infect(monkeypatch, "os.fork() or __import__('time').sleep(600)")
    started = time.monotonic()
    assert cli.target(*predicting(site, tmp_path)).code == 0
    assert time.monotonic() - started < 60


TOLD = {
    "C31-no-json": r"b'leaked\n'",
    "C31-no-message": r"b'[1]\n'",
    "C31-another-message": r"""b'{"leaked": 1}\n'""",
    "C31-a-flood": r"""b'{"outcome": {"a": "' + b'leak' * (1 << 19) + b'"}}\n'""",
    "C31-a-line-without-end": "b'leak' * (1 << 19)",
    "C31-deeper-than-can-be-read": r"b'[' * 100_000 + b'\n'",
}


@pytest.mark.parametrize("told", TOLD)
def test_row_what_it_was_not_asked_for_ends_the_command(site, tmp_path, monkeypatch, told):
    infect(monkeypatch, f"os.write(1, {TOLD[told]})")
    result = cli.target(*predicting(site, tmp_path))
    assert result.code == 15
    assert "told what it was not asked for" in result.refusal()
    assert "leak" not in result.stderr
