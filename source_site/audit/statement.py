"""State in a manifest what an audit has found.

It states the upper ends of intervals, rounded up, and nothing else.
"""

import math
from typing import Any

from protocol.bundle.manifest import log2_bucket
from protocol.bundle.stated_audit import AuditFields
from source_site.audit.report import PROCEDURE, RELEASED, AuditReport

FIGURES = {
    "lira_auc": ("LiRA", PROCEDURE, "auc"),
    "lira_tpr1": ("LiRA", PROCEDURE, "tpr1"),
    "file_auc": ("LiRA", RELEASED, "auc"),
    "spk_auc": ("speaker level", PROCEDURE, "auc"),
}
"""Which figure of which attack each field of the manifest states."""
MOST_DELTA = 15
"""A probability below 10 to the minus this is stated as that."""


def state(report: AuditReport, tier: int, verdict: str) -> AuditFields:
    """Return the fields of a manifest for an audit.

    Args:
        report: what it has found.
        tier: the tier that the model leaves at.
        verdict: what came of it, one of `protocol.bundle.stated_audit.VERDICTS` but not that there was none.
    """
    attacks = {(one.name, one.target): one.measured for one in report.attacks}
    found: dict[str, Any] = {
        field: max(1, _rounded_up(200 * getattr(measured, figure).high))
        for field, (name, target, figure) in FIGURES.items()
        if (measured := attacks.get((name, target))) is not None
    }
    if report.promise is not None:
        found |= {
            "epsilon": _rounded_up(10 * report.promise.epsilon),
            "delta": min(MOST_DELTA, math.floor(round(-math.log10(report.promise.delta), 6))),
            "unit": report.promise.unit,
        }
    return AuditFields(tier=tier, audit=verdict, networks=log2_bucket(report.num_models), **found)


def _rounded_up(steps: float) -> int:
    """Round up to the next whole step.

    A value that is a whole step but for the last bits of a float stays that step.
    """
    return math.ceil(round(steps, 6))
