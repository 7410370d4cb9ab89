"""What a tier asks for: each bar, just cleared and just missed; and the gate that asks."""

import shutil
from dataclasses import replace

import pytest

from ecan_core.errors import ModelError
from protocol.errors import Code, RefusedError
from source_site.audit.bounds import Estimate, Separation
from source_site.audit.page import format_html
from source_site.audit.report import (
    PROCEDURE,
    RELEASED,
    Attack,
    AuditReport,
    Canaries,
    Capacity,
    Exposed,
    Reconstruction,
    load_report,
    save_report,
)
from source_site.audit.tiers import ASKED, alarm, findings, highest_tier, require_tier
from source_site.training.run_folder import Promise
from tests.support import cli

INVERTED = Reconstruction(networks=8, count=96, near_members=0.5, probability=0.0101)
CANARIES = Canaries(
    count=64,
    networks=8,
    exposures=(1.0, 2.0),
    exposure=Estimate(value=1.5, low=1.33, high=1.7),
    chance=1.33,
    guesses=32,
    right=20,
    epsilon_low=0.5,
)


def measured(auc: float, tpr1: float, tpr01: float) -> Separation:
    """Figures whose upper ends are these."""
    return Separation(
        auc=Estimate(value=0.5, low=0.45, high=auc),
        tpr1=Estimate(value=0.01, low=0.0, high=tpr1),
        tpr01=Estimate(value=0.001, low=0.0, high=tpr01),
    )


def passing(tier: int) -> AuditReport:
    """A report that clears each bar by nothing."""
    asked = ASKED[tier]
    return AuditReport(
        weights_sha256="11" * 32,
        run_sha256="22" * 32,
        num_utterances=1000,
        num_speakers=40,
        class_utterances=asked.class_utterances,
        class_speakers=asked.class_speakers,
        num_models=asked.num_models,
        seed=0,
        accuracy_inside=0.8,
        accuracy_outside=0.8,
        capacity=Capacity(num_bytes=1000, share_of_speech=asked.share_of_speech),
        attacks=tuple(
            Attack(name=name, target=target, measured=measured(bar.auc, bar.tpr1 or 1.0, bar.tpr01 or 1.0))
            for (name, target), bar in asked.bars.items()
        ),
        canaries=CANARIES,
        reconstruction=INVERTED,
        promise=None,
        worst=(Exposed(pseudonym="0123456789", auc=0.9, odds=2.0),),
        seconds=1.0,
    )


@pytest.mark.parametrize("tier", [1, 2])
def test_a_report_that_just_clears_every_bar_passes(tier):
    assert list(findings(passing(tier), tier)) == []
    assert highest_tier(passing(tier)) == tier
    require_tier(passing(tier), tier)


@pytest.mark.parametrize("tier", [1, 2])
@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"num_speakers": 1}, Code.SINGLE_SPEAKER),
        ({"class_utterances": 29}, Code.CLASS_SUPPORT),
        ({"class_speakers": 4}, Code.CLASS_SUPPORT),
        ({"num_models": 30}, Code.NOT_MEASURABLE),
        ({"capacity": Capacity(num_bytes=9, share_of_speech=1.01)}, Code.CAPACITY),
        ({"attacks": ()}, Code.NOT_MEASURABLE),
    ],
)
def test_each_demand_that_is_missed_is_found_by_its_word(tier, change, code):
    found = list(findings(replace(passing(tier), **change), tier))
    assert {one.code for one in found} == {code}
    with pytest.raises(RefusedError) as refusal:
        require_tier(replace(passing(tier), **change), tier)
    assert (refusal.value.code, refusal.value.exit_code) == (code, 11)


@pytest.mark.parametrize("tier", [1, 2])
def test_every_bar_that_is_missed_by_a_little_names_its_attack(tier):
    report = passing(tier)
    for place, attack in enumerate(report.attacks):
        bar = ASKED[tier].bars[attack.name, attack.target]
        for figure in ("auc", "tpr1", "tpr01"):
            if getattr(bar, figure) is None:
                continue
            high = replace(getattr(attack.measured, figure), high=getattr(bar, figure) + 0.0001)
            worse = replace(attack, measured=replace(attack.measured, **{figure: high}))
            attacks = (*report.attacks[:place], worse, *report.attacks[place + 1 :])
            (found,) = findings(replace(report, attacks=attacks), tier)
            assert found.code is Code.AUDIT_FAILED
            assert f"{attack.name} on the {attack.target}" in found.why


def test_the_alarm_rings_above_the_bars_of_tier_1_and_is_said_first():
    quiet, loud, rare = (
        replace(passing(2), attacks=(Attack(name="loss threshold", target=PROCEDURE, measured=measured(*figures)),))
        for figures in ((0.6, 0.05, 1.0), (0.601, 0.05, 1.0), (0.6, 0.051, 1.0))
    )
    assert alarm(quiet).startswith("silent, which shows nothing")
    assert alarm(loud).startswith("loss threshold on the procedure reaches an AUC of 0.500 (up to 0.601), above 0.6")
    assert "hit rate at 1 % false alarms" in alarm(rare)
    assert alarm(passing(2)).endswith("was not tried")
    assert format_html(loud).index(alarm(loud)) < format_html(loud).index("weights, SHA-256")


