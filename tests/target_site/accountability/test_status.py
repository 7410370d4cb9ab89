"""What `ecan-target status` says of a site, seen through the command."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections import namedtuple
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from target_site.accountability.audit_log import HEAD, LOG
from target_site.accountability.status import REASONS
from target_site.model.folder import FACTS
from tests.house.test_structure import HEAVY
from tests.support import cli
from tests.support.watched import watched_site

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def site(tmp_path):
    return watched_site(tmp_path)


def measures(result, name):
    return {tuple(one["labels"].values()): one["value"] for one in result.json()["measures"] if one["name"] == name}


def test_a_site_that_is_well_is_healthy_and_says_what_an_operator_asks(site):
    result = site.status("--format", "json")
    assert (result.code, result.stderr) == (0, "")
    assert measures(result, "last_exit_code") == {("adapt",): 0, ("predict",): 0}
    assert measures(result, "last_success_timestamp_seconds")["predict",] == pytest.approx(time.time(), abs=60)
    assert 0 <= measures(result, "predictions_age_seconds")[()] < 60
    assert measures(result, "abstained_share") == {(): 0.1}
    assert measures(result, "forgotten") == {(): 3}
    assert measures(result, "containment_level") == {("predictions",): 3, ("model",): 3}
    assert measures(result, "log_lines") == {("model",): 4}
    assert list(measures(result, "log_head_info")) == [("model", (site.model / HEAD).read_text().split()[1])]
    assert measures(result, "keys_end_days")[()] > 3000
    assert measures(result, "disk_free_bytes").keys() == {("model",), ("predictions",), ("keys",)}


def test_prometheus_reads_it_and_finds_every_reason(site):
    told = {one.name: one for one in text_string_to_metric_families(site.status("--format", "prometheus").stdout)}
    assert {one.labels["reason"] for one in told["ecan_target_attention"].samples} == set(REASONS)
    assert all(one.type == "gauge" and one.documentation.endswith(".") for one in told.values())
    assert len(told) >= 20


def test_a_text_file_for_a_collector_is_whole_and_readable_by_its_user(site, tmp_path):
    out = tmp_path / "ecan.prom"
    out.write_text("old")
    before = os.umask(0o077)
    try:
        result = site.status("--format", "prometheus", "--out", out)
    finally:
        assert os.umask(before) == 0o077
    assert (result.code, result.stdout) == (0, "")
    assert out.stat().st_mode & 0o777 == 0o644
    assert out.read_text().endswith("\n")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_predictions_that_are_gone_old_or_empty_need_attention(site):
    site.aged(3 * 86_400)
    assert site.attention() == {"OLD"}
    assert site.attention("--within", 96) == set()
    assert site.status("--within", "nan").code == 2
    site.predicted(utterances=0, abstained=0)
    assert "NOTHING" in site.attention()
    site.unpredicted()
    assert site.attention() == {"NOTHING"}
    shutil.rmtree(site.predictions)
    assert site.attention() == {"NOTHING"}


def test_a_summary_that_is_damaged_is_told(site):
    site.damaged()
    assert "damaged" in site.status().stdout


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        ({"lost": 20, "utterances": 0, "abstained": 0}, "REFUSED"),
        ({"lost": 3}, "REFUSED"),
        ({"abstained": 95}, "UNCERTAIN"),
        ({"level": 1}, "CONTAINMENT"),
    ],
)
def test_what_is_wrong_with_the_predictions_is_told(site, run, reason):
    site.predicted(**run)
    assert reason in site.attention()


def test_the_rules_that_the_model_remembers_count(site, tmp_path):
    site.predicted(lost=3, level=2)
    rules = cli.site_rules(tmp_path / "site.yaml", rules="most_lost: 0.2\nleast_level: 3\n")
    assert site.attention("--config", rules) == {"CONTAINMENT"}


def test_a_command_that_failed_needs_attention_until_it_succeeds(site):
    log = site.log(site.model)
    log.append("predict", state="begun")
    assert site.attention() == set()
    log.append("predict", state="failed", exit_code=13)
    result = site.status("--format", "json")
    assert [one["reason"] for one in result.json()["attention"]] == ["FAILED"]
    assert measures(result, "last_exit_code")["predict",] == 13
    log.append("predict", state="done", utterances=1)
    assert site.attention() == set()


def test_a_log_that_was_changed_needs_attention_and_the_rest_is_still_told(site):
    path = site.model / LOG
    path.write_bytes(path.read_bytes().replace(b"improved", b"reverted"))
    result = site.status("--format", "json")
    assert [one["reason"] for one in result.json()["attention"]] == ["LOG"]
    assert measures(result, "abstained_share") == {(): 0.1}


def test_a_withdrawn_model_needs_attention_without_being_asked(site):
    assert measures(site.status("--format", "json"), "model_withdrawn") == {(): False}
    site.withdraw()
    assert site.attention() == {"WITHDRAWN"}
    assert measures(site.status("--format", "json"), "model_withdrawn") == {(): True}


def test_a_revocation_list_that_the_rules_call_too_old_needs_attention(site, tmp_path):
    rules = cli.site_rules(tmp_path / "site.yaml", rules="oldest_revocations_days: 60\n")
    site.withdraw()
    assert "STALE" not in site.attention("--config", rules)
    assert list(measures(site.status("--format", "json"), "revocations_age_days").values()) == [0]


def test_a_full_disk_needs_attention(site, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1 << 40, 1 << 40, 1 << 20))
    assert site.attention() == {"DISK"}
    assert "Only 1 MiB are free" in site.status().stdout


def test_an_encoder_that_the_model_needs_and_that_is_not_here_needs_attention(site, tmp_path):
    facts = json.loads((site.model / FACTS).read_text())
    facts["provenance"]["voices"] = "campplus"
    (site.model / FACTS).write_text(json.dumps(facts))
    assert site.attention("--encoders", tmp_path / "none") == {"ENCODER"}


def test_keys_that_end_soon_need_attention(site):
    from target_site.accountability.status import Site, status_of

    soon = datetime.now(UTC) + timedelta(days=3640)
    told = status_of(Site(named_keys=site.keys, now=soon))
    assert [one.reason for one in told.attentions] == ["KEYS"]


def test_keys_alone_are_a_site_too(site):
    result = cli.target("status", "--keys", site.keys)
    assert (result.code, result.stdout.splitlines()[0]) == (0, "healthy")


def test_a_model_that_is_gone_needs_attention(site):
    shutil.rmtree(site.model)
    result = site.status("--format", "json", "--keys", site.keys)
    assert [one["reason"] for one in result.json()["attention"]] == ["MODEL"]
    assert measures(result, "disk_free_bytes").keys() == {("predictions",), ("keys",)}


def test_a_site_without_anything_named_is_refused():
    result = cli.target("status")
    assert (result.code, "give --model" in result.refusal()) == (2, True)


def test_status_loads_nothing_heavy(site):
    code = (
        "import sys\n"
        "from target_site.cli import cli\n"
        f"cli.main({['status', *map(str, site.words)]!r}, standalone_mode=False)\n"
        f"print(sorted(set(sys.modules) & set({HEAVY!r})), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert done.stdout.startswith("healthy")
    assert Path(site.model).is_dir()
