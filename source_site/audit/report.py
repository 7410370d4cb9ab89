"""Hold what an audit has found: ``audit.json`` beside the run.

It stays at the source and is about one file, by its hash.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ecan_core.errors import ModelError, SettingsError, UsageError
from ecan_core.settings.parse import parse_settings
from protocol.bundle.manifest import log2_bucket
from protocol.bundle.stated_audit import AuditFields
from protocol.files import read_bounded, write_atomic
from source_site.audit.bounds import Estimate, Separation
from source_site.training.run_folder import Promise

MOST_DELTA = 15
"""A probability below 10 to the minus this is stated as that."""

AUDIT_FILE, PAGE_FILE = "audit.json", "audit.html"
MAX_AUDIT_BYTES = 16 * 1024 * 1024

PROCEDURE, RELEASED = "procedure", "released file"
"""What an attack was tried on: on networks trained alike, whose members are known; or on the very file."""


@dataclass(frozen=True, kw_only=True)
class Attack:
    """Describe one attack and what it achieved.

    Attributes:
        name: the attack.
        target: `PROCEDURE` or `RELEASED`.
        measured: how well it separates members from others; None if that cannot be measured.
        note: why it cannot, or another remark, as half a sentence.
        roc: false and true alarms as shares, some points of the curve.
    """

    name: str
    target: str
    measured: Separation | None
    note: str = ""
    roc: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """Describe what the file could carry at most, whoever trained it.

    Attributes:
        num_bytes: in bytes.
        share_of_speech: relative to the corpus as telephone speech at 6 kbit/s.
    """

    num_bytes: int
    share_of_speech: float


@dataclass(frozen=True, kw_only=True)
class Canaries:
    """Describe what canaries have shown.

    Attributes:
        count: canaries of each network.
        networks: networks with other coins each.
        exposures: of each canary that was in, in bits: how far up it stands among those that were not.
        exposure: their mean.
        chance: what the mean is where one cannot tell.
        guesses: coins of the first network that were guessed; for the others the attacker passes.
        right: how many of the guesses were right.
        epsilon_low: the promise cannot be smaller, at 95 % confidence.
    """

    count: int
    networks: int
    exposures: tuple[float, ...]
    exposure: Estimate
    chance: float
    guesses: int
    right: int
    epsilon_low: float


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """Describe what reconstructions have shown.

    Attributes:
        networks: networks that were inverted.
        count: reconstructions of all of them.
        near_members: share of them whose nearest utterance was in their network's training.
        probability: of such a share or a larger one if the training left no trace in them.
    """

    networks: int
    count: int
    near_members: float
    probability: float


@dataclass(frozen=True, kw_only=True)
class Exposed:
    """Describe an utterance that is easy to find.

    Attributes:
        pseudonym: the beginning of its digest in ``training.json``.
        auc: how well LiRA tells models that were trained on it from others.
        odds: how much surer of it those models are, in log odds.
    """

    pseudonym: str
    auc: float
    odds: float


@dataclass(frozen=True, kw_only=True)
class AuditReport:
    """Hold what an audit has found.

    Attributes:
        weights_sha256: SHA-256 of the weights as the bundle holds them, in hexadecimal.
        run_sha256: SHA-256 of the run's weights file, in hexadecimal.
        num_utterances: N.
        num_speakers: speakers among them.
        class_utterances: utterances of the class that has fewest.
        class_speakers: known speakers of the class that has fewest.
        num_models: K, networks that were trained for the audit.
        seed: seed of the audit.
        accuracy_inside: share of utterances that such networks recognize of those that they were trained on.
        accuracy_outside: of the others.
        capacity: what the file could carry.
        attacks: every attack.
        canaries: what wrong labels have shown.
        reconstruction: what inverted networks have shown; None where inputs are sequences.
        promise: what a private training promises.
        worst: the utterances that are easiest to find.
        seconds: how long the audit took.
    """

    weights_sha256: str
    run_sha256: str
    num_utterances: int
    num_speakers: int
    class_utterances: int
    class_speakers: int
    num_models: int
    seed: int
    accuracy_inside: float
    accuracy_outside: float
    capacity: Capacity
    attacks: tuple[Attack, ...]
    canaries: Canaries | None
    reconstruction: Reconstruction | None
    promise: Promise | None
    worst: tuple[Exposed, ...]
    seconds: float


def save_report(folder: Path, report: AuditReport) -> Path:
    """Write a report into the folder of its run.

    Raises:
        FileError: the folder cannot be written.
    """
    path = folder / AUDIT_FILE
    write_atomic(path, json.dumps(asdict(report), indent=2).encode())
    return path


def load_report(folder: Path) -> AuditReport:
    """Read the report of a run.

    Raises:
        UsageError: there is none.
        ModelError: it is damaged or of another version.
    """
    path = folder / AUDIT_FILE
    if not path.is_file():
        raise UsageError(f"{folder} holds no audit; run `ecan-source audit --model {folder}` first.")
    try:
        return parse_settings(AuditReport, json.loads(read_bounded(path, MAX_AUDIT_BYTES)), AUDIT_FILE)
    except (ValueError, RecursionError, SettingsError) as fault:
        raise ModelError(f"The audit in {folder} is damaged ({fault}); run `ecan-source audit` again.") from fault


def lines(report: AuditReport) -> Iterator[str]:
    """Yield the report in lines for a person on a terminal."""
    yield f"weights    {report.weights_sha256}"
    yield f"corpus     {report.num_utterances} utterances of {report.num_speakers} speakers"
    yield f"networks   {report.num_models}, each on a random half"
    yield f"recognized {report.accuracy_inside:.1%} of their own utterances, {report.accuracy_outside:.1%} of others"
    share = report.capacity.share_of_speech
    yield f"capacity   at most {report.capacity.num_bytes} bytes, {share:.1%} of the corpus at 6 kbit/s"
    row = "{:<19}  {:<13}  {:<20}  {:<22}  {}".format
    yield row("attack", "on", "AUC", "hits at 1 % false", "hits at 0.1 % false")
    for one in report.attacks:
        found = one.measured
        cells = (
            ("not measurable", one.note, "")
            if found is None
            else (_cell(found.auc, ".3f"), _cell(found.tpr1, ".1%"), _cell(found.tpr01, ".2%"))
        )
        yield row(one.name, one.target, *cells).rstrip()
    if report.canaries is not None:
        told = report.canaries
        yield (
            f"canaries   {told.exposure.value:.2f} bits exposed ({told.exposure.low:.2f}-{told.exposure.high:.2f}), "
            f"chance is {told.chance:.2f}; {told.right} of {told.guesses} coins guessed: epsilon at least "
            f"{told.epsilon_low:.2f}"
        )
    if report.reconstruction is not None:
        inverted = report.reconstruction
        yield (
            f"inversion  {inverted.near_members:.1%} of {inverted.count} reconstructions lie next to a member, "
            f"p = {inverted.probability:.3f}"
        )
    if report.promise is not None:
        promised = report.promise
        yield f"promise    epsilon {promised.epsilon:g} at delta {promised.delta:.1e} per {promised.unit}"


def _cell(found: Estimate, form: str) -> str:
    """Format a figure and its interval."""
    return f"{found.value:{form}} ({found.low:{form}}-{found.high:{form}})"


FIGURES = {
    "lira_auc": ("LiRA", PROCEDURE, "auc"),
    "lira_tpr1": ("LiRA", PROCEDURE, "tpr1"),
    "file_auc": ("LiRA", RELEASED, "auc"),
    "spk_auc": ("speaker level", PROCEDURE, "auc"),
}
"""Which figure of which attack each field of the manifest states."""


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
