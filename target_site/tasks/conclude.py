"""Conclude an adaptation: its verdict, its provenance and its report."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import torch

from ecan_core.adaptation.calibrate import temperature_of
from ecan_core.adaptation.loop import EpochRecord
from ecan_core.adaptation.settings import AdaptSettings, members_of
from ecan_core.adaptation.site import Preparation, SiteAdaptation
from ecan_core.adaptation.verdict import Judgement, Verdict, judge_site
from ecan_core.adaptation.views import views_of
from ecan_core.command_line.console import Narrator
from ecan_core.data.features import FeatureTable
from ecan_core.model.abstention import shown
from ecan_core.model.network import Network
from ecan_core.model.predict import committee_scores, run
from ecan_core.model.weights import to_arrays
from ecan_core.utterance import Utterance
from protocol.bundle.trust import VerifiedBundle
from protocol.containment.walls import Containment
from protocol.inspection.leakage import in_words
from protocol.inspection.listing import listed_rows
from target_site.containment.orders import AdaptOrder
from target_site.model.adapted import AdaptedModel, save_adapted
from target_site.model.encoders import ESTIMATED, HEARD
from target_site.model.folder import new_model
from target_site.model.forgotten import write_forgotten
from target_site.report.content import ReportContent, class_shares, shares_by_group
from target_site.report.files import save_report
from target_site.results.handed_labels import LEARNED, place_of
from target_site.results.predictions import Predictions, not_speech
from target_site.tasks.recordings import hear_voices
from target_site.tasks.resume import forget_unfinished, versions
from target_site.tasks.task import Task, hears_voices
from target_site.trust.remembered import as_plain

DEFAULTS = asdict(AdaptSettings())
GROUPS: Mapping[str, Callable[[Utterance], str | None]] = {
    "channel": lambda utterance: utterance.channel_name,
    "speaker": lambda utterance: utterance.speaker,
}
"""What the report shows class shares by."""


def conclude(
    order: AdaptOrder,
    bundle: VerifiedBundle,
    task: Task,
    site: SiteAdaptation,
    panel: SiteAdaptation | None,
    containment: Containment,
    narrator: Narrator,
    told: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Judge what was adapted and write a new model with its report.

    Args:
        order: what was asked for.
        bundle: the received model.
        task: what it was adapted to.
        site: what became of it.
        panel: what judges that, and tells how sure it may be; None where nothing was adapted, which judges itself.
        containment: how this process is contained.
        narrator: tells a person what to do where nearly everything is uncertain.
        told: what the provenance says besides.

    Returns:
        The ``verdict`` and its ``reason``, how many recordings were listed and lost, and how many utterances were
        forgotten.
    """
    received = _look((task.build(),), site.unadapted, task)
    adapted = _look(site.networks, site.preparation, task)
    voices = None if panel is None else _voices(task, order, narrator)
    others = slice(None) if task.given is None else task.given.others(len(task.table))
    views = None
    if panel is not None:
        views = views_of(panel, task.table.features, task.speakers, task.card.front_end().feature_names)
    judgement = judge_site(site, panel, received.scores[others], adapted.scores[others], others, voices, views)
    kept = received if judgement.verdict is Verdict.REVERTED else adapted
    trusted = kept.scores if panel is None else panel.scores
    temperature = temperature_of(kept.scores[others], trusted[others], views)
    answers = kept.predictions.at(temperature, order.abstention.by_class(task.card.classes))
    if answers.advice:
        narrator.say(answers.advice)
    provenance = _provenance(bundle, order, task, kept, judgement, containment) | dict(told or {})
    with new_model(order.out) as folder:
        write_forgotten(folder, task.left_out)
        answers.write(folder, task.card.classes)
        save_report(folder, _content(bundle, received, kept, answers, site.members[0].records, judgement, provenance))
        save_adapted(
            folder,
            AdaptedModel(
                card=task.card,
                weights=tuple(to_arrays(network) for network in kept.networks),
                received_weights=task.weights,
                preparation=kept.preparation,
                unadapted=received.preparation,
                temperature=answers.temperature,
                provenance=provenance,
            ),
        )
    forget_unfinished(order.out)
    return {"verdict": judgement.verdict.value, "reason": judgement.reason, **task.counts}


class View(NamedTuple):
    """Describe what a committee makes of the target corpus.

    Attributes:
        networks: the committee; the received network alone is one, too.
        preparation: how it is given the utterances.
        predictions: scores of all utterances.
        plane: the first two principal components of its first member's features ``[N, 2]``.
    """

    networks: tuple[Network, ...]
    preparation: Preparation
    predictions: Predictions
    plane: np.ndarray

    @property
    def scores(self) -> np.ndarray:
        """Return the scores of all utterances ``[N, C]``."""
        return self.predictions.scores


def _look(networks: tuple[Network, ...], preparation: Preparation, task: Task) -> View:
    inputs = preparation.inputs(task.table.features, task.speakers)
    predictions = Predictions(
        table=task.table, scores=committee_scores(networks, inputs), least_confidence=np.zeros(len(task.card.classes))
    )
    plane = principal_plane(run(networks[0], inputs).embeddings.numpy())
    return View(networks, preparation, predictions, plane)


def _voices(task: Task, order: AdaptOrder, narrator: Narrator) -> list[str | None] | None:
    """Return whose voice is heard in each utterance.

    None where no speaker encoder is here, or where the adaptation knows who speaks and so cannot follow that.
    """
    if task.heard is not None or task.mode == "speaker":
        return task.heard
    return hear_voices(task.table.utterances, order.encoders, narrator) if hears_voices(order) else None


