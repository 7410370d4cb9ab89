"""Rules of the house that no linter knows."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.installed import as_installed

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("ecan_core", "protocol", "source_site", "target_site")
HEAVY = ("torch", "torchaudio", "grpc", "soundfile", "matplotlib", "flwr", "scipy")


def tracked_files():
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


@pytest.mark.parametrize("package", PACKAGES)
def test_our_packages_are_the_ones_that_are_imported(package):
    where = subprocess.run(
        [sys.executable, "-c", f"import {package}; print({package}.__file__)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert Path(where).parent == ROOT / package, f"another distribution's {package!r} has overwritten ours"


@pytest.mark.parametrize("program", ["source_site", "target_site"])
def test_a_package_that_was_overwritten_is_named(program, tmp_path):
    (tmp_path / "protocol").mkdir()
    (tmp_path / "protocol" / "__init__.py").touch()
    code = as_installed(tmp_path, ROOT) + f"import {program}.cli"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("error: another distribution has overwritten the package 'protocol'; run `pip uninst")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("program", ["source_site", "target_site"])
@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_imports_nothing_heavy(program, arguments):
    code = (
        "import sys\n"
        f"from {program}.cli import cli\n"
        f"cli.main({arguments!r}, standalone_mode=False)\n"
        f"print(sorted(set(sys.modules) & set({HEAVY!r})), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_no_audio_weights_or_keys_are_in_the_repository():
    unwanted = {".wav", ".flac", ".mp3", ".ogg", ".pt", ".pth", ".ckpt", ".safetensors", ".key", ".pem"}
    assert [path for path in tracked_files() if path.suffix.lower() in unwanted] == []


def test_every_test_folder_is_a_package():
    folders = {path.parent for path in tracked_files() if path.suffix == ".py" and "tests" in path.parts}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []
