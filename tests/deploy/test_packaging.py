import json
import os
import re
import subprocess
import sys
import tomllib
from hashlib import sha256
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ROOT / "deploy" / "locks"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHONS = ["3.11.7", "3.12.1", "3.13.0"]
EXTRAS = ("calls", "federation", "onnx", "private")


def pins(lock: str) -> list[tuple[Requirement, list[str]]]:
    """What a lock names, each with its hashes."""
    found: list[tuple[Requirement, list[str]]] = []
    for line in (LOCKS / lock).read_text().splitlines():
        if line.startswith("    --hash=sha256:"):
            found[-1][1].append(line.removeprefix("    --hash=sha256:").removesuffix(" \\"))
        else:
            found.append((Requirement(line.removesuffix(" \\")), []))
    return found


def installed(lock: str, python: str) -> dict[str, str]:
    """The version of each package that a lock means for one Python on Linux."""
    here = {
        "python_full_version": python,
        "python_version": python.rpartition(".")[0],
        "sys_platform": "linux",
        "platform_machine": "x86_64",
    }
    meant = [one for one, _ in pins(lock) if one.marker is None or one.marker.evaluate(here)]
    versions = {one.name: str(one.specifier).removeprefix("==") for one in meant}
    assert len(versions) == len(meant), "a package is pinned twice"
    return versions


def unmet(lock: str, python: str, asked: list[str]) -> list[str]:
    """The requirements that a lock does not meet."""
    versions = installed(lock, python)
    return [one for one in asked if not Requirement(one).specifier.contains(versions.get(Requirement(one).name, "0"))]


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("lock", ["cpu.txt", "cuda.txt"])
def test_a_lock_meets_what_the_project_asks_for(lock, python):
    assert unmet(lock, python, PROJECT["dependencies"]) == []


@pytest.mark.parametrize("python", PYTHONS)
def test_the_larger_lock_meets_the_extras_and_agrees_with_the_smaller_one(python):
    extras = [one for name in EXTRAS for one in PROJECT["optional-dependencies"][name]]
    assert unmet("cpu-extras.txt", python, [*PROJECT["dependencies"], *extras]) == []
    assert installed("cpu.txt", python).items() <= installed("cpu-extras.txt", python).items()


def test_a_requirement_that_nobody_locked_is_noticed():
    assert unmet("cpu.txt", PYTHONS[0], ["absent>=1", "numpy<1"]) == ["absent>=1", "numpy<1"]


@pytest.mark.parametrize("lock", ["cpu.txt", "cpu-extras.txt", "cuda.txt"])
def test_every_package_of_a_lock_has_hashes_and_none_has_an_address(lock):
    for one, hashes in pins(lock):
        assert re.fullmatch(r"==[\w.+]+", str(one.specifier))
        assert hashes
        assert all(re.fullmatch("[0-9a-f]{64}", value) for value in hashes)
    assert not re.search(r"://|--\w*index|--find-links|@ ", (LOCKS / lock).read_text())


def test_the_cpu_locks_hold_no_cuda():
    named = {one.name for one, _ in pins("cpu-extras.txt")}
    assert not [name for name in named if re.match("nvidia|cuda|triton", name)]
    assert installed("cpu.txt", PYTHONS[0])["torch"].endswith("+cpu")


def test_every_range_of_torch_keeps_below_one_release():
    """Else a resolver would take a newer build, with CUDA, in place of the CPU build at hand."""
    asked = [one for group in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()) for one in group]
    assert {one for one in asked if Requirement(one).name == "torch"} == {"torch>=2.11,<2.14"}


def test_the_licence_is_there_in_full_and_in_the_metadata():
    assert PROJECT["license"] == "Apache-2.0"
    assert PROJECT["license-files"] == ["LICENSE"]
    official = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
    assert sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == official


@pytest.mark.slow
def test_two_builds_of_a_commit_are_the_same_wheel(tmp_path):
    """Whatever the builder's umask and time zone."""
    sums = []
    for name, umask, zone in (("first", 0o022, "UTC"), ("second", 0o077, "Asia/Tokyo")):
        subprocess.run(
            [ROOT / "deploy" / "wheel", tmp_path / name],
            env=os.environ | {"PYTHON": sys.executable, "TZ": zone},
            umask=umask,
            check=True,
            timeout=120,
        )
        (wheel,) = (tmp_path / name).iterdir()
        sums.append(sha256(wheel.read_bytes()).hexdigest())
    assert sums[0] == sums[1]


@pytest.mark.slow
def test_the_bill_of_materials_is_valid_and_names_what_is_installed(tmp_path):
    """As `make sbom` writes it, of the environment that runs this test; the tool checks it by CycloneDX's schema."""
    tool = Path(sys.executable).parent / "cyclonedx-py"
    words = ["environment", "--pyproject", ROOT / "pyproject.toml", "--output-reproducible", sys.executable]
    done = subprocess.run([tool, *words], capture_output=True, check=True, timeout=120)
    bill = json.loads(done.stdout)
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "ecan-ser"
    names = {Requirement(one).name for one in PROJECT["dependencies"]}
    assert names <= {re.sub("[-_.]+", "-", one["name"]).lower() for one in bill["components"]}
