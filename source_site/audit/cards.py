"""Write the papers that may go beside a bundle.

A model card, a data sheet and a machine-learning bill of materials.

All three are written from the run, its record and its audit, and say of the corpus no more than a manifest does:
sizes as powers of two, a recognition rate in half percents, upper bounds of the audit rounded up.
"""

import hashlib
import json
import math
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from string import Template
from typing import Any

from safetensors.numpy import load

from ecan_core.errors import UsageError
from protocol.bundle import weights
from protocol.bundle.manifest import half_percents, log2_bucket
from protocol.files import make_private_folder, write_atomic
from protocol.inspection.capacity import capacity, largest_share
from source_site.audit.report import AUDIT_FILE, AuditReport, load_report
from source_site.audit.tiers import cleared, highest_tier
from source_site.training.record import TrainingRecord, load_record
from source_site.training.run_folder import RunFacts, StoredRun, load_run

MODEL_CARD, DATA_SHEET, BILL = "model-card.md", "data-sheet.md", "ml-bom.json"

USES = "Adaptation to a site's own unlabelled speech, and labels of emotion for groups of recordings."
OUT_OF_SCOPE = (
    "Decisions about single people; emotion recognition of staff at work or of pupils, which the EU AI Act prohibits "
    "(Article 5(1)(f)); lie detection; diagnosis."
)
LIMITS = (
    "It has heard acted or elicited emotions of its source alone.",
    "Recognition across languages and rooms is lower than the rate below and has to be estimated at each site.",
    "Emotions are judged from the sound of speech; the words are not read.",
)


@dataclass(frozen=True, kw_only=True)
class Papers:
    """Hold what is known of a run and may be told.

    Attributes:
        facts: of the training.
        record: how it was trained.
        audit: what its audit has found; None if there was none.
        weights_sha256: SHA-256 of the weights that a bundle holds, in hexadecimal.
    """

    facts: RunFacts
    record: TrainingRecord
    audit: AuditReport | None
    weights_sha256: str

    @property
    def utterances(self) -> str:
        """Return the corpus's size as a manifest tells it."""
        return f"at least {2 ** log2_bucket(self.facts.num_utterances)} utterances"

    @property
    def speakers(self) -> str:
        """Return the number of speakers as a manifest tells it."""
        few = self.facts.num_speakers < 1
        return "speakers unknown" if few else f"at least {2 ** log2_bucket(self.facts.num_speakers)} speakers"

    @property
    def hours(self) -> str:
        """Return the corpus's length as a manifest tells it."""
        return f"at least {2.0 ** log2_bucket(self.facts.hours):g} hours"

    @property
    def uar(self) -> str:
        """Return the recognition rate as a manifest tells it."""
        rate = self.facts.uar_source
        return (
            "not estimated" if not rate else f"{half_percents(rate) / 2:.1f} % UAR on held-out speakers of the source"
        )


def write_cards(run_dir: Path, out: Path) -> tuple[Path, ...]:
    """Write the three papers of a run.

    Args:
        run_dir: folder of the trained model.
        out: folder for them, made if need be.

    Returns:
        The files.

    Raises:
        ModelError: the run is damaged or does not say how it was trained.
        UsageError: its audit is about other weights.
        FileError: the folder cannot be written.
    """
    run = load_run(run_dir)
    papers = Papers(
        facts=run.facts,
        record=load_record(run_dir, run),
        audit=_audit(run_dir, run),
        weights_sha256=_packed_sha256(run),
    )
    make_private_folder(out)
    written = {MODEL_CARD: model_card(papers), DATA_SHEET: data_sheet(papers), BILL: bill_of_materials(papers)}
    for name, text in written.items():
        write_atomic(out / name, text.encode(), 0o644)
    return tuple(out / name for name in written)


def _reading(facts: RunFacts) -> str:
    """Tell the front end, and by which added encoder it reads."""
    return f"{facts.frontend} by the encoder {facts.added_encoder}" if facts.added_encoder else facts.frontend


