"""Read what a site may do with which voices, and how it adapts.

The rules come from ``--config site.yaml``.

Emotion recognition of people at work or in education is prohibited in the European Union (AI Act, Article 5(1)(f)). A
site says whom it records and what for; what is prohibited is refused, and whoever speaks at work on a channel is left
out before a feature is computed. No setting allows it.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ecan_core.adaptation.settings import AdaptSettings
from ecan_core.data.calls import Parties
from ecan_core.errors import SettingsError
from ecan_core.model.abstention import Abstention
from ecan_core.settings.checks import at_least, fraction, positive
from ecan_core.settings.parse import parse_settings, read_yaml
from protocol.bundle.stated_audit import TIERS
from protocol.bundle.trust import AuditTerms
from protocol.containment.walls import DEFAULT_LEAST, Level
from protocol.errors import Code, RefusedError
from protocol.identity.signing import SUITES

MOST_LOST = 0.1
"""The share of recordings that may be lost, where a site sets none."""


PURPOSES = ("care", "research", "service")
PROHIBITED_PURPOSES = ("workplace", "staff-monitoring", "recruitment", "training-of-staff", "education", "examination")
SUBJECTS = ("patient", "caller", "customer", "volunteer")
AT_WORK = ("agent", "clinician", "staff", "employee", "applicant", "teacher", "pupil", "student")
"""Who may not be listened to: people at work or in education."""
MAX_REASON = 200


@dataclass(frozen=True, kw_only=True)
class Together:
    """Describe what a site gives to a model that several sites adapt.

    Attributes:
        rounds: How many updates of one released model may leave the site, in all.
        longest: Euclidean length that each of them is cut to.
        secure: Whether it takes part in secure aggregation alone.
    """

    rounds: int
    longest: float = 2.0
    secure: bool = True

    def __post_init__(self) -> None:
        positive(self, "rounds", "longest")


@dataclass(frozen=True, kw_only=True)
class SitePolicy:
    """Hold a site's own rules.

    Attributes:
        purpose: What the recordings are listened to for, one of `PURPOSES`.
        subjects: Whose voices are looked at, one of `SUBJECTS`.
        channels: Who speaks on which channel of every recording, in order; empty where channels mean nothing.
        mixed_because: Why recordings that mix all of them in one channel may be used, or, without `channels`, why every
            channel may be listened to; None refuses them.
        approval: Whether a bundle needs somebody's name before it is adapted.
        least_level: The lowest level of containment at which recordings are read.
        least_tier: The lowest tier that a model may have left its source at; docs/leakage.md.
        accept_overridden: Whether a model is taken whose audit failed, if its source has overridden that.
        signature_suites: The suites that a source may sign a new model in; `hybrid-1` alone asks for two algorithms.
        oldest_revocations_days: How old the newest revocation list of a source may be for its models to be received and
            used; None for any age.
        retention_days: How long features and predictions are kept, `ecan-target expire`; None sets no limit.
        least_confidence: The model abstains where it is less sure; None decides by the number of classes.
        least_confidence_of: The same for single classes.
        most_lost: The share of recordings that may be lost before `adapt` and `predict` end with exit 18.
        adaptation: How to adapt.
        together: What may leave for a model that several sites adapt together; None lets nothing leave.
    """

    purpose: str
    subjects: str
    channels: tuple[str, ...] = ()
    mixed_because: str | None = None
    approval: Literal["required", "not-needed"] = "required"
    least_level: int = int(DEFAULT_LEAST)
    least_tier: int = 0
    accept_overridden: bool = False
    signature_suites: tuple[str, ...] = SUITES
    oldest_revocations_days: int | None = None
    retention_days: int | None = None
    least_confidence: float | None = None
    least_confidence_of: dict[str, float] = field(default_factory=dict)
    most_lost: float = MOST_LOST
    adaptation: AdaptSettings = field(default_factory=AdaptSettings)
    together: Together | None = None

    def __post_init__(self) -> None:
        if self.least_level not in list(Level):
            raise SettingsError(f"least_level is {self.least_level}, but must be 0, 1, 2 or 3")
        if self.least_tier not in TIERS:
            raise SettingsError(f"least_tier is {self.least_tier}, but must be 0, 1 or 2")
        if not self.signature_suites or not set(self.signature_suites) <= set(SUITES):
            raise SettingsError(f"signature_suites must name {' or '.join(SUITES)}, or both.")
        for days in ("oldest_revocations_days", "retention_days"):
            if getattr(self, days) is not None:
                at_least(self, days, 1)
        _ = self.abstention  # checks its own ranges
        fraction(self, "most_lost")
        fraction(self.adaptation, "learning_rate")
        for role in self.channels:
            if role not in (*SUBJECTS, *AT_WORK):
                raise SettingsError(f"channels must name {', '.join((*SUBJECTS, *AT_WORK))}, not {role!r}.")
        if self.mixed_because is not None and not 0 < len(self.mixed_because.strip()) <= MAX_REASON:
            raise SettingsError(f"mixed_because must give a reason of at most {MAX_REASON} characters.")
        if self.mixed_because is not None and len(self.channels) == 1:
            raise SettingsError("mixed_because has no effect with one channel; leave it out.")

    @property
    def parties(self) -> Parties | None:
        """Return who speaks where, and who is left out.

        None where nobody said.
        """
        if not self.channels and self.mixed_because is None:
            return None
        return Parties(roles=self.channels, discarded=AT_WORK, mixed_because=self.mixed_because)

    @property
    def abstention(self) -> Abstention:
        """Return below which confidence a model abstains."""
        return Abstention(least_confidence=self.least_confidence, least_confidence_of=self.least_confidence_of)

    @property
    def audit(self) -> AuditTerms:
        """Return what is asked of the audit that a source states."""
        return AuditTerms(least_tier=self.least_tier, accept_overridden=self.accept_overridden)


def read_policy(path: Path) -> SitePolicy:
    """Read a site's rules.

    Raises:
        UsageError: there is no such file.
        SettingsError: a setting is unknown, missing or out of range.
        RefusedError: the purpose or the subjects are prohibited or unknown, or others may change the file.
    """
    if path.exists() and path.stat().st_mode & 0o022:
        raise RefusedError(
            Code.POLICY, f"{path} can be changed by other users, and so could what is allowed; run `chmod go-w {path}`."
        )
    policy = parse_settings(SitePolicy, read_yaml(path), str(path))
    refuse_prohibited(policy.purpose, policy.subjects)
    refuse_unknown(policy.purpose, policy.subjects)
    return policy


def refuse_prohibited(purpose: str, subjects: str | None = None) -> None:
    """Refuse what Article 5(1)(f) of the AI Act prohibits.

    Raises:
        RefusedError: the purpose or the subjects are of that kind.
    """
    for said in (purpose, subjects):
        if said in (*PROHIBITED_PURPOSES, *AT_WORK):
            raise RefusedError(
                Code.POLICY,
                f"Emotion recognition for {said!r} is prohibited (EU AI Act, Article 5(1)(f): people at work and in "
                "education); use it for care, research or service to callers, and leave such voices out.",
            )


def refuse_unknown(purpose: str, subjects: str | None = None) -> None:
    """Refuse a purpose or subjects that this version does not know.

    Nobody has looked at them.

    Raises:
        RefusedError: one of them is unknown.
    """
    for what, said, known in (("purpose", purpose, PURPOSES), ("kind of subjects", subjects, SUBJECTS)):
        if said not in (None, *known):
            raise RefusedError(
                Code.POLICY, f"{said!r} is no {what} that this version knows; name one of {', '.join(known)}."
            )
