"""Audit a trained run with networks that are trained alike.

They are attacked, and so is the very file that would leave.
"""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ecan_core.command_line.console import Narrator
from ecan_core.errors import UsageError
from ecan_core.model.network import Network
from ecan_core.model.predict import run as run_network
from protocol.errors import Code, RefusedError
from protocol.inspection.capacity import capacity, share_of_speech
from source_site.audit.bounds import Roc, separation
from source_site.audit.canaries import look_at_canaries, plan_canaries
from source_site.audit.membership import (
    atypical,
    confidence_scores,
    confidences,
    label_only_scores,
    lira_scores,
    lira_scores_of,
    loss_scores,
    quantile_scores,
    rmia_scores,
)
from source_site.audit.reconstruction import try_reconstruction
from source_site.audit.report import PROCEDURE, RELEASED, Attack, AuditReport, Capacity, Exposed, save_report
from source_site.audit.shadows import Shadows, left_out_parts, random_halves, train_shadows
from source_site.audit.speakers import attack_speakers, halves_of_speakers, no_speakers
from source_site.training.material import FirstWeights, Material, read_material
from source_site.training.record import TrainingRecord, load_noise_key, load_record
from source_site.training.reproduce import released_network
from source_site.training.run_folder import RunFacts, load_run

SHADOWS_FOLDER = "shadows"
MIN_MODELS = 8
NEARLY_WHOLE = 4
"""For this many networks on halves, one is trained on nearly everything."""
MAX_COPIES = 0.01
"""The share of utterances that may be copies of others."""


def audit_run(
    run_dir: Path,
    corpora: Sequence[tuple[str, Path]],
    *,
    num_models: int,
    seed: int,
    cache_path: Path | None,
    narrator: Narrator,
    workers: int | None = None,
    encoders: Path | None = None,
    relabel: dict[str, str] | None = None,
) -> AuditReport:
    """Attack a trained run and write ``audit.json`` beside it.

    Args:
        run_dir: folder of the trained model.
        corpora: recipe and path of each corpus, as they were given to the training.
        num_models: networks to train; half of them know each utterance.
        seed: seed of the audit.
        cache_path: where front-end outputs are kept; None takes the run's own.
        narrator: tells a person how far the work has come.
        workers: processes that train; None takes the cores at hand.
        encoders: folder of public encoders; None takes the user's.
        relabel: what labels count as; None takes what the run's record says.

    Raises:
        UsageError: these are not the corpora of the training, or there are too few models.
        ModelError: the run is damaged or does not say how it was trained.
        RefusedError: too many utterances are there twice.
    """
    if num_models < MIN_MODELS or num_models % 2:
        raise UsageError(f"{num_models} networks cannot be halved well: name an even number of {MIN_MODELS} or more.")
    started = time.monotonic()
    run = load_run(run_dir)
    record = load_record(run_dir, run)
    material = read_trained_material(
        run_dir,
        run.facts,
        record if relabel is None else replace(record, relabel=relabel),
        corpora,
        cache_path=cache_path,
        narrator=narrator,
        encoders=encoders,
    )
    refuse_copies(material)
    first = FirstWeights(seed=record.seed, noise_key=load_noise_key(run_dir, record))
    network, packed = released_network(run, material)
    members = random_halves(num_models, len(material), seed=seed)
    knows, trained = halves_of_speakers(material.speakers, num_models, seed=seed)
    plan = plan_canaries(material.labels, len(material.classes), seed=seed)

    def shadows_of(halves: np.ndarray, title: str, material: Material = material) -> Shadows:
        with narrator.progress(title) as tick:
            return train_shadows(
                material,
                halves,
                record.recipe,
                seed=seed,
                folder=run_dir / SHADOWS_FOLDER,
                first=first,
                on_progress=tick,
                workers=workers,
            )

    shadows = shadows_of(members, "networks on halves of the utterances")
    nearly_whole = shadows_of(
        left_out_parts(num_models // NEARLY_WHOLE, len(material), seed=seed), "networks on nearly all utterances"
    )
    by_speaker = shadows_of(trained, "networks on halves of the speakers") if material.num_speakers > 1 else None
    with_canaries = shadows_of(plan.trained(len(material)), "networks with canaries", plan.material(material))
    narrator.say("attacking")
    by_class = [np.flatnonzero(material.labels == index) for index in range(len(material.classes))]
    hits = shadows.logits.argmax(axis=-1) == material.labels
    delta = record.promise.delta if record.promise is not None else 0.0
    report = AuditReport(
        weights_sha256=hashlib.sha256(packed).hexdigest(),
        run_sha256=run.digest.hex(),
        num_utterances=len(material),
        num_speakers=material.num_speakers,
        class_utterances=min(len(rows) for rows in by_class),
        class_speakers=min(len({material.speakers[row] for row in rows} - {None}) for rows in by_class),
        num_models=num_models,
        seed=seed,
        accuracy_inside=round(float(hits[members].mean()), 4),
        accuracy_outside=round(float(hits[~members].mean()), 4),
        capacity=capacity_of(material),
        attacks=(
            *attack_procedure(shadows, material),
            attack_released(network, shadows, nearly_whole, material),
            no_speakers()
            if by_speaker is None
            else attack_speakers(by_speaker.logits, material.labels, knows, material.speakers),
        ),
        canaries=look_at_canaries(plan, with_canaries.logits, shadows, delta=delta, seed=seed),
        reconstruction=try_reconstruction(material, members, record.recipe, seed=seed),
        promise=record.promise,
        worst=easiest(shadows, material),
        seconds=round(time.monotonic() - started, 1),
    )
    save_report(run_dir, report)
    return report


def refuse_copies(material: Material) -> None:
    """Refuse a corpus in which too many utterances are copies.

    If an utterance was left out of a network's training and its copy was in, it looks like a member without being one.
    Attacks would then seem weaker than they are.

    Raises:
        RefusedError: more than `MAX_COPIES` of the utterances are copies of others.
    """
    copies = len(material) - len(set(material.digests))
    if copies > MAX_COPIES * len(material):
        raise RefusedError(
            Code.HOLDOUT_DUP,
            f"{copies} of {len(material)} utterances are copies of others, so that members cannot be told from others; "
            "list each recording once and train again.",
        )


def read_trained_material(
    run_dir: Path,
    facts: RunFacts,
    record: TrainingRecord,
    corpora: Sequence[tuple[str, Path]],
    *,
    cache_path: Path | None,
    narrator: Narrator,
    encoders: Path | None = None,
) -> Material:
    """Read the corpora of a run again, and check that they are the same.

    Raises:
        UsageError: they are others.
    """
    material = read_material(
        corpora,
        classes=facts.classes,
        normalization=facts.normalization,
        encoder=record.encoder,
        cache_path=cache_path or run_dir / "features.cache",
        narrator=narrator,
        encoders=encoders,
        added_encoder=facts.added_encoder,
        telephone=record.recipe.telephone,
        relabel=record.relabel,
    )
    if material.digests != record.utterances:
        raise UsageError(
            "These are not the utterances that the run was trained on; name the same corpora in the same order, "
            "and `ecan-source reproduce` says what differs."
        )
    return material


def capacity_of(material: Material) -> Capacity:
    """Return what a network's file could carry, against its corpus.

    The corpus is the one that it was trained on.
    """
    most = capacity(material.form)
    return Capacity(num_bytes=most.num_bytes, share_of_speech=round(share_of_speech(most.bits, material.hours), 4))


def attack_procedure(shadows: Shadows, material: Material) -> list[Attack]:
    """Attack networks that were trained as the released one was.

    One after the other.
    """
    logits, labels, members = shadows.logits, material.labels, shadows.members
    ratios = lira_scores(logits, labels, members)
    hardest = atypical(logits, labels)
    tried = {
        "loss threshold": (loss_scores(logits, labels), members, "an alarm, never a gate"),
        "LiRA": (ratios, members, ""),
        "confidence": (confidence_scores(logits, labels), members, "how far above the mean of the others"),
        "RMIA": (rmia_scores(logits, labels, members), members, ""),
        "quantile regression": (quantile_scores(logits, labels, members, material.vectors), members, ""),
        "labels alone": (label_only_scores(shadows.hits, members, shadows.num_copies), members, ""),
        "LiRA, atypical": (
            ratios[:, hardest],
            members[:, hardest],
            f"the {len(hardest)} utterances that pull hardest at a training",
        ),
    }
    return [_measured(name, PROCEDURE, scores, inside, note) for name, (scores, inside, note) in tried.items()]


def attack_released(network: Network, shadows: Shadows, nearly_whole: Shadows, material: Material) -> Attack:
    """Attack the file itself by LiRA.

    All utterances of the corpus are members. For comparison each is also asked of a network that was trained on nearly
    all of the corpus but not on this utterance, and so recognizes speech as well as the file does.
    """
    references = (shadows.logits, material.labels, shadows.members)
    own = lira_scores_of(run_network(network, material.inputs()).logits.numpy(), *references)
    others = np.stack([lira_scores_of(logits, *references) for logits in nearly_whole.logits])
    scores = np.vstack([own[None], np.where(nearly_whole.members, np.nan, others)])
    inside = np.zeros(scores.shape, dtype=bool)
    inside[0] = True
    return _measured("LiRA", RELEASED, scores, inside, "")


def easiest(shadows: Shadows, material: Material, *, count: int = 20) -> tuple[Exposed, ...]:
    """Return the utterances that give their membership away most."""
    odds = confidences(shadows.logits, material.labels)
    scores = lira_scores(shadows.logits, material.labels, shadows.members)
    areas = [
        Roc.of(one[:, None], inside[:, None]).area for one, inside in zip(scores.T, shadows.members.T, strict=True)
    ]
    surer = [one[inside].mean() - one[~inside].mean() for one, inside in zip(odds.T, shadows.members.T, strict=True)]
    worst = np.lexsort((surer, areas))[::-1][:count]
    return tuple(
        Exposed(pseudonym=material.digests[row][:10], auc=round(areas[row], 4), odds=round(float(surer[row]), 2))
        for row in worst
    )


def _measured(name: str, target: str, scores: np.ndarray, members: np.ndarray, note: str) -> Attack:
    return Attack(
        name=name,
        target=target,
        measured=separation(scores, members),
        note=note,
        roc=Roc.of(scores, members).points(),
    )
