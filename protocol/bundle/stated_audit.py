"""Define what a manifest states about the audit of a model.

The tier at which the model left, the outcome, and what was measured.

Figures are the upper ends of 95 % intervals, rounded up, so that a source can state more than it has measured and
never less; 0 stands for what was not measured. The audit itself stays at the source.
"""

from dataclasses import dataclass

from protocol import canonical

TIERS = (0, 1, 2)
VERDICTS = NONE, MEASURED, PASSED, OVERRIDDEN = ("none", "measured", "passed", "overridden")
"""There is no audit; there is one and nothing was asked of it; it clears the tier; it does not, and an officer of the
source has overridden that with a key of their own."""
UNPROTECTED = "none"
UNITS = (UNPROTECTED, "utterance", "speaker")
FIGURES = ("lira_auc", "lira_tpr1", "file_auc", "spk_auc")

SCHEMA: canonical.Schema = {
    "tier": canonical.OneOf(TIERS),
    "audit": canonical.OneOf(VERDICTS),
    "networks": canonical.Int(0, 12),
    **dict.fromkeys(FIGURES, canonical.Int(0, 200)),
    "epsilon": canonical.Int(0, 1000),
    "delta": canonical.Int(0, 15),
    "unit": canonical.OneOf(UNITS),
}
"""The fields of a manifest that are about the audit."""

BARS = {
    1: {"lira_auc": 120, "lira_tpr1": 10, "file_auc": 120},
    2: {"lira_auc": 110, "lira_tpr1": 4, "file_auc": 110, "spk_auc": 120},
}
"""The most that a model which passed may state, by tier; a source asks for more: `source_site.audit.tiers`."""
LEAST_NETWORKS = {1: 5, 2: 6}
"""The fewest networks that an audit must have trained, as a power of two, by tier."""


@dataclass(frozen=True, kw_only=True)
class AuditFields:
    """Hold what is stated; by default, that there was no audit.

    Attributes:
        tier: how sensitive the source considers its speech, one of `TIERS`.
        audit: one of `VERDICTS`.
        networks: networks that were trained for the audit, as a power of two, rounded down.
        lira_auc: area under the curve of LiRA on networks that were trained alike, in half percents.
        lira_tpr1: share of members that it finds at 1 % false alarms, in half percents.
        file_auc: area under the curve of LiRA on the very weights, in half percents.
        spk_auc: area of the attack that asks whether a person was in the training, in half percents.
        epsilon: what a private training promises, in tenths, rounded up.
        delta: the promise may fail with a probability of 10 to the minus this.
        unit: what the promise protects, one of `UNITS`.
    """

    tier: int = 0
    audit: str = NONE
    networks: int = 0
    lira_auc: int = 0
    lira_tpr1: int = 0
    file_auc: int = 0
    spk_auc: int = 0
    epsilon: int = 0
    delta: int = 0
    unit: str = UNPROTECTED

    @property
    def makes_sense(self) -> bool:
        """Whether no field contradicts another.

        A verdict belongs to a tier above 0; an audit has trained networks; figures and promises need an audit; and a
        promise has an epsilon, a delta and a unit.
        """
        found = any(getattr(self, name) for name in (*FIGURES, "epsilon"))
        return (
            (self.audit in (PASSED, OVERRIDDEN)) == (self.tier > 0)
            and (self.audit == NONE) == (self.networks == 0)
            and not (self.audit == NONE and found)
            and (self.unit == UNPROTECTED) == (self.epsilon == 0) == (self.delta == 0)
        )

    @property
    def clears_its_tier(self) -> bool:
        """Whether the figures are there and within the bars.

        Nothing is asked at tier 0.
        """
        bars, least_networks = BARS.get(self.tier, {}), LEAST_NETWORKS.get(self.tier, 0)
        return self.networks >= least_networks and all(0 < getattr(self, name) <= bars[name] for name in bars)
