"""Rows C01 to C24 of the hostile corpus: settings, storage and what a site does with them, through the command line.

Beside these: C08, C10 to C15 and C22 stand in test_containment.py, C18 in tests/target_site/tasks/test_resume.py, C19
in tests/journeys/test_alone.py, C21 (a file that is there) in tests/target_site/receiving/test_receive.py, C23 (a wrong
clock) in tests/target_site/test_doctor.py.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
import soundfile

from benchmarks.crossing import Command
from source_site.cli import cli as source_commands
from target_site.cli import cli as target_commands
from tests.ecan_core.audio.sounds import syllables
from tests.support import cli
from tests.support.days import day_in
from tests.support.models import save_untrained

COMMAND = Path(sys.executable).parent / "ecan-target"
PATIENT = "Erika Mustermann"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return save_untrained(tmp_path_factory.mktemp("model"))


@pytest.fixture
def calls(tmp_path) -> Path:
    folder = tmp_path / "ward"
    folder.mkdir()
    for number in range(3):
        soundfile.write(folder / f"{number}.wav", syllables(seconds=1.0, seed=number), 16_000)
    return folder


def predict(model: Path, calls: Path, out: Path, *more: object) -> cli.Result:
    return cli.target("predict", "--model", model, "--audio", calls, "--out", out, "--cache", out / "cache", *more)


RULES = "purpose: research\nsubjects: volunteer\n"
BOMB = "a: &a [x, x]\n" + "".join(f"b{n}: &b{n} [*a, *a]\n" for n in range(30))
BAD_RULES = {
    "C01-aliases": (BOMB, 3, "anchor"),
    "C01-1-MiB": (RULES + "#" * 2**20, 3, "larger than 64 KiB"),
    "C01-object": ("purpose: !!python/object/apply:os.system [reboot]\n", 3, "tag"),
    "C01-not-utf-8": (b"purpose: \xff\xfe\n", 3, "UTF-8"),
    "C02-twice": (RULES + "purpose: care\n", 3, "purpose"),
    "C02-unknown": (RULES + "chanels: [agent, caller]\n", 3, "did you mean channels?"),
    "C03-no": (RULES + "approval: no\n", 3, "approval must be one of required, not-needed"),
    "C03-on": (RULES + "adaptation:\n  epochs: on\n", 3, "adaptation.epochs must be a whole number"),
    "C03-1e3": (RULES + "adaptation:\n  epochs: 1e3\n", 3, "adaptation.epochs must be a whole number"),
    "C03-0o17": (RULES + "adaptation:\n  epochs: 0o17\n", 3, "adaptation.epochs must be a whole number"),
    "C04-nan": (RULES + "adaptation:\n  learning_rate: .nan\n", 3, "adaptation.learning_rate must be a finite number"),
    "C04-negative": (RULES + "adaptation:\n  learning_rate: -1.0\n", 3, "adaptation.learning_rate is -1.0"),
    "C04-huge": (RULES + "adaptation:\n  learning_rate: 1.0e+30\n", 3, "learning_rate is 1e+30"),
    "C04-zero": (RULES + "adaptation:\n  num_neighbors: 0\n", 3, "adaptation.num_neighbors is 0"),
    "C06-key-inside": (RULES + "passphrase: hunter2\n", 3, "passphrase is not a setting"),
}


@pytest.mark.parametrize(("rules", "code", "words"), BAD_RULES.values(), ids=BAD_RULES)
def test_row_of_a_sites_rules(model, calls, tmp_path, rules, code, words):
    path = tmp_path / "site.yaml"
    path.write_bytes(rules if isinstance(rules, bytes) else rules.encode())
    result = predict(model, calls, tmp_path / "out", "--config", path)
    assert result.code == code
    assert words in result.refusal()
    assert "hunter2" not in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["../out", "~", "$(touch owned)", "a b;c"])
def test_row_c05_a_path_is_taken_literally(model, calls, tmp_path, monkeypatch, name):
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "inside")
    assert predict(model, calls, Path(name)).code == 0
    assert (day_in(tmp_path / "inside" / name) / "segments.csv").exists()
    assert not list(tmp_path.rglob("owned"))


def test_row_c06_rules_that_others_may_write_are_refused(model, calls, tmp_path):
    rules = cli.site_rules(tmp_path / "site.yaml")
    rules.chmod(0o666)
    result = predict(model, calls, tmp_path / "out", "--config", rules)
    assert result.code == 11
    assert "chmod go-w" in result.refusal()


def options(command: click.Command, path: str = "") -> list[tuple[str, click.Parameter]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        names = command.list_commands(context)
        return [found for name in names for found in options(command.get_command(context, name), f"{path} {name}")]
    return [(path, parameter) for parameter in command.params]


@pytest.mark.parametrize("commands", [source_commands, target_commands], ids=["source", "target"])
def test_row_c07_no_option_takes_a_secret(commands):
    for path, parameter in options(commands):
        for name in parameter.opts:
            if any(word in name for word in ("pass", "secret", "token", "private")):
                assert parameter.is_flag or not isinstance(parameter.type, click.types.StringParamType), path + name


@pytest.mark.parametrize("pin", ["3f9a", "A" * 64, "g" * 64, "0" * 63, "0" * 65, "0" * 64 + "\n"])
def test_row_c09_a_pin_that_is_none_is_refused(crossing, tmp_path, pin):
    result = cli.target(
        *("receive", "--keys", crossing.target_keys, "--from", crossing.sealed),
        *("--trust", pin, "--out", tmp_path / "model.ecan"),
    )
    assert result.code in (2, 3, 10)
    result.refusal()
    assert not (tmp_path / "model.ecan").exists()


ON_A_DISK = """
mount -t tmpfs -o size={size}k tmpfs "{disk}" || exit 99
cp -r "{old}"/. "{disk}"/out 2>/dev/null || {{ mkdir "{disk}/out"; cp -r "{old}"/. "{disk}/out/"; }}
{then}
"$@"; code=$?
"{python}" - "{disk}/out" "{old}" <<'END'
import pathlib, sys
out, old = map(pathlib.Path, sys.argv[1:])
for path in old.iterdir():
    if path.suffix in (".safetensors", ".json"):
        assert (out / path.name).read_bytes() == path.read_bytes(), path
