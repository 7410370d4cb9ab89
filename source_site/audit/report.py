"""What an audit has found: ``audit.json`` beside the run. It stays at the source and is about one file, by its hash."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from ecan_core.errors import ModelError, SettingsError, UsageFault
from ecan_core.settings import parse_settings
from protocol.files import read_bounded, write_atomic
from source_site.audit.bounds import Estimate, Separation

AUDIT_FILE = "audit.json"
MAX_AUDIT_BYTES = 16 * 1024 * 1024

PROCEDURE, RELEASED = "procedure", "released file"
"""What an attack was tried on: on networks trained alike, whose members are known; or on the very file."""


@dataclass(frozen=True, kw_only=True)
class Attack:
    """One attack and what it achieved.

    Attributes:
        name: the attack.
        target: `PROCEDURE` or `RELEASED`.
        measured: how well it separates members from others; None if that cannot be measured.
        note: why not, or what else is to be known, as half a sentence.
    """

    name: str
    target: str
    measured: Separation | None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """What the file could carry at most, whoever trained it.

    Attributes:
        num_bytes: in bytes.
        share_of_speech: relative to the corpus as telephone speech at 6 kbit/s.
    """

    num_bytes: int
    share_of_speech: float


@dataclass(frozen=True, kw_only=True)
class AuditReport:
    """What an audit has found.

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
    seconds: float


def save_report(folder: Path, report: AuditReport) -> Path:
    """Write a report into the folder of its run.

    Raises:
        StorageFault: the folder cannot be written.
    """
    path = folder / AUDIT_FILE
    write_atomic(path, json.dumps(asdict(report), indent=2).encode())
    return path


def load_report(folder: Path) -> AuditReport:
    """Read the report of a run.

    Raises:
        UsageFault: there is none.
        ModelError: it is damaged or of another version.
    """
    path = folder / AUDIT_FILE
    if not path.is_file():
        raise UsageFault(f"{folder} holds no audit; run `ecan-source audit --model {folder}` first.")
    try:
        return parse_settings(AuditReport, json.loads(read_bounded(path, MAX_AUDIT_BYTES)), AUDIT_FILE)
    except (ValueError, RecursionError, SettingsError) as fault:
        raise ModelError(f"The audit in {folder} is damaged ({fault}); run `ecan-source audit` again.") from fault


def lines(report: AuditReport) -> Iterator[str]:
    """The report as a person reads it on a terminal."""
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


def _cell(found: Estimate, form: str) -> str:
    """A figure and its interval."""
    return f"{found.value:{form}} ({found.low:{form}}-{found.high:{form}})"
