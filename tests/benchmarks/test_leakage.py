"""Tables of the leakage benchmark: nothing about single utterances; a tier is reached or said to be out of reach."""

from dataclasses import replace

from benchmarks.leakage import by_attack, by_chance, by_tier, by_training, timing, without_details
from source_site.audit.report import PROCEDURE, Attack, AuditReport
from source_site.audit.tiers import findings, highest_tier
from tests.source_site.audit.test_tiers import measured, passing

NAMES = ("loss threshold", "LiRA", "RMIA", "quantile regression", "labels alone", "LiRA, atypical")


def report(*, leaky: bool) -> AuditReport:
    good = passing(2)
    named = {(one.name, one.target) for one in good.attacks}
    extra = [
        Attack(name=name, target=PROCEDURE, measured=measured(0.5, 0.01, 0.001))
        for name in NAMES
        if (name, PROCEDURE) not in named
    ]
    attacks = (*good.attacks, *extra)
    if leaky:
        attacks = tuple(replace(one, measured=measured(0.9, 0.5, 0.2)) for one in attacks)
    return replace(good, attacks=attacks)


def line(corpus: str, training: str, uar: float, *, leaky: bool):
    told = report(leaky=leaky)
    refusals = {str(tier): [f"{one.code}: {one.why}" for one in findings(told, tier)] for tier in (1, 2)}
    return {
        "corpus": corpus,
        "training": training,
        "uar": uar,
        "tier": highest_tier(told),
        "refusals": refusals,
        "seconds": 61.0,
        "report": without_details(told),
    }


LATEST = {
    ("emodb", "as usual"): line("emodb", "as usual", 0.88, leaky=True),
    ("emodb", "epsilon 8"): line("emodb", "epsilon 8", 0.8, leaky=False),
    ("nemo", "as usual"): line("nemo", "as usual", 0.65, leaky=True),
}


def test_a_row_holds_nothing_about_single_utterances():
    told = LATEST["emodb", "as usual"]["report"]
    assert "worst" not in told
    assert "exposures" not in told["canaries"]
    assert all("roc" not in one for one in told["attacks"])


def test_a_training_costs_what_it_loses_against_the_usual_one():
    rows = by_training("emodb", LATEST).splitlines()
    assert rows[2].startswith("| as usual | 88.0 | +0.0 |")
    assert rows[3].startswith("| epsilon 8 | 80.0 | +8.0 |")
    assert rows[3].endswith("| 2 |")
    assert len(by_attack(LATEST, ["emodb", "nemo"]).splitlines()) == 5


def test_a_tier_is_reached_by_the_best_that_clears_it_or_out_of_reach_with_the_reason():
    reached, _, out, _ = by_tier(LATEST, ["emodb", "nemo"]).splitlines()[2:]
    assert reached == "| EmoDB | 1 | reached with epsilon 8 | 80.0 |"
    assert out.startswith("| nEMO | 1 | out of reach; with as usual: LiRA on the procedure reaches an AUC")


def test_chance_is_told_for_every_attack_with_how_many_intervals_hold_it():
    claims = [{"value": value, "low": value - 0.01, "high": value + 0.01} for value in (0.48, 0.5, 0.505, 0.495)]
    table = by_chance({"emodb": {"areas": dict.fromkeys(NAMES, claims)}}, ["emodb", "nemo"])
    # Four claims, six figures: the mean is 0.495 and Student's half at 0.05 / 6 is 6.23 * 0.0108 / 2.
    assert all(f"| {name} | 0.4950 ± 0.0337 (3) |" in table for name in NAMES)
    assert "All in all 18 of 24 do, where 23 are expected." in table
    assert "| EmoDB | 61 s | 61 s |" in timing(LATEST, ["emodb"])
