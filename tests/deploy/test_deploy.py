import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from target_site.site_policy import AT_WORK, read_policy
from tests.deploy.commands import is_understood

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
BIN = Path(sys.executable).parent


def run(*words: object, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False, timeout=120, **options)


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
    units, steps = (DEPLOY / "systemd" / "system").glob("*.service"), (DEPLOY / "kubernetes" / "target").glob("*.yaml")
    starts = [line for unit in units for line in unit.read_text().splitlines() if line.startswith("ExecStart=")]
    composed = yaml.safe_load((DEPLOY / "containers" / "compose.yaml").read_text())["services"]
    starts += [" ".join(service["command"]) for service in composed.values()]
    starts += [" ".join(step.read_text().split()).replace("- ", "") for step in steps]
    bound = [start for start in starts if "--audio" in start or re.search(r"(^| )receive --", start)]
    assert len(bound) == 9
    assert all("--config" in start for start in bound)


def test_the_composition_follows_the_schema():
    done = run(
        *(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec"),
        DEPLOY / "containers" / "compose.yaml",
    )
    assert done.returncode == 0, done.stdout