END
[ $? = 0 ] || exit 98
exit $code
"""


def on_a_disk(tmp_path: Path, old: Path, words: list[object], *, size_kib: int, then: str = ":"):
    """Run a command on a small disk that holds a model; the model must be the same afterwards."""
    disk = tmp_path / "disk"
    disk.mkdir()
    script = ON_A_DISK.format(size=size_kib, disk=disk, old=old, then=then.format(disk=disk), python=sys.executable)
    return subprocess.run(
        ["unshare", "-rm", "bash", "-c", script, "bash", COMMAND, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def skip_without_disk(done: subprocess.CompletedProcess[str]) -> None:
    if done.returncode == 99 or "unshare" in done.stderr:
        pytest.skip(f"no private file system can be mounted here: {done.stderr.strip()}")


def refuse_or_skip(done: subprocess.CompletedProcess[str]) -> None:
    skip_without_disk(done)
    assert done.returncode == 16, done.stderr
    assert "Traceback" not in done.stderr
    assert "disk" in done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("room_kib", [16, 200, 600, 1500])
def test_row_c16_a_disk_that_fills_up_keeps_the_old_model(crossing, adapted, tmp_path, room_kib):
    held = sum(path.stat().st_size for path in adapted.iterdir()) // 1024
    words = ["adapt", "--bundle", crossing.bundle, "--audio", crossing.target_labels, "--seed", 9]
    words += ["--cache", tmp_path / "cache" / "features", "--out", tmp_path / "disk" / "out"]
    refuse_or_skip(on_a_disk(tmp_path, adapted, words, size_kib=held + 100 + room_kib))


def test_row_c16_a_disk_that_is_read_only_keeps_the_old_model(crossing, adapted, tmp_path):
    words = ["adapt", "--bundle", crossing.bundle, "--audio", crossing.target_labels]
    words += ["--cache", tmp_path / "cache" / "features", "--out", tmp_path / "disk" / "out"]
    done = on_a_disk(tmp_path, adapted, words, size_kib=20_000, then='mount -o remount,ro "{disk}"')
    skip_without_disk(done)
    assert done.returncode == 16, done.stderr


def test_row_c17_killed_later_and_later_it_ends_with_the_same_numbers(crossing, tmp_path):
    words = ["adapt", "--bundle", crossing.bundle, "--audio", crossing.target_labels, "--seed", "5"]
    assert cli.target(*words, "--out", tmp_path / "whole").code in (0, 14)
    cut, kills = tmp_path / "cut", 0
    for tenths in range(6, 200, 5):
        running = Command(tmp_path, "ecan-target", *words, "--out", cut)
        time.sleep(tenths / 10 + random.uniform(0, 0.1))
        os.kill(running.process.pid, signal.SIGKILL)
        code = running.wait(expect=None).code
        if code != -signal.SIGKILL:
            break
        kills += 1
    assert kills > 3
    for name in ("weights.safetensors", "normalizer.safetensors", "adapted.json", "segments.csv", "report.json"):
        assert (cut / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_row_c20_the_folder_of_the_recordings_is_no_place_for_outputs(model, calls, tmp_path):
    for out in (calls, calls.parent):
        before = sorted(path.name for path in out.iterdir())
        result = predict(model, calls, out)
        assert result.code == 2
        assert "holds the recordings" in result.refusal()
        assert sorted(path.name for path in out.iterdir()) == before


def test_row_c20_nor_for_the_cache(model, calls, tmp_path):
    result = cli.target(
        *("predict", "--model", model, "--audio", calls, "--out", tmp_path / "out"),
        *("--cache", calls / "features.cache"),
    )
    assert result.code == 2
    assert "holds the recordings" in result.refusal()
    assert not (calls / "features.cache").exists()


def test_row_c24_no_log_and_no_line_on_the_terminal_names_a_recording(model, calls, tmp_path):
    own = shutil.copytree(model, tmp_path / "model")
    named = calls.rename(tmp_path / PATIENT)
    (named / "0.wav").rename(named / f"{PATIENT}.wav")
    result = predict(own, named, tmp_path / "out")
    assert result.code == 0
    assert PATIENT not in result.stderr
    for path in (own / "audit.jsonl", own / "audit.head"):
        assert PATIENT not in path.read_text()
    assert PATIENT in json.loads((day_in(tmp_path / "out") / "segments.jsonl").read_text().splitlines()[0])["recording"]
