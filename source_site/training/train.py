"""Train the source model: labelled corpora -> RUN.

Weights and the few facts that the manifest needs.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from ecan_core.command_line.console import Narrator
from ecan_core.errors import SettingsError, UsageError
from ecan_core.model.predict import predict_scores
from ecan_core.model.weights import to_arrays
from ecan_core.training.metrics import Confusion, bootstrap_interval, confusion, favorite, uar
from ecan_core.training.train import TrainSettings
from source_site.training.material import Material, Recipe, fit_network, quantize_network, read_material
from source_site.training.privacy import MIN_SPEAKERS, promise, settings_for, usual_delta
from source_site.training.record import record_of, save_noise_key, save_record
from source_site.training.run_folder import Promise, RunFacts, load_run, save_run

HELD_OUT_SHARE = 4
"""One speaker in this many is held out to estimate the source model's UAR; with fewer there is no estimate."""
NOT_ESTIMATED = 0.0
COLLAPSED = 0.9
"""A network that gives one class so large a share of its answers has learned which class is frequent, and no more."""


def train_run(
    corpora: Sequence[tuple[str, Path]],
    out: Path,
    *,
    classes: Sequence[str] | None,
    normalization: str,
    encoder: str,
    settings: TrainSettings,
    seed: int,
    cache_path: Path | None,
    narrator: Narrator,
    epsilon: float | None = None,
    unit: Literal["utterance", "speaker"] = "utterance",
    encoders: Path | None = None,
    added_encoder: str = "",
    telephone: bool = False,
    relabel: dict[str, str] | None = None,
) -> RunFacts:
    """Train on labelled corpora and write the run folder.

    The recognition rate that the manifest will state is measured by a first network, on speakers that it has not
    heard, before and after quantization; the network that leaves is then trained on everybody.

    Args:
        corpora: recipe and path of each corpus.
        out: run folder.
        classes: the classes to learn; None takes those that all corpora share.
        normalization: ``none``, ``corpus`` or ``speaker``.
        encoder: short name of the architecture.
        settings: how to train.
        seed: seed of initialization, shuffling and dropout.
        cache_path: where front-end outputs are kept between runs; None keeps them in the run folder.
        narrator: tells a person what is left out and how far the work has come.
        epsilon: what a private training is to promise; None trains as usual.
        unit: what it is to protect.
        encoders: folder of public encoders; None takes the user's.
        added_encoder: SHA-256 of the added encoder that the network is read by, in hexadecimal; empty for others.
        telephone: learn each utterance twice, once as a telephone gives it.
        relabel: what labels count as (`ecan_core.labels.parse_relabel`); the run's record keeps it.

    Raises:
        UsageError: a class is in none of the corpora, a corpus is named twice, or a private training is to learn each
            utterance twice.
        AudioError: fewer than two classes have usable speech.
        SettingsError: the training diverged, or a private one has collapsed to one class.
        MalformedError: a weight is too large for the grid of a bundle.
    """
    if telephone and epsilon is not None:
        raise UsageError("--telephone learns an utterance twice and --private protects one; leave one of them out.")
    material = read_material(
        corpora,
        classes=classes,
        normalization=normalization,
        encoder=encoder,
        cache_path=cache_path or out / "features.cache",
        narrator=narrator,
        encoders=encoders,
        added_encoder=added_encoder,
        telephone=telephone,
        relabel=relabel,
    )
    out.mkdir(parents=True, exist_ok=True)
    arch, labels = material.arch, material.labels
    recipe, promised, noise_key = Recipe(settings=settings, telephone=telephone), None, 0
    if epsilon is not None:
        recipe, promised = _private_recipe(recipe, material, epsilon, unit)
        noise_key = secrets.randbits(128)
        save_noise_key(out, noise_key)
    narrator.say("estimating the recognition rate on held-out speakers")
    rows = held_out_rows(material.speakers, labels, seed)
    heard = hold_out(material, rows, recipe, seed=seed, noise_key=secrets.randbits(128)) if len(rows) else None
    if epsilon is not None and heard is not None:
        _refuse_collapse(heard, material.classes, epsilon)
        narrator.say(_cost(heard, hold_out(material, rows, Recipe(settings=settings), seed=seed, noise_key=0)))
    narrator.say("training on all speakers")
    network = fit_network(material, np.arange(len(labels)), recipe, seed=seed, noise_key=noise_key)
    facts = RunFacts(
        arch=arch.name,
        frontend=arch.front_end,
        normalization=normalization,
        classes=material.classes,
        num_utterances=len(labels),
        num_speakers=material.num_speakers,
        hours=material.hours,
        uar_source=round(heard.uar, 4) if heard else NOT_ESTIMATED,
        uar_float=round(heard.uar_float, 4) if heard else NOT_ESTIMATED,
        seed=seed,
        added_encoder=added_encoder,
    )
    save_run(out, to_arrays(network), facts)
    digest = load_run(out).digest
    record = record_of(material, encoder, recipe, seed, digest, promise=promised, noise_key=noise_key, relabel=relabel)
    save_record(out, record)
    return facts


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Hold what a network answers about speakers it has not heard.

    Attributes:
        counts: as quantized: answers by true and answered class ``[C, C]``.
        uar_float: UAR before quantization.
        interval: 95 % interval of the UAR after it.
    """

    counts: Confusion
    uar_float: float
    interval: tuple[float, float]

    @property
    def uar(self) -> float:
        """Return the UAR after quantization."""
        return uar(self.counts)


def hold_out(material: Material, rows: np.ndarray, recipe: Recipe, *, seed: int, noise_key: int) -> HeldOut:
    """Train on all utterances but some, and ask the network about those.

    Args:
        material: all utterances.
        rows: indices of those that are held out, at least one.
        recipe: how to train.
        seed: seed of the training.
        noise_key: 128 bits that a private training draws its first weights and its noise from, of no other training.
    """
    heard = np.setdiff1d(np.arange(len(material)), rows)
    network = fit_network(material, heard, recipe, seed=seed, noise_key=noise_key)
    unheard, true, num_classes = material.inputs(rows), material.labels[rows], len(material.classes)
    plain = predict_scores(network, unheard).argmax(axis=1)
    quantize_network(network, material.form)
    answered = predict_scores(network, unheard).argmax(axis=1)
    return HeldOut(
        counts=confusion(true, answered, num_classes),
        uar_float=uar(confusion(true, plain, num_classes)),
        interval=bootstrap_interval(true, answered, num_classes, seed),
    )


def _refuse_collapse(heard: HeldOut, classes: Sequence[str], epsilon: float) -> None:
    index, share = favorite(heard.counts)
    if share >= COLLAPSED:
        raise SettingsError(
            f"Trained with an epsilon of {epsilon:g} the network has collapsed: whatever held-out speakers say, it "
            f"answers {classes[index]!r}; allow a larger epsilon, or train on more speech of the other classes."
        )


def _cost(private: HeldOut, usual: HeldOut) -> str:
    """Tell what a promise costs in recognition.

    The cost is told against a usual training and against chance.
    """
    chance = 1 / len(private.counts)
    told = (
        f"UAR on held-out speakers with the promise {100 * private.uar:.1f} %, without it {100 * usual.uar:.1f} % "
        f"({100 * (private.uar - usual.uar):+.1f} points), by chance {100 * chance:.1f} %"
    )
    if private.interval[0] > chance:
        return told
    return f"{told}; nothing shows that it is above chance: allow a larger epsilon, or train on more speech"


def _private_recipe(
    recipe: Recipe, material: Material, epsilon: float, unit: Literal["utterance", "speaker"]
) -> tuple[Recipe, Promise]:
    """Return how to train privately, and what that promises."""
    if unit == "speaker" and material.num_speakers < MIN_SPEAKERS:
        raise UsageError(
            f"{material.num_speakers} speakers cannot be hidden one by one, {MIN_SPEAKERS} can: protect utterances, "
            "or train with more speakers."
        )
    delta = usual_delta(len(material) if unit == "utterance" else material.num_speakers)
    private = settings_for(epsilon, delta, unit=unit)
    return replace(recipe, private=private), promise([private], delta)


def held_out_rows(speakers: Sequence[str | None], labels: np.ndarray, seed: int) -> np.ndarray:
    """Choose the rows of a quarter of the speakers.

    None where speakers are too few or unknown.

    A speaker who is the last one to speak a class stays in training: a class that was never heard cannot be
    recognized, and would be no measure of anything.
    """
    of_speaker = np.array([speaker or "" for speaker in speakers])
    names = sorted(set(of_speaker) - {""})
    held_out = np.zeros(len(labels), dtype=bool)
    num_wanted = len(names) // HELD_OUT_SHARE
    for name in np.random.default_rng(seed).permutation(names):
        wider = held_out | (of_speaker == name)
        if num_wanted and set(labels[~wider]) == set(labels):
            held_out, num_wanted = wider, num_wanted - 1
    return np.flatnonzero(held_out)
