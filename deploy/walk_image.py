#!/usr/bin/env python3
"""Walk deploy/containers/Dockerfile without an engine, and try and measure what it makes.

This machine stands for the base image: every stage is a layer over it (overlayfs), in a mount namespace of its own, and
is built as the recipe says. So a layer's size is what the image adds to its base. Needs root, 2 GB of memory, Python
3.11 with pip where every user may run it, and an index with the CPU build of torch or a wheelhouse:

    python3.11 -m deploy.walk_image [target|source] [WHEELHOUSE]

The image's commands then run as a user without a name (54321), with no network and nothing writable but /data and /tmp.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from deploy.dockerfile import Stage, read_stages

ROOT = Path(__file__).resolve().parents[1]
NOBODY = 54321
SEARCH = ("PIP_CONFIG_FILE", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_CERT")


class Layers:
    """Build stages as layers over this machine."""

    def __init__(self, work: Path, stages: dict[str, Stage], wheelhouse: Path | None) -> None:
        self.work, self.stages, self.wheelhouse = work, stages, wheelhouse
        self.trees: dict[str, list[Path]] = {}

    def build(self, name: str) -> Path:
        """Build a stage and those that it needs, and return where it is mounted."""
        merged = self.work / name / "merged"
        if name in self.trees:
            return merged
        stage = self.stages[name]
        if stage.base in self.stages:
            self.build(stage.base)
        own = self.work / name / "own"
        self._mount(merged, own, self.trees.get(stage.base, []))
        self.trees[name] = [own, *self.trees.get(stage.base, [])]
        folder = self._folder(stage.base)
        for word, rest in stage.steps:
            folder = rest if word == "WORKDIR" else folder
            if word in ("COPY", "RUN"):
                getattr(self, f"_{word.lower()}")(merged, rest, folder)
        return merged

    def _folder(self, base: str) -> str:
        """Return the working folder that a stage begins in."""
        if base not in self.stages:
            return "/"
        return [self._folder(self.stages[base].base), *self.stages[base].all_of("WORKDIR")][-1]

    def _mount(self, merged: Path, own: Path, below: list[Path]) -> None:
        for folder in (merged, own, scratch := own.parent / "scratch"):
            folder.mkdir(parents=True)
        lower = ":".join(map(str, [*below, "/"]))
        _run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={lower},upperdir={own},workdir={scratch}", merged)
        _run("mount", "--rbind", "/proc", merged / "proc")
        _run("mount", "--rbind", "/dev", merged / "dev")

    def _copy(self, merged: Path, rest: str, folder: str) -> None:
        *sources, target = [word for word in shlex.split(rest) if not word.startswith("--")]
        origin = self.build(rest.split()[0].removeprefix("--from=")) if rest.startswith("--from=") else ROOT
        place = merged / str(Path(folder, target)).lstrip("/")
        for source in sources:
            found = origin / source.lstrip("/")
            into = place if found.is_dir() or not target.endswith("/") else place / found.name
            into.parent.mkdir(parents=True, exist_ok=True)
            if found.is_dir():
                shutil.copytree(found, into, symlinks=True, dirs_exist_ok=True, ignore=_unwanted(origin))
            else:
                shutil.copy2(found, into)

    def _run(self, merged: Path, rest: str, folder: str) -> None:
        words = rest
        while words.startswith("--mount="):
            words = words.split(" ", 1)[1]
        house = merged / "wheelhouse"
        house.mkdir(exist_ok=True)
        if self.wheelhouse is not None:
            _run("mount", "--bind", self.wheelhouse, house)
        search = {name: value for name in SEARCH if (value := os.environ.get(name))}
        search |= {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": "/dev/null"} if self.wheelhouse else {}
        search.pop("PIP_FIND_LINKS" if self.wheelhouse else "", None)
        python = Path(sys.executable).resolve().parent
        env = {"PATH": f"{python}:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"} | search
        _run("chroot", merged, "sh", "-euc", f"cd {folder}; {words}", env=env)
        if self.wheelhouse is not None:
            _run("umount", house)
        house.rmdir()


def _unwanted(origin: Path) -> object:
    return shutil.ignore_patterns("__pycache__") if origin == ROOT else None


def _run(*words: object, **options: object) -> str:
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False, **options)
    if done.returncode:
        raise SystemExit(f"{shlex.join(map(str, words))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def settings(stages: dict[str, Stage], name: str) -> dict[str, str]:
    """Return the environment that a container of a stage begins with."""
    stage = stages[name]
    env = settings(stages, stage.base) if stage.base in stages else {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    for line in stage.all_of("ENV"):
        env |= {key: value.replace("$PATH", env["PATH"]) for key, value in (w.split("=", 1) for w in shlex.split(line))}
    return env


def start(merged: Path, env: dict[str, str], *words: str) -> tuple[str, float]:
    """Run a command as a container would, and return what it says and how long it took, in seconds."""
    began = time.monotonic()
    nobody = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs")
    said = _run("chroot", merged, "unshare", "-n", *nobody, *words, env={"HOME": "/"} | env)
    return said, time.monotonic() - began


def measure(layers: Layers, name: str) -> dict[str, object]:
    """Try an image and return what it weighs and how fast it starts."""
    merged, env = layers.build(name), settings(layers.stages, name)
    _run("chown", "-R", f"{NOBODY}:{NOBODY}", merged / "data")
    program = json.loads(layers.stages[name].all_of("ENTRYPOINT")[0])
    times: dict[str, list[float]] = {"--version": [], "--help": []}
    for _ in range(3):
        for option, seconds in times.items():
            seconds.append(start(merged, env, *program, option)[1])
    checks = [start(merged, env, *program, "encoder", "list")[0]]
    if name == "target":
        health = layers.stages[name].all_of("HEALTHCHECK")[0].split("CMD ", 1)[1]
        checks.append(start(merged, env, *json.loads(health))[0])
    other = {"target": "source", "source": "target"}[name]
    if leftovers := [str(found) for own in layers.trees[name] for found in own.rglob(f"*{other}_site*")]:
        raise SystemExit(f"the image of the {name} holds {leftovers}")
    sizes = {own.parent.name: round(int(_run("du", "-sb", own).split()[0]) / 1e6) for own in layers.trees[name]}
    best = {option: round(min(seconds), 2) for option, seconds in times.items()}
    return {"image": name, "MB over the base, by layer": sizes, "seconds, best of 3": best, "said": checks}


def main() -> None:
    """Build and try one image, in a mount namespace of its own."""
    if "ECAN_IMAGE_INSIDE" not in os.environ:
        os.environ["ECAN_IMAGE_INSIDE"] = "1"
        os.execvp("unshare", ["unshare", "-m", sys.executable, "-m", "deploy.walk_image", *sys.argv[1:]])
    name, *rest = sys.argv[1:] or ["target"]
    stages = read_stages(ROOT / "deploy" / "containers" / "Dockerfile")
    with tempfile.TemporaryDirectory(prefix="ecan-image-") as work:
        _run("mount", "-t", "tmpfs", "layers", work)  # the layers may not lie in what they are laid over
        layers = Layers(Path(work), stages, Path(rest[0]).resolve() if rest else None)
        try:
            print(json.dumps(measure(layers, name), indent=2))
        finally:
            _run("umount", "-R", work)


if __name__ == "__main__":
    main()