@pytest.mark.parametrize("tier", [1, 2])
def test_what_cannot_be_measured_fails_and_says_why(tier):
    report = passing(tier)
    lost = replace(report.attacks[0], measured=None, note="fewer than 20 speakers")
    (found,) = findings(replace(report, attacks=(lost, *report.attacks[1:])), tier)
    assert found.code is Code.NOT_MEASURABLE
    assert "fewer than 20 speakers" in found.why


@pytest.mark.parametrize("tier", [1, 2])
def test_canaries_that_show_more_than_was_promised_break_the_promise(tier):
    kept = replace(passing(tier), promise=Promise(epsilon=0.5, delta=1e-4, unit="utterance"))
    assert not list(findings(kept, tier))
    broken = replace(kept, promise=Promise(epsilon=0.49, delta=1e-4, unit="utterance"))
    (found,) = findings(broken, tier)
    assert found.code is Code.DP_BROKEN
    of_speakers = replace(kept, promise=Promise(epsilon=0.1, delta=1e-4, unit="speaker"))
    assert not list(findings(of_speakers, tier))  # coins are tossed for utterances and say nothing of speakers


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"canaries": None}, Code.NOT_MEASURABLE),
        ({"canaries": replace(CANARIES, chance=1.32)}, Code.AUDIT_FAILED),
        ({"reconstruction": None}, Code.NOT_MEASURABLE),
        (
            {"reconstruction": Reconstruction(networks=8, count=96, near_members=0.9, probability=0.01)},
            Code.AUDIT_FAILED,
        ),
    ],
)
def test_tier_2_looks_at_canaries_and_inversions(change, code):
    (found,) = findings(replace(passing(2), **change), 2)
    assert found.code is code
    assert not list(findings(replace(passing(1), **change), 1))


def test_tier_0_asks_for_nothing():
    report = replace(passing(2), attacks=(), num_speakers=0, class_speakers=0)
    assert list(findings(report, 0)) == []
    assert highest_tier(report) == 0


def test_a_report_comes_back_as_it_was_written(tmp_path):
    lost = Attack(name="speaker level", target=PROCEDURE, measured=None, note="fewer than 20 speakers")
    report = replace(passing(1), attacks=(*passing(1).attacks, lost))
    save_report(tmp_path, report)
    assert load_report(tmp_path) == report


def test_a_damaged_report_is_refused(tmp_path):
    (tmp_path / "audit.json").write_text('{"weights_sha256": 3}')
    with pytest.raises(ModelError, match="damaged"):
        load_report(tmp_path)


@pytest.fixture
def desk(crossing, tmp_path):
    """A run without an audit, and a fresh request for it."""
    shutil.copytree(crossing.run, tmp_path / "run")
    request = tmp_path / "site.request"
    assert cli.target("request", "--keys", crossing.target_keys, "--out", request).code == 0
    keys = tmp_path / "keys"
    assert cli.source("keys", "init", "--out", keys).code == 0
    return lambda *words: cli.source(
        "grant", "--model", tmp_path / "run", "--keys", keys, "--request", request, *words
    ), tmp_path / "run"


def with_audit(run, **changes) -> None:
    from source_site.training.run_folder import load_run

    report = replace(passing(1), run_sha256=load_run(run).digest.hex(), **changes)
    save_report(run, report)


@pytest.mark.journey
def test_nothing_is_granted_at_a_tier_without_an_audit(desk):
    grant, _ = desk
    result = grant("--tier", 1)
    assert result.code == 11
    assert "was not audited; run `ecan-source audit" in result.refusal()
    assert result.refusal().endswith("[AUDIT]")


@pytest.mark.journey
def test_an_audit_of_another_run_is_refused(desk):
    grant, run = desk
    save_report(run, passing(1))
    assert grant("--tier", 1).refusal().endswith("[AUDIT_BINDING]")


@pytest.mark.journey
def test_an_audit_of_other_quantized_weights_is_refused(desk):
    grant, run = desk
    with_audit(run)
    assert grant("--tier", 1).refusal().endswith("[AUDIT_BINDING]")


@pytest.mark.journey
def test_a_model_that_fails_is_refused_with_the_attack_that_caught_it_and_nothing_is_granted(desk, crossing):
    grant, run = desk
    failed = Attack(name="LiRA", target=PROCEDURE, measured=measured(0.9, 0.4, 0.2))
    with_audit(run, attacks=(failed, *passing(1).attacks[1:]))
    result = grant("--tier", 1)
    assert result.code == 11
    assert "LiRA on the procedure reaches an AUC of 0.500 (up to 0.900), above 0.6" in result.refusal()
    assert grant("--tier", 0).refusal().endswith("[AUDIT_BINDING]")  # of other weights, once they are quantized


@pytest.mark.journey
def test_a_model_whose_audit_passes_is_granted_at_its_tier_and_not_above(desk, crossing):
    import hashlib

    from protocol.bundle import frame

    grant, run = desk
    held = hashlib.sha256(frame.split(crossing.bundle.read_bytes()).weights).hexdigest()
    with_audit(run, weights_sha256=held)
    assert grant("--tier", 2).code == 11
    granted = grant("--tier", 1)
    assert granted.code == 0
    assert "models of this speech that have left or are to leave now: 1 of 3" in granted.stderr
    assert RELEASED in {one.target for one in load_report(run).attacks}
