"""What a manifest says of an audit is never less than what was measured, and a pass is one for the target as well."""

from dataclasses import replace

import pytest

from protocol.bundle.stated_audit import BARS, FIGURES, LEAST_NETWORKS, MEASURED, OVERRIDDEN, PASSED, AuditFields
from source_site.audit.report import FIGURES as STATED
from source_site.audit.report import PROCEDURE, RELEASED, Attack, state
from source_site.audit.tiers import ASKED
from source_site.training.run_folder import Promise
from tests.source_site.audit.test_tiers import measured, passing


def attack(name: str, target: str, auc: float, tpr1: float = 0.1) -> Attack:
    return Attack(name=name, target=target, measured=measured(auc, tpr1, 0.1))


def test_upper_ends_are_stated_and_rounded_up():
    report = replace(
        passing(2),
        num_models=127,
        attacks=(
            attack("LiRA", PROCEDURE, 0.8461, 0.25001),
            attack("LiRA", RELEASED, 0.55),
            attack("RMIA", PROCEDURE, 0.99),
            Attack(name="speaker level", target=PROCEDURE, measured=None, note="10 speakers, fewer than 20"),
        ),
        promise=Promise(epsilon=7.91, delta=1e-4, unit="utterance"),
    )
    assert state(report, 1, OVERRIDDEN) == AuditFields(
        tier=1,
        audit="overridden",
        networks=6,
        lira_auc=170,
        lira_tpr1=51,
        file_auc=110,
        spk_auc=0,
        epsilon=80,
        delta=4,
        unit="utterance",
    )


@pytest.mark.parametrize(("delta", "stated"), [(0.05, 1), (1e-3, 3), (9.9e-4, 3), (1e-5, 5), (1e-40, 15)])
def test_a_promise_is_not_stated_as_more_than_it_is(delta, stated):
    report = replace(passing(1), promise=Promise(epsilon=0.1, delta=delta, unit="speaker"))
    fields = state(report, 0, MEASURED)
    assert (fields.epsilon, fields.delta, fields.unit) == (1, stated, "speaker")
    assert fields.makes_sense


@pytest.mark.parametrize("tier", [1, 2])
def test_what_clears_a_tier_here_clears_it_at_the_target(tier):
    fields = state(passing(tier), tier, PASSED)
    assert fields.makes_sense
    assert fields.clears_its_tier
    assert fields.networks == LEAST_NETWORKS[tier]
    assert {name: getattr(fields, name) for name in FIGURES if name in BARS[tier]} == BARS[tier]


@pytest.mark.parametrize("tier", [1, 2])
def test_the_bars_of_a_target_are_those_of_the_source(tier):
    asked = {
        field: round(200 * getattr(ASKED[tier].bars[name, target], figure))
        for field, (name, target, figure) in STATED.items()
        if (name, target) in ASKED[tier].bars
    }
    assert asked == BARS[tier]


def test_no_figure_that_was_measured_is_stated_as_none():
    report = replace(passing(1), attacks=(attack("LiRA", PROCEDURE, 0.0, 0.0),))
    assert state(report, 0, MEASURED).lira_tpr1 == 1
