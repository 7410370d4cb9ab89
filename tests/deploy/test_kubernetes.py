"""The manifests: rendered as `kubectl` does, and each step run as a pod under a kubelet's rules."""

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from target_site.commands.model import predict
from tests.deploy.commands import is_understood
from tests.deploy.pods import Cluster
from tests.support import cli
from tests.support.crossing import Crossing, succeeded

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
BIN = Path(sys.executable).parent
HEAR = {"adapt", "predict"}
FOLDERS = ("target", "target-many-nodes", "source")
PINNED = re.compile(r"registry\.example/ecan-(source|target)@sha256:[0-9a-f]{64}")

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders as an operator completes them."""
    folder = Path(shutil.copytree(KUBERNETES, tmp_path_factory.mktemp("cluster") / "kubernetes"))
    values = {"ECAN_SOURCE": "192.0.2.7:7443", "ECAN_TRUST": 64 * "0", "ECAN_PURPOSE": "research", "ECAN_RELEASE": "1"}
    (folder / "target" / "target.env").write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    cli.site_rules(folder / "target" / "site.yaml", adaptation="epochs: 1", rules="retention_days: 90\n")
    (folder / "source" / "site.request").write_text("request")
    return folder


@pytest.fixture(scope="module")
def rendered(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """What `kubectl apply --kustomize` would send, by folder."""
    return {name: render(folder / name) for name in FOLDERS}


def render(folder: Path) -> list[dict[str, Any]]:
    done = subprocess.run(
        ["kubectl", "kustomize", folder], capture_output=True, text=True, check=False, timeout=60, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    (folder.parent / f"{folder.name}.yaml").write_text(done.stdout)
    return list(yaml.safe_load_all(done.stdout))


def steps(items: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Every step, by its name."""
    return {item["metadata"]["name"]: item["spec"] for item in items if item["kind"] == "CronJob"}


def pod_of(step: dict[str, Any]) -> dict[str, Any]:
    return dict(step["jobTemplate"]["spec"]["template"]["spec"])


def test_what_is_rendered_follows_the_schema(folder: Path, rendered: dict[str, Any]) -> None:
    files = [folder / f"{name}.yaml" for name in rendered]
    words = [BIN / "kubernetes-validate", "--strict", *files]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", FOLDERS)
def test_every_step_is_confined(rendered: dict[str, Any], name: str) -> None:
    for step in steps(rendered[name]).values():
        pod = pod_of(step)
        assert not pod["automountServiceAccountToken"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch"
        assert step["jobTemplate"]["spec"]["ttlSecondsAfterFinished"] > 0
        for container in (*pod["containers"], *pod.get("initContainers", ())):
            assert PINNED.fullmatch(container["image"])
            assert container["securityContext"]["readOnlyRootFilesystem"]
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]


@pytest.mark.parametrize("name", FOLDERS)
def test_every_step_starts_a_command_of_ours(rendered: dict[str, Any], name: str) -> None:
    program = "ecan-source" if name == "source" else "ecan-target"
    for step in steps(rendered[name]).values():
        (container,) = pod_of(step)["containers"]
        assert is_understood(container["args"], program)


def test_nothing_starts_by_itself_but_what_runs_every_night(rendered: dict[str, Any]) -> None:
    for name, items in rendered.items():
        started = {step for step, spec in steps(items).items() if not spec.get("suspend")}
        assert started == (set() if name == "source" else {"expire", "predict"})


def test_a_volume_of_one_node_is_used_on_one_node(rendered: dict[str, Any]) -> None:
    for name, items in rendered.items():
        claims = [item for item in items if item["kind"] == "PersistentVolumeClaim"]
        is_one_node = any(claim["spec"]["accessModes"] == ["ReadWriteOnce"] for claim in claims)
        pinned = [bool(pod_of(step).get("nodeSelector")) for step in steps(items).values()]
        assert set(pinned) == {is_one_node}, name


def test_the_parts_of_a_night_are_counted_once(rendered: dict[str, Any]) -> None:
    job = steps(rendered["target"])["predict"]["jobTemplate"]["spec"]
    assert job["completionMode"] == "Indexed"
    (script,) = [
        word for word in pod_of(steps(rendered["target"])["predict"])["containers"][0]["command"] if "$" in word
    ]
    assert f"/{job['completions']}" in script
    assert job["completions"] == job["parallelism"]


