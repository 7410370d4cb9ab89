"""The example alerts fire on what `status` really says, and on nothing that is well."""

import operator
import re
import shutil
import time
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.support import cli
from tests.support.watched import watched_site

FILE = Path(__file__).resolve().parents[2] / "deploy" / "alerts.yaml"
RULES = {rule["alert"]: rule for group in yaml.safe_load(FILE.read_text())["groups"] for rule in group["rules"]}
COMPARISONS = {">=": operator.ge, "==": operator.eq, ">": operator.gt, "<": operator.lt}
COMPARISON = re.compile(r'(time\(\) - )?(\w+)(?:\{(\w+)="(\w+)"\})? (>=|==|>|<) ([\d.]+)')


class Comparison(NamedTuple):
    """One comparison of an expression; an expression is several of them with ``or`` between."""

    is_age: bool
    metric: str
    label: str | None
    wanted: str | None
    sign: str
    bound: float

    def holds(self, samples, now):
        values = [
            now - one.value if self.is_age else one.value
            for one in samples
            if one.name == self.metric and (self.label is None or one.labels.get(self.label) == self.wanted)
        ]
        return any(COMPARISONS[self.sign](value, self.bound) for value in values)


def comparisons(expression):
    found = [COMPARISON.fullmatch(part) for part in expression.split(" or ")]
    assert all(found), f"this test cannot evaluate {expression!r}"
    return [
        Comparison(bool(age), metric, *rest, float(bound)) for age, metric, *rest, bound in (m.groups() for m in found)
    ]


def firing(result, later_s=0):
    """The alerts that fire on what `status` has printed."""
    samples = [one for family in text_string_to_metric_families(result.stdout) for one in family.samples]
    now = time.time() + later_s
    return {name for name, rule in RULES.items() if any(one.holds(samples, now) for one in comparisons(rule["expr"]))}


@pytest.fixture
def site(tmp_path):
    return watched_site(tmp_path)


@pytest.fixture
def source(tmp_path):
    assert cli.source("keys", "init", "--out", tmp_path / "source").code == 0
    return tmp_path / "source"


def target_alerts(site, *words):
    return firing(site.status("--format", "prometheus", *words))


def source_status(keys):
    return cli.source("status", "--keys", keys, "--format", "prometheus")


def test_nothing_fires_where_all_is_well(site, source):
    assert target_alerts(site) == set()
    assert firing(source_status(source)) == set()


def test_every_alert_says_what_to_do_and_looks_at_what_status_writes(site, source):
    written = site.status("--format", "prometheus").stdout + source_status(source).stdout
    later = {"ecan_source_bundle_end_days"}  # only while a grant is open, see tests/source_site/release/test_status.py
    for rule in RULES.values():
        assert rule["labels"]["severity"] in ("page", "warning")
        assert len(rule["annotations"]["summary"]) > 30
        for one in comparisons(rule["expr"]):
            assert f"\n{one.metric}" in written or one.metric in later
            assert one.label is None or f'{one.label}="{one.wanted}"' in written


def test_nothing_predicted_fires(site):
    site.unpredicted()
    assert target_alerts(site) == {"EcanTargetNothingPredicted"}


def test_predictions_that_no_longer_come_fire(site):
    site.aged(200_000)
    assert target_alerts(site) == {"EcanTargetNothingPredicted"}


def test_recordings_that_are_not_there_at_all_fire(site):
    site.log(site.model).append("predict", state="failed", exit_code=17)
    assert target_alerts(site) == {"EcanTargetNothingPredicted", "EcanTargetCommandFailed"}


def test_everything_refused_fires(site):
    site.log(site.model).append("predict", state="failed", exit_code=13)
    assert target_alerts(site) == {"EcanTargetEverythingRefused", "EcanTargetCommandFailed"}


def test_recordings_of_which_nothing_was_used_fire(site):
    site.predicted(lost=20, utterances=0, abstained=0)
    fired = target_alerts(site)
    assert fired == {"EcanTargetEverythingRefused", "EcanTargetRecordingsLost", "EcanTargetNothingPredicted"}


def test_a_withdrawn_model_fires(site):
    site.withdraw()
    assert target_alerts(site) == {"EcanTargetModelWithdrawn"}


def test_containment_below_the_level_of_the_rules_fires(site, tmp_path):
    site.predicted(level=2)
    assert target_alerts(site) == set()
    rules = cli.site_rules(tmp_path / "site.yaml", rules="least_level: 3\n")
    assert target_alerts(site, "--config", rules) == {"EcanTargetContainmentBelowLevel"}


def test_a_disk_that_is_nearly_full_fires(site, source, monkeypatch):
    usage = shutil.disk_usage(site.model)._replace(free=1 << 30)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert target_alerts(site) == {"EcanTargetDiskLow"}
    assert firing(source_status(source)) == {"EcanSourceDiskLow"}


def test_a_text_file_that_nobody_writes_any_more_fires(site, source):
    assert firing(site.status("--format", "prometheus"), later_s=7300) == {"EcanTargetStatusStopped"}
    assert firing(source_status(source), later_s=7300) == {"EcanSourceStatusStopped"}


def test_a_ledger_that_is_gone_fires(source):
    shutil.rmtree(source / "ledger")
    assert firing(source_status(source)) == {"EcanSourceLedger"}
