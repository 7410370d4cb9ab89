"""The units of systemd: what its own programs say of them, and each run as a process over loopback."""

import shlex
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.deploy.commands import is_understood
from tests.deploy.units import FOLDER, ROOT, UNITS, Machine, settings, unit_path
from tests.support import cli
from tests.support.crossing import Crossing, new_source, succeeded

OURS = [unit for unit in UNITS if unit.name.startswith("ecan-")]
MOST_EXPOSED = 15
"""Tenths of what `systemd-analyze security` counts, for what has a network; 10 for what has none."""
HAVE_A_NETWORK = ("ecan-target-receive@", "ecan-source-export")
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def analyze(*words: object) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=unit_path())


@needs_systemd
@pytest.mark.parametrize("unit", OURS, ids=lambda unit: unit.stem)
def test_a_unit_is_exposed_little(unit: Path) -> None:
    most = MOST_EXPOSED if unit.stem in HAVE_A_NETWORK else 10
    done = analyze("security", "--offline=true", f"--threshold={most}", unit)
    assert done.returncode == 0, done.stdout


@needs_systemd
@pytest.mark.parametrize("unit", [*UNITS, *(FOLDER / "system").glob("*.timer")], ids=lambda unit: unit.name)
def test_a_unit_holds_nothing_that_systemd_does_not_know(unit: Path) -> None:
    said = analyze("verify", unit).stderr.splitlines()
    assert [line for line in said if "is not executable" not in line and "SupportedMachine" not in line] == []


@pytest.mark.parametrize("unit", OURS, ids=lambda unit: unit.stem)
def test_a_unit_starts_a_command_of_ours(unit: Path) -> None:
    for line in [*settings(unit)["ExecStartPre"], *settings(unit)["ExecStart"]]:
        program, *words = shlex.split(line)
        assert is_understood(words, Path(program).name)


def test_only_what_hears_no_recording_has_a_network() -> None:
    for unit in OURS:
        hears = any("ECAN_AUDIO" in line for line in settings(unit)["ExecStart"])
        assert (settings(unit)["PrivateNetwork"] == ["yes"]) == (unit.stem not in HAVE_A_NETWORK), unit.name
        assert not (hears and unit.stem in HAVE_A_NETWORK)


def test_nothing_and_too_little_to_hear_are_failures() -> None:
    assert settings(FOLDER / "system" / "ecan-target-predict.service")["SuccessExitStatus"] == ["SIGTERM"]


def test_every_service_of_ours_tells_of_its_failure() -> None:
    """The walls reach every unit by its name, also one of a template."""
    walls = FOLDER / "system" / "ecan-.service.d" / "walls.conf"
    assert settings(walls)["OnFailure"] == ["failed@%n.service"]
    assert all(unit.name.startswith("ecan-") for unit in UNITS if unit.name != "failed@.service")


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_the_script_that_boots_machines_is_written_as_its_linter_likes_it() -> None:
    done = subprocess.run(
        ["shellcheck", ROOT / "deploy" / "tests" / "boot"], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_script_that_boots_machines_is_whole() -> None:
    boot = ROOT / "deploy" / "tests" / "boot"
    assert subprocess.run(["bash", "-n", boot], check=False, timeout=60).returncode == 0
    usage = subprocess.run([boot, "--help"], capture_output=True, text=True, check=False, timeout=60)
    assert (usage.returncode, "--engine" in usage.stdout) == (0, True)
    named = {word for unit in OURS for word in [unit.name.split("@")[0].removesuffix(".service")]}
    assert all(name in boot.read_text() for name in named), "a unit that no booted machine runs"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, crossing: Crossing) -> Machine:
    """Both sites on one machine, whose keys have a passphrase."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    machine = Machine(root=tmp_path_factory.mktemp("machine"), port=port)
    machine.make()
    fingerprint = new_source(machine.at("/var/lib/ecan-source/keys"))
    machine.at("/etc/ecan/target.env").write_text(
        f"ECAN_SOURCE=127.0.0.1:{port}\nECAN_TRUST={fingerprint}\nECAN_AUDIO={crossing.target_labels.parent}\n"
    )
    cli.site_rules(machine.at("/etc/ecan/site.yaml"), adaptation="epochs: 1", rules="retention_days: 90\n")
    machine.at("/etc/ecan/site.yaml").chmod(0o600)
    return machine


def grant(machine: Machine, crossing: Crossing, release: str) -> None:
    well, said = machine.run(f"ecan-target-request@{release}")
    assert well, said
    words = ("--model", crossing.run, "--keys", machine.at("/var/lib/ecan-source/keys"))
    succeeded(cli.source("grant", *words, "--request", machine.at(f"/var/lib/ecan-target/{release}.request")))


def is_listening(port: str) -> bool:
    with socket.socket() as caller:
        caller.settimeout(1)
        return caller.connect_ex(("127.0.0.1", int(port))) == 0


def serving(machine: Machine) -> subprocess.Popen[str]:
    export = machine.start("ecan-source-export")
    deadline = time.monotonic() + 60
    while not is_listening(machine.port):
        assert export.poll() is None, export.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return export


@pytest.mark.journey
@pytest.mark.timeout(400)
def test_every_unit_runs_as_it_stands(machine: Machine, crossing: Crossing) -> None:
    keys, bundle = machine.at("/var/lib/ecan-target/keys"), machine.at("/var/lib/ecan-target/bundles/1.ecan")
    current, model = machine.at("/var/lib/ecan-target/current"), machine.at("/var/lib/ecan-target/models/1")
    well, said = machine.run("ecan-source-export")
    assert well, said
    assert "no grant is open" in said

    grant(machine, crossing, "1")
    export = serving(machine)
    well, said = machine.run("ecan-target-receive@1")
    assert well, said
    well, said = machine.ended("ecan-source-export", export)
    assert well, said

    well, said = machine.run("ecan-target-adapt@1")
    assert not well
    assert said.startswith("exit 11")
    succeeded(cli.approve(bundle, keys))
    well, said = machine.run("ecan-target-adapt@1")
    assert well, said

    assert not machine.meets("ecan-target-predict")
    succeeded(cli.target("switch", "--model", model, "--current", current, "--keys", keys))
    well, said = machine.run("ecan-target-predict")
    assert well, said
    assert list(machine.at("/var/lib/ecan-target/predictions").rglob("segments.csv"))


@pytest.mark.journey
@pytest.mark.timeout(400)
def test_a_stop_is_no_failure_and_an_unmounted_share_is_one(machine: Machine, crossing: Crossing) -> None:
    grant(machine, crossing, "2")
    export = serving(machine)
    export.send_signal(signal.SIGTERM)
    well, said = machine.ended("ecan-source-export", export)
    assert well, said
    assert said.startswith("exit 143")

    settings_file = machine.at("/etc/ecan/target.env")
    share = machine.root / "share"
    share.mkdir()
    settings_file.write_text(settings_file.read_text() + f"ECAN_AUDIO={share}\n")
    well, said = machine.run("ecan-target-predict")
    assert not well
    assert "recording" in said