def test_no_pod_but_the_one_that_receives_may_reach_anything(rendered: dict[str, Any]) -> None:
    deny, allow = [item["spec"] for item in rendered["target"] if item["kind"] == "NetworkPolicy"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert allow["podSelector"] == {"matchLabels": {"app.kubernetes.io/component": "receive"}}
    assert [[port["port"] for port in rule["ports"]] for rule in allow["egress"]] == [[7443], [53, 53]]
    assert all(rule["to"] for rule in allow["egress"])


def test_the_source_is_reached_by_one_port_and_reaches_nothing(rendered: dict[str, Any]) -> None:
    deny, allow = [item["spec"] for item in rendered["source"] if item["kind"] == "NetworkPolicy"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert allow["policyTypes"] == ["Ingress"]
    assert [port["port"] for rule in allow["ingress"] for port in rule["ports"]] == [7443]


def test_a_pod_that_hears_recordings_first_shows_that_it_has_no_network(rendered: dict[str, Any]) -> None:
    for name, step in steps(rendered["target"]).items():
        pod = pod_of(step)
        volumes = {volume["name"] for volume in pod["volumes"]}
        assert ("recordings" in volumes) == (name in HEAR), name
        assert ["no-network"] * (name in HEAR) == [init["name"] for init in pod.get("initContainers", [])]


def test_the_check_of_the_network_fails_where_there_is_one(rendered: dict[str, Any]) -> None:
    """The first container's own words, against something that listens and something that does not."""
    (first,) = pod_of(steps(rendered["target"])["adapt"])["initContainers"]
    words = [sys.executable, *first["command"][1:], *first["args"]]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        place = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(listener.getsockname()[1])}
        assert subprocess.run(words, env=os.environ | place, check=False, timeout=60).returncode == 1
    assert subprocess.run(words, env=os.environ | place, check=False, timeout=60).returncode == 0


def test_a_persons_name_is_given_to_one_job(rendered: dict[str, Any]) -> None:
    """As deploy/README.md says: the job's text goes through `kubectl set env`."""
    template = steps(rendered["target"])["approve"]["jobTemplate"]
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "approve-1"}, "spec": template["spec"]}
    words = ["kubectl", "set", "env", "--local", "--filename=-", "ECAN_BY=Ada Byron", "--output=yaml"]
    done = subprocess.run(words, input=yaml.safe_dump(job), capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    (container,) = yaml.safe_load(done.stdout)["spec"]["template"]["spec"]["containers"]
    assert {"name": "ECAN_BY", "value": "Ada Byron"} in container["env"]


@pytest.mark.journey
@pytest.mark.timeout(500)
def test_the_steps_run_in_order_under_a_kubelets_rules(
    rendered: dict[str, Any], crossing: Crossing, folder: Path, tmp_path: Path
) -> None:
    source = Cluster(rendered["source"], "ecan-source", tmp_path / "source")
    target = Cluster(rendered["target"], "ecan-target", tmp_path / "target")
    for cluster in (source, target):
        cluster.secrets["passphrase"] = {"passphrase": b"correct horse battery staple\n"}
    shutil.copytree(crossing.run, source.volume("run"), dirs_exist_ok=True)
    shutil.copytree(crossing.target_labels.parent, target.volume("recordings"), dirs_exist_ok=True)
    (target.volume("recordings") / "labels.csv").unlink()

    fingerprint = source.run("keys", "--passphrase").split()[0]
    request = target.run("request").splitlines()[-1]
    source.replace_config("request", {"site.request": request})
    source.run("grant")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    target.change_config("target", ECAN_SOURCE=f"127.0.0.1:{port}", ECAN_TRUST=fingerprint)
    export = source.start("export", listen=f"127.0.0.1:{port}")
    target.run("receive", patience=True)
    said, _ = export.communicate(timeout=120)
    assert export.returncode == 0, said

    assert "model" in target.run("inspect")
    assert "--by" in target.refused("approve", 2)
    assert "approve" in target.refused("adapt", 11)
    target.run("approve", ECAN_BY="Ada Byron")
    target.run("adapt", accept=(0, 14))
    target.run("switch")
    target.run("expire")
    if any("--shard" in option.opts for option in predict.params):
        target.run("predict", JOB_COMPLETION_INDEX="0")
        assert list(target.volume("predictions").rglob("segments.csv"))
    else:
        assert "--shard" in target.refused("predict", 2, JOB_COMPLETION_INDEX="0")
    source.run("ledger")

    target.change_config("target", ECAN_RELEASE="2")
    target.fs_group_policy = "Always"  # what happens where the policy is left out
    assert "[KEY_EXPOSED]" in target.refused("request", 3)


def test_a_pod_without_the_policy_widens_keys_and_one_with_it_does_not(tmp_path: Path) -> None:
    from tests.support.kubelet import take_over

    volume, group = tmp_path / "keys", os.getegid()
    volume.mkdir(0o755)
    assert take_over(volume, group, on_root_mismatch=True)
    succeeded(cli.target("request", "--keys", volume, "--out", tmp_path / "site.request"))
    assert not take_over(volume, group, on_root_mismatch=True)
    succeeded(cli.target("request", "--keys", volume, "--out", tmp_path / "again.request"))
    assert take_over(volume, group, on_root_mismatch=False)
    assert "chmod 600" in cli.target("request", "--keys", volume, "--out", tmp_path / "third.request").refusal()
