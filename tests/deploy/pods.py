"""Pods of rendered manifests, run as ordinary processes after what a kubelet does to their volumes."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.support.kubelet import mount_secret, take_over

BIN = Path(sys.executable).parent
Item = dict[str, Any]


class Cluster:
    """A namespace whose volumes are folders, and whose pods are processes.

    Attributes:
        secrets: the files of every secret that is there.
        fs_group_policy: takes the place of what the manifests say.
    """

    def __init__(self, items: list[Item], program: str, root: Path) -> None:
        self._steps = {item["metadata"]["name"]: item for item in items if item["kind"] == "CronJob"}
        self._configs = {item["metadata"]["name"]: item["data"] for item in items if item["kind"] == "ConfigMap"}
        self._program, self._root, self._pods = program, root, 0
        self.secrets: dict[str, dict[str, bytes]] = {}
        self.fs_group_policy: str | None = None
        root.mkdir()

    def volume(self, claim: str) -> Path:
        """The storage behind a claim; what is new belongs to root as on a fresh disk."""
        path = self._root / f"volume-{claim}"
        if not path.exists():
            path.mkdir()
            path.chmod(0o755)
        return path

    def change_config(self, name: str, **values: str) -> None:
        self._config(name).update(values)

    def replace_config(self, name: str, data: dict[str, str]) -> None:
        config = self._config(name)
        config.clear()
        config.update(data)

    def run(self, step: str, *more: str, accept: tuple[int, ...] = (0,), patience: bool = False, **env: str) -> str:
        """Run a step as a job; returns its log."""
        for _ in range(5 if patience else 1):
            code, said = self._ended(self.start(step, *more, **env))
            if code in accept:
                return said
            time.sleep(2)
        raise AssertionError(f"{step} ended with {code}: {said}")

    def refused(self, step: str, code: int, **env: str) -> str:
        """Run a step that must fail with an exit code; returns its log."""
        return self.run(step, accept=(code,), **env)

    def start(self, step: str, *more: str, listen: str | None = None, **env: str) -> subprocess.Popen[str]:
        """Start the pod of a step, once its volumes are as a kubelet leaves them."""
        pod = self._steps[step]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        self._pods += 1
        mounts = {volume["name"]: self._mounted(volume, pod["securityContext"]) for volume in pod["volumes"]}
        (container,) = pod["containers"]
        variables = self._variables(container) | env
        words = [*container.get("command", [self._program]), *container["args"], *more]
        words = [self._inside(self._expanded(word, variables), container, mounts) for word in words]
        if listen is not None:
            words = [re.sub(r"--listen=.*", f"--listen={listen}", word) for word in words]
        environment = {"PATH": f"{BIN}:/usr/bin:/bin", "OMP_NUM_THREADS": "1"} | {
            name: self._inside(value, container, mounts) for name, value in variables.items()
        }
        return subprocess.Popen(
            words,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            stdin=subprocess.DEVNULL,
        )

    def _ended(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        said, _ = process.communicate(timeout=240)
        return process.returncode, said

    def _config(self, name: str) -> dict[str, str]:
        """A config map, whose name kustomize has given a hash."""
        return next(data for full, data in self._configs.items() if full.rpartition("-")[0] == name)

    def _mounted(self, volume: Item, context: Item) -> Path:
        """Do to a volume what a kubelet does, with this process's group as the pod's."""
        group, policy = os.getegid(), self.fs_group_policy or context["fsGroupChangePolicy"]
        if claim := volume.get("persistentVolumeClaim"):
            place = self.volume(claim["claimName"])
            if not claim.get("readOnly"):
                take_over(place, group, on_root_mismatch=policy == "OnRootMismatch")
            return place
        place = self._root / f"pod-{self._pods}-{volume['name']}"
        place.mkdir()
        if "configMap" in volume:
            data = self._configs[volume["configMap"]["name"]]
            mount_secret(place, {name: text.encode() for name, text in data.items()}, group=group)
        elif "secret" in volume:
            mount_secret(place, self.secrets.get(volume["secret"]["secretName"], {}), group=group)
        return place

    def _variables(self, container: Item) -> dict[str, str]:
        found: dict[str, str] = {}
        for source in container.get("envFrom", ()):
            found |= self._configs[source["configMapRef"]["name"]]
        return found | {entry["name"]: entry["value"] for entry in container.get("env", ())}

    def _expanded(self, word: str, variables: dict[str, str]) -> str:
        """Expand `$(NAME)` as a kubelet does; what is not known stays, and so does what belongs to the shell."""
        return re.sub(r"\$\((\w+)\)", lambda match: variables.get(match[1], match[0]), word)

    def _inside(self, word: str, container: Item, mounts: dict[str, Path]) -> str:
        """Put the folders behind the mount points."""
        places = {mount["mountPath"]: self._place(mount, mounts) for mount in container["volumeMounts"]}
        longest_first = "|".join(re.escape(path) for path in sorted(places, key=len, reverse=True))
        pattern = rf"(^|[= \"])({longest_first})(?=/|$| )"
        return re.sub(pattern, lambda match: f"{match[1]}{places[match[2]]}", word)

    def _place(self, mount: Item, mounts: dict[str, Path]) -> Path:
        """What is mounted: a volume, or a file of it as the file itself."""
        place = mounts[mount["name"]]
        return (place / mount["subPath"]).resolve() if "subPath" in mount else place
