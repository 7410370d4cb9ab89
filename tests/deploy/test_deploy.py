import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from target_site.cli import cli
from target_site.site_policy import AT_WORK, read_policy

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
BIN = Path(sys.executable).parent
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
MOST_EXPOSED = {"ecan-target-adapt": 10, "ecan-target-predict": 10, "ecan-target-receive": 15, "ecan-source-export": 15}
"""Tenths of what `systemd-analyze security` counts: the bar for what reads recordings, and for what has a network."""

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")


def run(*words: object, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False, timeout=120, **options)


def is_understood(words: list[str]) -> bool:
    """Whether a command of ours has all these options."""
    name, *arguments = words
    command = cli.get_command(None, name)
    assert command is not None, f"there is no command {name}"
    with command.make_context(name, [], resilient_parsing=True) as context:
        command.make_parser(context).parse_args(arguments)
    return True


# Containers. ---------------------------------------------------------------------------------------------------------


def test_recordings_and_a_network_are_never_in_one_container():
    composed = yaml.safe_load((DEPLOY / "containers" / "compose.yaml").read_text())["services"]
    hears = {name for name, service in composed.items() if any("/data/audio" in place for place in service["volumes"])}
    cut_off = {name for name, service in composed.items() if service.get("network_mode") == "none"}
    assert hears == {"adapt", "predict"}
    assert cut_off == set(composed) - {"receive"}
    for service in composed.values():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert is_understood(service["command"])


@pytest.mark.parametrize("rules", sorted(DEPLOY.glob("site-*.yaml")), ids=lambda path: path.stem)
def test_the_rules_of_a_site_are_valid_and_leave_out_who_is_at_work(rules, tmp_path):
    written = Path(shutil.copy(rules, tmp_path / "site.yaml"))
    written.chmod(0o600)
    policy = read_policy(written)
    assert set(policy.channels) & set(AT_WORK)
    assert policy.approval == "required"


def test_whoever_receives_or_hears_recordings_follows_the_rules_of_the_site():
    starts = [line for unit in UNITS for line in unit.read_text().splitlines() if line.startswith("ExecStart=")]
    composed = yaml.safe_load((DEPLOY / "containers" / "compose.yaml").read_text())["services"]
    starts += [" ".join(service["command"]) for service in composed.values()]
    starts += [" ".join(pod["containers"][0]["args"]) for pod in pods(DEPLOY / "kubernetes").values()]
    bound = [start for start in starts if "--audio" in start or " receive " in f" {start} "]
    assert len(bound) == 9
    assert all("--config" in start for start in bound)


def test_the_composition_follows_the_schema():
    done = run(
        *(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec"),
        DEPLOY / "containers" / "compose.yaml",
    )
    assert done.returncode == 0, done.stdout


# systemd. ------------------------------------------------------------------------------------------------------------


@needs_systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_is_exposed_little(unit):
    done = run("systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSED[unit.stem]}", unit)
    assert done.returncode == 0, done.stdout


@needs_systemd
@pytest.mark.parametrize("unit", [*UNITS, DEPLOY / "systemd" / "ecan-target-predict.timer"], ids=lambda unit: unit.name)
def test_a_unit_holds_nothing_that_systemd_does_not_know(unit):
    said = [
        line
        for line in run("systemd-analyze", "verify", unit).stderr.splitlines()
        if unit.name in line and "is not executable" not in line and "SupportedMachine" not in line
    ]
    assert said == []


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_starts_a_command_of_ours(unit):
    (line,) = [line for line in unit.read_text().splitlines() if line.startswith("ExecStart=")]
    program, *words = shlex.split(line.removeprefix("ExecStart="))
    if Path(program).name == "ecan-target":
        assert is_understood(words)
    else:
        from source_site.cli import cli as source_cli

        assert words[0] in source_cli.lazy_commands


# Kubernetes. ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def cluster(tmp_path) -> Path:
    """The folder as an operator completes it."""
    folder = Path(shutil.copytree(DEPLOY / "kubernetes", tmp_path / "kubernetes"))
    (folder / "source.env").write_text("ECAN_SOURCE=192.0.2.7:7443\nECAN_TRUST=" + 64 * "0" + "\n")
    shutil.copy(DEPLOY / "site-hospital.yaml", folder / "site.yaml")
    return folder


def manifests(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob("*.yaml")) if path.name not in ("kustomization.yaml", "site.yaml")]


def objects(folder: Path) -> list[dict]:
    return [found for path in manifests(folder) for found in yaml.safe_load_all(path.read_text())]


def pods(folder: Path) -> dict[str, dict]:
    """What each component runs, by its label."""
    found = {}
    for item in objects(folder):
        job = item["spec"]["jobTemplate"] if item["kind"] == "CronJob" else item
        if job.get("spec", {}).get("template"):
            template = job["spec"]["template"]
            found[template["metadata"]["labels"]["app.kubernetes.io/component"]] = template["spec"]
    return found


def test_every_manifest_follows_the_schema(cluster):
    done = run(BIN / "kubernetes-validate", "--strict", *manifests(cluster))
    assert done.returncode == 0, done.stdout + done.stderr


@needs_kubectl
def test_the_manifests_fit_together(cluster):
    done = run("kubectl", "kustomize", cluster)
    assert done.returncode == 0, done.stderr
    built = [item for item in yaml.safe_load_all(done.stdout) if item["kind"] != "Namespace"]
    assert {item["metadata"]["namespace"] for item in built} == {"ecan-target"}


def test_no_pod_but_the_one_that_receives_may_reach_anything(cluster):
    policies = [item["spec"] for item in objects(cluster) if item["kind"] == "NetworkPolicy"]
    deny, allow = policies
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert allow["podSelector"] == {"matchLabels": {"app.kubernetes.io/component": "receive"}}
    assert [rule.keys() for rule in allow["egress"]] == [{"to", "ports"}]


def test_a_pod_that_hears_recordings_first_shows_that_it_has_no_network(cluster):
    found = pods(cluster)
    assert found.keys() == {"receive", "adapt", "predict"}
    for name, pod in found.items():
        (container,) = pod["containers"]
        hears = any(mount["name"] == "recordings" for mount in container["volumeMounts"])
        assert hears == (name in ("adapt", "predict"))
        assert ["no-network"] * hears == [init["name"] for init in pod.get("initContainers", [])]
        assert not pod["automountServiceAccountToken"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert is_understood(container["args"])


def test_the_check_of_the_network_fails_where_there_is_one(cluster):
    """The first container's own words, against something that listens and something that does not."""
    import socket

    (first,) = pods(cluster)["adapt"]["initContainers"]
    words = [sys.executable, *first["command"][1:], *first["args"]]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        place = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(listener.getsockname()[1])}
        assert run(*words, env=os.environ | place).returncode == 1
    assert run(*words, env=os.environ | place).returncode == 0
