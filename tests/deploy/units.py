"""Units of systemd, run as ordinary processes with the environment that systemd would give them."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "systemd"
UNITS = sorted((FOLDER / "system").glob("*.service"))
BIN = Path(sys.executable).parent
PORT = "7443"


def settings(unit: Path) -> dict[str, list[str]]:
    """Every setting of a unit with its values in order, whatever its section."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in unit.read_text().splitlines():
        if line and line[0] not in "#[":
            name, _, value = line.partition("=")
            found[name].append(value)
    return found


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A machine whose `/etc`, `/var` and recordings lie in a folder.

    Attributes:
        root: that folder.
        port: takes the place of 7443.
    """

    root: Path
    port: str

    def make(self) -> None:
        """Make the folders of tmpfiles.d."""
        for file in sorted((FOLDER / "tmpfiles.d").glob("*.conf")):
            for line in file.read_text().splitlines():
                kind, path, mode, *_ = line.split()
                assert kind == "d"
                self.at(path).mkdir(int(mode, 8), parents=True, exist_ok=True)

    def at(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def meets(self, name: str) -> bool:
        """Whether the conditions of a unit hold."""
        unit, instance = _unit(name)
        return all(self.at(path.replace("%i", instance)).exists() for path in settings(unit)["ConditionPathExists"])

    def start(self, name: str) -> subprocess.Popen[str]:
        """Start what a unit starts, once what comes before it has ended well."""
        unit, instance = _unit(name)
        found = settings(unit)
        environment = self._environment(unit, found)
        *before, last = [
            self._words(line, instance, environment) for line in [*found["ExecStartPre"], *found["ExecStart"]]
        ]
        for words in before:
            subprocess.run(words, env=environment, check=True, timeout=120)
        pipe = subprocess.PIPE
        return subprocess.Popen(last, env=environment, stdout=pipe, stderr=pipe, text=True, stdin=subprocess.DEVNULL)

    def run(self, name: str) -> tuple[bool, str]:
        """Run a unit to its end; returns whether systemd would call that a success, and what was said."""
        assert self.meets(name), f"a condition of {name} does not hold"
        return self.ended(name, self.start(name))

    def ended(self, name: str, process: subprocess.Popen[str]) -> tuple[bool, str]:
        """Wait for the end of a unit; see `run`."""
        out, err = process.communicate(timeout=240)
        well = " ".join(settings(_unit(name)[0])["SuccessExitStatus"]).split()
        code = process.returncode
        return code == 0 or str(code) in well or (code == -15 and "SIGTERM" in well), f"exit {code}: {out}{err}"

    def _environment(self, unit: Path, found: dict[str, list[str]]) -> dict[str, str]:
        environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
        credentials = self.root / "run" / "credentials" / unit.name
        shutil.rmtree(credentials, ignore_errors=True)
        for line in found["LoadCredential"]:
            name, _, path = line.partition(":")
            credentials.mkdir(0o700, parents=True)
            there = self.at(path)
            fallback = dict(value.split(":", 1) for value in found["SetCredential"])[name].encode()
            (credentials / name).write_bytes(there.read_bytes() if there.exists() else fallback.replace(b"\\n", b"\n"))
            (credentials / name).chmod(0o400)
            environment["CREDENTIALS_DIRECTORY"] = str(credentials)
        for path in found["EnvironmentFile"]:
            environment |= dict(line.split("=", 1) for line in self.at(path).read_text().splitlines())
        for line in found["Environment"]:
            name, _, value = line.partition("=")
            environment[name] = value.replace("%d", str(credentials))
        return environment

    def _words(self, line: str, instance: str, environment: dict[str, str]) -> list[str]:
        line = line.replace("%i", instance).replace(f":{PORT}", f":{self.port}")
        line = line.replace("/opt/ecan/bin", str(BIN))
        line = re.sub(r"(?<= )/(?=etc/|var/)", f"{self.root}/", line)
        return [re.sub(r"\$\{(\w+)\}", lambda match: environment[match[1]], word) for word in shlex.split(line)]


def _unit(name: str) -> tuple[Path, str]:
    """The file of a unit, and its instance."""
    stem, _, instance = name.removesuffix(".service").partition("@")
    return FOLDER / "system" / (f"{stem}@.service" if instance else f"{stem}.service"), instance


def unit_path() -> dict[str, str]:
    """The environment in which systemd's programs find our units and what is dropped into them."""
    return os.environ | {"SYSTEMD_UNIT_PATH": f"{FOLDER / 'system'}:"}
