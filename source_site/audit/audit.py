"""Audit a trained run: train networks as it was trained, attack them and the very file that would leave."""

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import load

from ecan_core.errors import UsageFault
from ecan_core.model.architectures import architecture, build_network
from ecan_core.model.network import Network
from ecan_core.model.weights import load_arrays
from ecan_core.narrator import Narrator
from ecan_core.predict import run as run_network
from protocol.capacity import capacity, share_of_speech
from source_site.audit.bounds import Separation, separation
from source_site.audit.membership import (
    atypical,
    label_only_scores,
    lira_scores,
    lira_scores_of,
    loss_scores,
    quantile_scores,
    rmia_scores,
)
from source_site.audit.report import PROCEDURE, RELEASED, Attack, AuditReport, Capacity, save_report
from source_site.audit.shadows import Shadows, random_halves, train_shadows
from source_site.audit.speakers import NAME, attack_speakers, halves_of_speakers
from source_site.material import Material, quantize_network, read_material
from source_site.record import TrainingRecord, load_record
from source_site.store import RunFacts, StoredRun, load_run

SHADOWS_FOLDER = "shadows"
MIN_MODELS = 8


def audit_run(
    run_dir: Path,
    corpora: Sequence[tuple[str, Path]],
    *,
    num_models: int,
    seed: int,
    cache_path: Path | None,
    narrator: Narrator,
    workers: int | None = None,
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

    Raises:
        UsageFault: these are not the corpora of the training, or there are too few models.
        ModelError: the run is damaged or does not say how it was trained.
    """
    if num_models < MIN_MODELS or num_models % 2:
        raise UsageFault(f"{num_models} networks cannot be halved well: name an even number of {MIN_MODELS} or more.")
    started = time.monotonic()
    run = load_run(run_dir)
    record = load_record(run_dir, run)
    material = read_trained_material(run_dir, run.facts, record, corpora, cache_path=cache_path, narrator=narrator)
    network, packed = released_network(run, material)
    members = random_halves(num_models, len(material), seed=seed)
    knows, trained = halves_of_speakers(material.speakers, num_models, seed=seed)

    def shadows_of(halves: np.ndarray, title: str) -> Shadows:
        with narrator.progress(title) as tick:
            return train_shadows(
                material,
                halves,
                record.recipe,
                seed=seed,
                folder=run_dir / SHADOWS_FOLDER,
                on_progress=tick,
                workers=workers,
            )

    shadows = shadows_of(members, "networks on halves of the utterances")
    by_speaker = shadows_of(trained, "networks on halves of the speakers") if material.num_speakers > 1 else None
    narrator.say("attacking")
    by_class = [np.flatnonzero(material.labels == index) for index in range(len(material.classes))]
    hits = shadows.logits.argmax(axis=-1) == material.labels
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
            *attack_released(run_network(network, material.inputs()).logits.numpy(), shadows, material.labels),
            _no_speakers()
            if by_speaker is None
            else attack_speakers(by_speaker.logits, material.labels, knows, material.speakers),
        ),
        seconds=round(time.monotonic() - started, 1),
    )
    save_report(run_dir, report)
    return report


def read_trained_material(
    run_dir: Path,
    facts: RunFacts,
    record: TrainingRecord,
    corpora: Sequence[tuple[str, Path]],
    *,
    cache_path: Path | None,
    narrator: Narrator,
) -> Material:
    """Read the corpora of a run again, and see that they are the same.

    Raises:
        UsageFault: they are others.
    """
    material = read_material(
        corpora,
        classes=facts.classes,
        normalization=facts.normalization,
        encoder=record.encoder,
        cache_path=cache_path or run_dir / "features.cache",
        narrator=narrator,
    )
    if material.digests != record.utterances:
        raise UsageFault(
            "These are not the utterances that the run was trained on; name the same corpora in the same order, "
            "and `ecan-source reproduce` says what differs."
        )
    return material


def released_network(run: StoredRun, material: Material) -> tuple[Network, bytes]:
    """The network as a bundle would hold it, and its weights there."""
    facts = run.facts
    network = build_network(
        architecture(facts.arch),
        input_dim=material.values[0].shape[-1],
        num_classes=len(facts.classes),
        normalization=facts.normalization,
    )
    load_arrays(network, load(run.weights))
    return network, quantize_network(network, facts.arch, len(facts.classes), facts.normalization)


def capacity_of(material: Material) -> Capacity:
    """What a network's file could carry, against the corpus it was trained on."""
    most = capacity(material.arch.name, len(material.classes), material.normalization)
    return Capacity(num_bytes=most.num_bytes, share_of_speech=round(share_of_speech(most.bits, material.hours), 4))


def attack_procedure(shadows: Shadows, material: Material) -> list[Attack]:
    """Attacks on networks that were trained as the released one was, one after the other."""
    logits, labels, members = shadows.logits, material.labels, shadows.members
    ratios = lira_scores(logits, labels, members)
    hardest = atypical(logits, labels, members)
    tried = {
        "loss threshold": (loss_scores(logits, labels), members, "an alarm, never a gate"),
        "LiRA": (ratios, members, ""),
        "RMIA": (rmia_scores(logits, labels, members), members, ""),
        "quantile regression": (quantile_scores(logits, labels, members, material.vectors), members, ""),
        "labels alone": (label_only_scores(shadows.hits, members, shadows.num_copies), members, ""),
        "LiRA, atypical": (
            ratios[:, hardest],
            members[:, hardest],
            f"the {len(hardest)} utterances that pull hardest at a training",
        ),
    }
    return [
        Attack(name=name, target=PROCEDURE, measured=separation(scores, inside), note=note)
        for name, (scores, inside, note) in tried.items()
    ]


def attack_released(logits: np.ndarray, shadows: Shadows, labels: np.ndarray) -> list[Attack]:
    """LiRA on the file itself. All of the corpus are its members; the others are what shadows were not trained on."""
    own = lira_scores_of(logits, shadows.logits, labels, shadows.members)
    others = np.where(shadows.members, np.nan, lira_scores(shadows.logits, labels, shadows.members))
    return [Attack(name="LiRA", target=RELEASED, measured=_one_against_many(own, others))]


def _no_speakers() -> Attack:
    return Attack(name=NAME, target=PROCEDURE, measured=None, note="fewer than two speakers are known")


def _one_against_many(own: np.ndarray, others: np.ndarray) -> Separation:
    """Separate the scores ``[N]`` of one model's members from those ``[K, N]`` of others; NaN takes no part."""
    inside = np.zeros((1 + len(others), len(own)), dtype=bool)
    inside[0] = True
    return separation(np.vstack([own[None], others]), inside)
