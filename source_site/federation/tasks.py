"""Do what a federation asks of a site's speech.

This runs in the contained process and knows no Flower.
"""

import secrets
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load, save

from ecan_core.command_line.console import Narrator
from ecan_core.corpora import read_corpus
from ecan_core.errors import UsageError
from ecan_core.labels import check_classes
from ecan_core.model.architectures import ARCHITECTURES
from ecan_core.model.network import Network
from ecan_core.model.predict import predict_scores
from ecan_core.model.weights import snapshot
from ecan_core.training.metrics import confusion
from ecan_core.training.private import PrivateSettings, train_private
from ecan_core.training.train import train
from protocol.bundle.form import ModelForm
from protocol.files import read_bounded, write_atomic
from source_site.federation.orders import ANSWER_FILE, QUESTION_FILE, CountOrder, Order, RoundOrder, Site, TallyOrder
from source_site.federation.plan import EVERYBODY, HEARD, Arrays, ConsortiumPlan, named, network_of, part
from source_site.training.accountant import noise_for
from source_site.training.material import Material, quantize_network, read_material
from source_site.training.privacy import usual_delta
from source_site.training.run_folder import MAX_WEIGHTS_BYTES
from source_site.training.train import held_out_rows

Told = dict[str, Any]


def carry_out(order: Order) -> Told:
    """Carry out an order, and tell the process that keeps the rules."""
    match order:
        case TallyOrder():
            return tally(order)
        case RoundOrder():
            return train_round(order)
        case CountOrder():
            return count(order.site)


def count(site: Site) -> Told:
    """Count a site's utterances, and list the classes that it has speech of.

    Raises:
        UsageError: the corpus is not there, or has fewer than two classes.
    """
    labels = [item.label for item in read_corpus(site.recipe, site.path, site.relabel).utterances]
    return {"classes": list(check_classes(sorted(set(labels)))), "utterances": len(labels)}


def train_round(order: RoundOrder) -> Told:
    """Train the networks of a round a little further on a site's own speech.

    Returns:
        ``utterances``, and the ``noise`` (in hundredths of its multiplier) and ``steps`` of a private training.

    Raises:
        SettingsError: the networks are of another architecture, or the training diverged.
    """
    plan = ConsortiumPlan.from_text(order.plan)
    material = _material(order.site, order.classes, plan.encoder, plan.normalization)
    start = load(read_bounded(order.work / QUESTION_FILE, MAX_WEIGHTS_BYTES))
    everybody = np.arange(len(material))
    rows = {EVERYBODY: everybody, HEARD: np.setdiff1d(everybody, _held_out(material, plan))}
    trained: Arrays = {}
    for name in (EVERYBODY, HEARD) if plan.is_estimated else (EVERYBODY,):
        trained |= named(_trained(material, rows[name], order, part(start, name)), name)
    write_atomic(order.work / ANSWER_FILE, save(trained))
    return {"utterances": len(material), **spending(plan, order.utterances)}


def tally(order: TallyOrder) -> Told:
    """Count a site's speech, and test a network on speakers it has not heard.

    Returns:
        ``utterances``, ``speakers``, ``hours``; ``float`` and ``quantized``: counts ``[C * C]`` on the held-out
        speakers, by the network as it came and on the grid of a bundle, where the plan estimates a rate.
    """
    plan = ConsortiumPlan.from_text(order.plan)
    material = _material(order.site, order.classes, plan.encoder, plan.normalization)
    told: Told = {
        "utterances": len(material),
        "speakers": material.num_speakers,
        "hours": material.hours,
        **spending(plan, order.utterances, is_tally=True),
    }
    if not plan.is_estimated:
        return told
    num_classes = len(order.classes)
    network = network_of(plan, num_classes, load(read_bounded(order.work / QUESTION_FILE, MAX_WEIGHTS_BYTES))).eval()
    told["float"] = _confusions(network, material, plan)
    quantize_network(network, ModelForm(ARCHITECTURES[plan.encoder].name, num_classes, plan.normalization))
    return told | {"quantized": _confusions(network, material, plan)}


def private_settings(plan: ConsortiumPlan, num_utterances: int) -> PrivateSettings:
    """Return how a site trains to keep the plan's promise.

    The promise covers all rounds and the tally together.

    Every utterance is at one site alone, so what a site promises its own the whole consortium promises.

    Raises:
        UsageError: the plan's rounds do not divide the steps of a private training, or no noise is enough.
    """
    steps = PrivateSettings(noise_multiplier=1.0).steps
    if steps % plan.rounds:
        raise UsageError(f"{steps} private steps cannot be shared out over {plan.rounds} rounds; plan for 10.")
    of_tally = 1
    noise = noise_for(plan.epsilon, usual_delta(num_utterances), steps + of_tally)
    return PrivateSettings(noise_multiplier=noise, unit="utterance", steps=steps)


def spending(plan: ConsortiumPlan, num_utterances: int, *, is_tally: bool = False) -> dict[str, int]:
    """Return what one answer spends of a site's promise.

    ``noise`` is in hundredths of its multiplier, and ``steps`` count.
    """
    if not plan.epsilon:
        return {}
    private = private_settings(plan, num_utterances)
    steps = 1 if is_tally else private.steps // plan.rounds
    return {"noise": round(100 * private.noise_multiplier), "steps": steps}


def _confusions(network: Network, material: Material, plan: ConsortiumPlan) -> list[int]:
    rows, num_classes = _held_out(material, plan), len(material.classes)
    if not len(rows):
        return [0] * num_classes**2
    predicted = predict_scores(network, material.inputs(rows)).argmax(axis=1)
    return [int(number) for number in confusion(material.labels[rows], predicted, num_classes).ravel()]


def _held_out(material: Material, plan: ConsortiumPlan) -> np.ndarray:
    return held_out_rows(material.speakers, material.labels, plan.seed)


def _trained(material: Material, rows: np.ndarray, order: RoundOrder, arrays: Mapping[str, np.ndarray]) -> Arrays:
    plan, number = ConsortiumPlan.from_text(order.plan), order.number
    network = network_of(plan, len(material.classes), arrays)
    labels = torch.from_numpy(material.labels[rows])
    if plan.epsilon:
        private = private_settings(plan, order.utterances)
        noise_key = secrets.randbits(128)
        steps = _stretch(number, private.steps // plan.rounds)
        train_private(network, material.inputs(rows), labels, private, noise_key=noise_key, steps=steps)
        return snapshot(network)
    settings = replace(plan.training, epochs=plan.rounds * plan.local_epochs)
    epochs = _stretch(number, plan.local_epochs)
    train(network, material.inputs(rows), labels, settings, seed=plan.seed, epochs=epochs, proximal=plan.mu)
    return snapshot(network)


def _stretch(number: int, length: int) -> range:
    """Number what is done in a round, over all rounds from 0."""
    return range((number - 1) * length, number * length)


@lru_cache(maxsize=8)
def _material(site: Site, classes: tuple[str, ...], encoder: str, normalization: str) -> Material:
    """Read a site's corpus; once where one process does all rounds."""
    return read_material(
        [(site.recipe, site.path)],
        classes=classes,
        normalization=normalization,
        encoder=encoder,
        cache_path=site.cache,
        narrator=Narrator(quiet=True),
        relabel=site.relabel,
    )