def model_card(papers: Papers) -> str:
    """Return the model card in Markdown.

    Source: Mitchell et al., "Model cards for model reporting", 2019.
    Differs: sections that the tool cannot know are left to the source's operator and say so.
    """
    facts = papers.facts
    return _MODEL_CARD.substitute(
        sha256=papers.weights_sha256,
        arch=facts.arch,
        frontend=_reading(facts),
        normalization=facts.normalization,
        classes=", ".join(facts.classes),
        version=version("ecan-ser"),
        training=_training(papers),
        uses=USES,
        out_of_scope=OUT_OF_SCOPE,
        limits="\n".join(f"* {one}" for one in LIMITS),
        corpus=f"{papers.utterances}, {papers.speakers}, {papers.hours}; see {DATA_SHEET}",
        uar=papers.uar,
        privacy="\n".join(f"* {one}" for one in _privacy(papers)),
    )


def data_sheet(papers: Papers) -> str:
    """Return the data sheet in Markdown.

    Source: Gebru et al., "Datasheets for datasets", 2021.
    Differs: what the tool cannot know is left open for the source's operator to fill in.
    """
    return _DATA_SHEET.substitute(
        sha256=papers.weights_sha256,
        utterances=papers.utterances,
        speakers=papers.speakers,
        hours=papers.hours,
        classes=", ".join(papers.facts.classes),
        frontend=papers.facts.frontend,
        normalization=papers.facts.normalization,
    )


def bill_of_materials(papers: Papers) -> str:
    """Return the bill of materials in CycloneDX 1.6, as JSON.

    The same run gives the same bytes.
    """
    facts, audit = papers.facts, papers.audit
    metrics = (
        [] if not facts.uar_source else [_metric("UAR", half_percents(facts.uar_source) / 200, "held-out speakers")]
    )
    if audit is not None:
        metrics += [_metric(name, most, "leakage audit, upper 95 % bound") for name, most in upper_bounds(audit)]
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, papers.weights_sha256)}",
        "version": 1,
        "metadata": {
            "tools": {"components": [{"type": "application", "name": "ecan-ser", "version": version("ecan-ser")}]},
            "component": {
                "type": "machine-learning-model",
                "bom-ref": "model",
                "name": f"ecan-ser {facts.arch}",
                "version": papers.weights_sha256[:16],
                "hashes": [{"alg": "SHA-256", "content": papers.weights_sha256}],
                "modelCard": {
                    "modelParameters": {
                        "approach": {"type": "supervised"},
                        "task": "speech emotion recognition",
                        "architectureFamily": "feed-forward network",
                        "modelArchitecture": facts.arch,
                        "datasets": [
                            {
                                "type": "dataset",
                                "name": "source corpus",
                                "classification": "confidential, stays at the source",
                                "description": f"{papers.utterances}, {papers.speakers}, {papers.hours}",
                                "sensitiveData": ["voices", "emotions"],
                            }
                        ],
                        "inputs": [{"format": _reading(facts)}],
                        "outputs": [{"format": f"scores of {', '.join(facts.classes)}"}],
                    },
                    "quantitativeAnalysis": {"performanceMetrics": metrics},
                    "considerations": {
                        "users": ["sites with unlabelled speech of their own"],
                        "useCases": [USES],
                        "technicalLimitations": list(LIMITS),
                        "ethicalConsiderations": [{"name": OUT_OF_SCOPE, "mitigationStrategy": "purpose gate"}],
                    },
                },
            },
        },
        "components": [_library(name) for name in ("torch", "numpy", "safetensors")],
        "dependencies": [{"ref": "model", "dependsOn": ["numpy", "safetensors", "torch"]}],
    }
    return json.dumps(bill, indent=2)


def upper_bounds(audit: AuditReport) -> Iterator[tuple[str, float]]:
    """Yield the audit's figures that may be told.

    The upper ends of their intervals, rounded up to whole percents.
    """
    for one in audit.attacks:
        if one.measured is not None and one.name != "loss threshold":
            yield f"{one.name}, {one.target}: AUC", _up(one.measured.auc.high)
            yield f"{one.name}, {one.target}: TPR at 1 % FPR", _up(one.measured.tpr1.high)