def _provenance(
    bundle: VerifiedBundle,
    order: AdaptOrder,
    task: Task,
    kept: View,
    judgement: Judgement,
    containment: Containment,
) -> dict[str, Any]:
    """Return the provenance: what the kept model was made from, and how."""
    heard = {place_of(utterance) for utterance in task.table.utterances}
    return {
        "bundle_sha256": bundle.digest.hex(),
        "weights_sha256": bundle.manifest.weights_sha256.hex(),
        "issuer": bundle.manifest.issuer.hex(),
        "method": order.method,
        "settings": asdict(order.settings),
        "seed": order.seed,
        "abstention": asdict(order.abstention),
        "asked": {
            "normalization": order.normalization,
            "parties": None if order.parties is None else asdict(order.parties),
        },
        "site": as_plain(order.site.rules, order.site.keys),
        "members": len(kept.networks),
        "threads": torch.get_num_threads(),
        "utterances": len(kept.scores),
        "normalization": kept.preparation.normalizer.mode,
        "voices": HEARD if kept.preparation.guessing else ESTIMATED,
        "verdict": judgement.verdict.value,
        "reason": judgement.reason,
        "containment": containment.as_plain(),
        "versions": versions(),
        "inputs_sha256": task.inputs.hex(),
        LEARNED: [asdict(label) for label in order.labels if label.place in heard],
    }


def principal_plane(features: np.ndarray) -> np.ndarray:
    """Return the first two principal components ``[N, 2]`` of embeddings.

    The embeddings are ``[N, D]``.
    """
    if not np.isfinite(features).all():  # a diverged adaptation has no picture, but must still be judged
        return np.zeros((len(features), 2))
    centered = features - features.mean(axis=0)
    _, _, axes = np.linalg.svd(centered, full_matrices=False)
    axes = np.pad(axes, ((0, max(2 - len(axes), 0)), (0, 0)))  # one utterance has no second axis
    # The sign of a component is arbitrary: fix it, so that a repetition draws the same picture.
    axes = axes[:2] * np.sign(axes[:2].sum(axis=1, keepdims=True))
    return np.asarray(centered @ axes.T)


def _content(
    bundle: VerifiedBundle,
    received: View,
    kept: View,
    answers: Predictions,
    records: list[EpochRecord],
    judgement: Judgement,
    provenance: dict[str, Any],
) -> ReportContent:
    classes = bundle.manifest.classes
    views, heard = {"before": received, "after": kept}, kept.predictions.table.utterances
    predicted = {name: view.scores.argmax(axis=1) for name, view in views.items()}
    return ReportContent(
        verdict=judgement.verdict.value,
        reason=judgement.reason,
        classes=list(classes),
        shares={name: class_shares(rows, len(classes)) for name, rows in predicted.items()},
        maps={name: view.plane.round(4).tolist() for name, view in views.items()},
        predicted={name: rows.tolist() for name, rows in predicted.items()},
        abstained=answers.abstained,
        least_confidence=shown(answers.least_confidence),
        temperature=answers.temperature,
        groups={
            what: shares_by_group([name(utterance) for utterance in heard], predicted["after"], len(classes))
            for what, name in GROUPS.items()
        },
        epochs=[
            {
                "losses": record.losses,
                "balance": record.health.balance,
                "confidence": record.health.confidence,
                "agreement": record.health.agreement,
            }
            for record in records
        ],
        refused=[
            {"file": str(refusal.utterance.path), "reason": refusal.reason}
            for refusal in kept.predictions.table.refusals
        ],
        crossed=listed_rows(bundle.data),
        leakage=list(in_words(bundle.manifest)),
        containment=provenance["containment"],
        facts=_facts(bundle, provenance, kept.predictions.table),
    )


def _facts(bundle: VerifiedBundle, provenance: dict[str, Any], table: FeatureTable) -> dict[str, str]:
    stated = bundle.manifest
    changed = {key: value for key, value in provenance["settings"].items() if value != DEFAULTS[key]}
    return {
        "bundle SHA-256": bundle.digest.hex(),
        "source fingerprint": stated.issuer.hex(),
        "architecture": stated.arch,
        "source's own UAR (held-out speakers, as it states)": f"{stated.uar_src / 2:.1f} %"
        if stated.uar_src
        else "not estimated",
        "utterances": str(provenance["utterances"]),
        "recorded too loud (clipped)": str(len(table.clipped)),
        "no speech, share of what was loud": ", ".join(
            f"{reason} {100 * share:.1f} %" for reason, share in not_speech(table).items()
        )
        or "nothing",
        "normalized by": provenance["normalization"],
        "method": provenance["method"],
        "committee": ", ".join(members_of(provenance["method"])) if "together" not in provenance else "one network",
        "settings": ", ".join(f"{key} = {value}" for key, value in changed.items()) or "defaults",
        **_made_together(provenance),
        "seed, threads": f"{provenance['seed']}, {provenance['threads']}",
        "versions": ", ".join(f"{name} {number}" for name, number in provenance["versions"].items()),
    }


def _made_together(provenance: dict[str, Any]) -> dict[str, str]:
    if "together" not in provenance:
        return {}
    return {
        "made together": f"in {provenance['together']} rounds with other sites; the curves are those of this site's "
        "own committee, which judges it"
    }
