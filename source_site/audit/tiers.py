"""Define tiers: what an audit must show before a model may leave.

The more sensitive the corpus, the higher the tier.

Bars hold for the upper ends of the 95 % intervals, so a corpus that is too small to prove safety does not pass. A
figure that cannot be measured fails. Only tier 0 asks for nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from protocol.errors import Code, RefusedError
from source_site.audit.report import AUDIT_FILE, PROCEDURE, RELEASED, Attack, AuditReport, load_report
from source_site.training.run_folder import StoredRun

TIERS = (0, 1, 2)
CHANCE = 0.01
"""What happens more rarely than this by chance is taken for a trace."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """Set the most that an attack may achieve; None asks for nothing.

    Attributes:
        auc: area under the ROC curve.
        tpr1: share of members found at 1 % false alarms.
        tpr01: the same at 0.1 %.
    """

    auc: float
    tpr1: float | None = None
    tpr01: float | None = None


@dataclass(frozen=True, kw_only=True)
class Tier:
    """Describe what a tier asks for.

    Attributes:
        name: whom it is for.
        bars: by attack and what it was tried on; each of them has to be there and measurable.
        num_models: networks that an audit has to train.
        share_of_speech: the most that the file may carry, relative to the corpus at 6 kbit/s.
        class_utterances: utterances that every class has to have.
        class_speakers: speakers that every class has to have.
        epsilon: the most that private models of the same speech may promise together.
    """

    name: str
    bars: MappingProxyType[tuple[str, str], Bar]
    num_models: int
    share_of_speech: float
    class_utterances: int
    class_speakers: int
    epsilon: float | None = None


_CONSENTED = Bar(auc=0.60, tpr1=0.05)
_SMOKE = ("loss threshold", PROCEDURE)
_CLINICAL = Bar(auc=0.55, tpr1=0.02, tpr01=0.005)

ASKED = {
    1: Tier(
        name="consented research",
        bars=MappingProxyType(
            {
                ("LiRA", PROCEDURE): _CONSENTED,
                ("confidence", PROCEDURE): _CONSENTED,
                ("RMIA", PROCEDURE): _CONSENTED,
                ("LiRA", RELEASED): Bar(auc=0.60),
            }
        ),
        num_models=32,
        share_of_speech=1.0,
        class_utterances=30,
        class_speakers=5,
    ),
    2: Tier(
        name="clinical and call-centre speech",
        bars=MappingProxyType(
            {
                ("LiRA", PROCEDURE): _CLINICAL,
                ("confidence", PROCEDURE): _CLINICAL,
                ("RMIA", PROCEDURE): _CLINICAL,
                ("LiRA", RELEASED): Bar(auc=0.55),
                ("quantile regression", PROCEDURE): Bar(auc=0.55),
                ("labels alone", PROCEDURE): Bar(auc=0.55),
                ("LiRA, atypical", PROCEDURE): Bar(auc=1.0, tpr1=0.05),
                ("speaker level", PROCEDURE): Bar(auc=0.60),
            }
        ),
        num_models=64,
        share_of_speech=0.25,
        class_utterances=30,
        class_speakers=5,
        epsilon=8.0,
    ),
}
"""What each tier above 0 asks for."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Describe one bar that a model does not clear.

    Attributes:
        code: the word for it.
        why: half a sentence.
    """

    code: Code
    why: str


def findings(report: AuditReport, tier: int) -> Iterator[Finding]:
    """Yield every bar of a tier that an audit does not clear.

    None at tier 0.
    """
    if tier == 0:
        return
    asked = ASKED[tier]
    if report.num_speakers < 2:
        yield Finding(code=Code.SINGLE_SPEAKER, why="the corpus has one known speaker at most")
    if report.class_utterances < asked.class_utterances or report.class_speakers < asked.class_speakers:
        yield Finding(
            code=Code.CLASS_SUPPORT,
            why=f"a class has {report.class_utterances} utterances or {report.class_speakers} speakers, below "
            f"{asked.class_utterances} and {asked.class_speakers}",
        )
    if report.num_models < asked.num_models:
        yield Finding(
            code=Code.NOT_MEASURABLE,
            why=f"the audit trained {report.num_models} networks, fewer than {asked.num_models}",
        )
    if report.capacity.share_of_speech > asked.share_of_speech:
        yield Finding(
            code=Code.CAPACITY,
            why=f"the file could hold {report.capacity.share_of_speech:.0%} of the corpus, more than "
            f"{asked.share_of_speech:.0%}",
        )
    attacks = {(one.name, one.target): one for one in report.attacks}
    for key, bar in asked.bars.items():
        yield from _over(attacks.get(key), key, bar)
    yield from _broken(report, tier)


def _broken(report: AuditReport, tier: int) -> Iterator[Finding]:
    """Yield what canaries and inversions have shown."""
    canaries, inverted, promised = report.canaries, report.reconstruction, report.promise
    if canaries and promised and promised.unit == "utterance" and canaries.epsilon_low > promised.epsilon:
        yield Finding(
            code=Code.DP_BROKEN,
            why=f"its canaries show an epsilon of {canaries.epsilon_low:.2f} at least, above the "
            f"{promised.epsilon:g} that it promises",
        )
    if tier < 2:
        return
    if canaries is None or canaries.exposure.low > canaries.chance:
        told = (
            "were not planted"
            if canaries is None
            else f"are exposed by {canaries.exposure.value:.2f} bits (at least {canaries.exposure.low:.2f}), "
            f"above chance, {canaries.chance:.2f}"
        )
        yield Finding(code=Code.NOT_MEASURABLE if canaries is None else Code.AUDIT_FAILED, why=f"canaries {told}")
    if inverted is None or inverted.probability <= CHANCE:
        told = "was not tried" if inverted is None else f"leads to members (p = {inverted.probability:.3f})"
        yield Finding(code=Code.NOT_MEASURABLE if inverted is None else Code.AUDIT_FAILED, why=f"inversion {told}")


def alarm(report: AuditReport) -> str:
    """Raise the smoke alarm, at every tier.

    It goes off if whoever has the file can find members without training a network.
    """
    tried = {(one.name, one.target): one for one in report.attacks}
    for finding in _over(tried.get(_SMOKE), _SMOKE, _CONSENTED):
        return finding.why
    return "silent, which shows nothing: the loss threshold misses what other attacks find"


def highest_tier(report: AuditReport) -> int:
    """Return the strictest tier whose bars a model clears."""
    return max(tier for tier in TIERS if not any(findings(report, tier)))


def cleared(tier: int) -> str:
    """Return what is said of a model whose strictest tier this is."""
    return f"clears the bars of tier {tier}" if tier else "clears no tier but tier 0, which asks for nothing"


def require_tier(report: AuditReport, tier: int) -> None:
    """Refuse a model that may not leave at a tier.

    Raises:
        RefusedError: it does not clear a bar; the first is named, and how many more there are.
    """
    found = list(findings(report, tier))
    if found:
        more = f", and {len(found) - 1} more" if len(found) > 1 else ""
        raise RefusedError(
            found[0].code,
            f"The model may not leave at tier {tier} ({ASKED[tier].name}): {found[0].why}{more}; train it with "
            "`--private`, with more speech, or grant it at a lower tier if the corpus allows that.",
        )


def audit_of(run_dir: Path, run: StoredRun) -> AuditReport:
    """Return the audit of a run.

    Raises:
        RefusedError: there is none, or it is about other weights.
    """
    if not (run_dir / AUDIT_FILE).is_file():
        raise RefusedError(
            Code.AUDIT, f"The model was not audited; run `ecan-source audit --model {run_dir}` before it is granted."
        )
    report = load_report(run_dir)
    if report.run_sha256 != run.digest.hex():
        raise _other_weights()
    return report


def require_weights(report: AuditReport, weights_sha256: bytes) -> None:
    """Refuse an audit that is about other weights than a bundle's.

    Raises:
        RefusedError: it is about others.
    """
    if report.weights_sha256 != weights_sha256.hex():
        raise _other_weights()


def _other_weights() -> RefusedError:
    return RefusedError(
        Code.AUDIT_BINDING, "The audit is about other weights than these; run `ecan-source audit` again."
    )


def _over(attack: Attack | None, key: tuple[str, str], bar: Bar) -> Iterator[Finding]:
    name, target = key
    if attack is None or attack.measured is None:
        why = "was not tried" if attack is None else f"cannot be measured ({attack.note})"
        yield Finding(code=Code.NOT_MEASURABLE, why=f"{name} on the {target} {why}")
        return
    found = attack.measured
    for figure, estimate, most in (
        ("an AUC", found.auc, bar.auc),
        ("a hit rate at 1 % false alarms", found.tpr1, bar.tpr1),
        ("a hit rate at 0.1 % false alarms", found.tpr01, bar.tpr01),
    ):
        if most is not None and estimate.high > most:
            yield Finding(
                code=Code.AUDIT_FAILED,
                why=f"{name} on the {target} reaches {figure} of {estimate.value:.3f} (up to {estimate.high:.3f}), "
                f"above {most:g}",
            )
            return