def _up(share: float) -> float:
    return math.ceil(round(100 * share, 6)) / 100


def _metric(name: str, value: float, slice_: str) -> dict[str, Any]:
    return {"type": name, "value": f"{value:g}", "slice": slice_}


def _library(name: str) -> dict[str, str]:
    installed = version(name).partition("+")[0]
    return {
        "type": "library",
        "bom-ref": name,
        "name": name,
        "version": installed,
        "purl": f"pkg:pypi/{name}@{installed}",
    }


def _training(papers: Papers) -> str:
    recipe = papers.record.recipe
    if recipe.private is None:
        told = recipe.settings
        return (
            f"{told.epochs} epochs of AdamW, learning rate {told.learning_rate:g}, weight decay {told.weight_decay:g}, "
            f"label smoothing {told.label_smoothing:g}, view dropout {told.view_dropout:g}"
        )
    private = recipe.private
    return (
        f"{private.steps} private steps, clipped at {private.clip:g}, noise multiplier {private.noise_multiplier:g}; "
        "the encoder was not trained"
    )


def _privacy(papers: Papers) -> Iterator[str]:
    facts, audit, promised = papers.facts, papers.audit, papers.record.promise
    most = capacity(facts.form)
    share = largest_share(most.bits, log2_bucket(facts.hours))
    yield f"The file can carry at most {most.num_bytes} bytes: {share:.0%} of the corpus at 6 kbit/s, or less."
    if promised is None:
        yield "No differential privacy."
    else:
        yield (
            f"Differential privacy: epsilon {promised.epsilon:g}, delta {promised.delta:.1e}, per {promised.unit}, for "
            "what the network learned, with the normalization of its inputs taken as given."
        )
    if audit is None:
        yield "It was not audited for leakage."
        return
    yield f"A leakage audit with {audit.num_models} networks: the model {cleared(highest_tier(audit))}."
    for name, bound in upper_bounds(audit):
        yield f"{name} at most {bound:g}"


def _audit(run_dir: Path, run: StoredRun) -> AuditReport | None:
    if not (run_dir / AUDIT_FILE).is_file():
        return None
    report = load_report(run_dir)
    if report.run_sha256 != run.digest.hex():
        raise UsageError(f"The audit in {run_dir} is about other weights; run `ecan-source audit` again.")
    return report


def _packed_sha256(run: StoredRun) -> str:
    facts = run.facts
    packed = weights.pack(load(run.weights), facts.form)
    return hashlib.sha256(packed).hexdigest()


_MODEL_CARD = Template("""# Model card

Written by ecan-ser $version from the training run.

| | |
|---|---|
| weights, SHA-256 | `$sha256` |
| architecture | $arch, front end $frontend |
| normalization | $normalization |
| classes | $classes |
| training | $training |
| corpus | $corpus |
| recognition | $uar |

## Use

$uses

## Not for

$out_of_scope

## Limits

$limits

## Privacy

$privacy

## To be filled in by the source

* Who answers for the model, and how to reach them.
* Ages, languages and dialects of the speakers, and who is missing.
""")

_DATA_SHEET = Template("""# Data sheet of the source corpus

For the model whose weights have the SHA-256 `$sha256`. The corpus itself stays at the source.

| | |
|---|---|
| utterances | $utterances |
| speakers | $speakers |
| length | $hours |
| labels | $classes, one for each utterance |
| read as | $frontend, normalized by $normalization |

Sizes are powers of two, rounded down: this is all that is told of them.

## What the tool does not know, to be filled in by the source

* Motivation: why and by whom the speech was recorded.
* Collection: acted, elicited or natural; language, room and microphone; the speakers' consent and what it covers.
* Labels: who gave them, how, and how well they agreed.
* Distribution: the licence or the contract under which models of it may leave.
* Maintenance: how a speaker asks for removal, and what happens to released models then.
""")
