"""What a site does for a federation, on its own speech. Flower is not known here; what is returned is what leaves."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ecan_core.corpora import read_corpus
from ecan_core.errors import SettingsError, UsageFault
from ecan_core.labels import check_classes
from ecan_core.metrics import confusion
from ecan_core.model.weights import snapshot
from ecan_core.narrator import Narrator
from ecan_core.predict import predict_scores
from ecan_core.private import PrivateSettings, train_private
from ecan_core.settings import parse_settings
from ecan_core.train import train
from source_site.federation.plan import EVERYBODY, HEARD, Arrays, Plan, named, network_of, part
from source_site.material import Material, read_material
from source_site.privacy import settings_for, usual_delta
from source_site.train import held_out_rows


@dataclass(frozen=True, kw_only=True)
class Site:
    """What a site brings in, and what it insists on. Its operator sets this; no plan can change it.

    Attributes:
        recipe: how its corpus is laid out.
        path: where it lies.
        cache: where front-end outputs are kept between rounds.
        relabel: what its labels are to count as, such as ``calm=neutral,excitement=happiness``.
        secure: whether it takes part in secure aggregation alone.
        max_epsilon: the largest promise that it takes part for; 0 takes part without one.
    """

    recipe: str
    path: Path
    cache: Path
    relabel: str = ""
    secure: bool = False
    max_epsilon: float = 0.0

    @property
    def meaning(self) -> dict[str, str]:
        """What labels count as."""
        pairs = [pair.partition("=") for pair in self.relabel.split(",") if pair]
        return {before.strip(): after.strip() for before, _, after in pairs}


class Tally(NamedTuple):
    """What a site tells of its corpus: sums over all of it.

    Attributes:
        num_utterances: utterances that it trained on.
        num_speakers: speakers among them.
        hours: their speech.
        confusions: counts ``[C, C]`` on its held-out speakers for each network that it was asked about.
    """

    num_utterances: int
    num_speakers: int
    hours: float
    confusions: dict[str, np.ndarray]


def site_from(node_config: Mapping[str, object]) -> Site:
    """A site as its operator described it to its node.

    Raises:
        SettingsError: a setting is missing or unknown.
    """
    engine = ("partition-id", "num-partitions")
    return parse_settings(Site, {name: value for name, value in node_config.items() if name not in engine}, "the node")


def accept(site: Site, plan: Plan, *, secure: bool) -> None:
    """Refuse a plan that asks for more than the site gives.

    Args:
        site: the site.
        plan: what is asked for.
        secure: whether what leaves will be masked.

    Raises:
        SettingsError: the plan gives less protection than the site insists on.
    """
    if (site.secure or plan.secure) and not secure:
        raise SettingsError("this site takes part in secure aggregation alone; plan it with --secure")
    if site.max_epsilon and not 0 < plan.epsilon <= site.max_epsilon:
        raise SettingsError(f"this site promises its utterances an epsilon of {site.max_epsilon:g}; plan for that")


def classes_of(site: Site) -> tuple[str, ...]:
    """The classes that a site has speech of.

    Raises:
        UsageFault: the corpus is not there, or has fewer than two classes.
    """
    labels = {item.label for item in read_corpus(site.recipe, site.path).utterances}
    return check_classes(sorted({site.meaning.get(label, label) for label in labels}))


def train_round(
    site: Site, plan: Plan, classes: tuple[str, ...], arrays: Mapping[str, np.ndarray], round_number: int
) -> Arrays:
    """Train the networks of a round a little further on a site's own speech.

    Args:
        site: the site.
        plan: what was agreed on.
        classes: class names in the order of the head's rows.
        arrays: the networks as all sites have them at the start of the round.
        round_number: from 1 to ``plan.rounds``.

    Returns:
        The networks as this site has them at the end.

    Raises:
        SettingsError: the round is none of the plan's, or the training diverged.
    """
    if not 1 <= round_number <= plan.rounds:
        raise SettingsError(f"round {round_number} is none of the {plan.rounds} that the plan has; start a new run")
    material = _material(site, classes, plan.encoder, plan.normalization)
    everybody = np.arange(len(material))
    rows = {EVERYBODY: everybody, HEARD: np.setdiff1d(everybody, _held_out(material, plan))}
    trained: Arrays = {}
    for name in (EVERYBODY, HEARD) if plan.is_estimated else (EVERYBODY,):
        trained |= named(_trained(material, rows[name], plan, part(arrays, name), round_number), name)
    return trained


def tally(site: Site, plan: Plan, classes: tuple[str, ...], arrays: Mapping[str, np.ndarray]) -> Tally:
    """Count a site's speech, and how well networks recognize its held-out speakers.

    Args:
        site: the site.
        plan: what was agreed on.
        classes: class names in the order of the head's rows.
        arrays: networks that have not heard these speakers, as ``NAME/tensor``.
    """
    material = _material(site, classes, plan.encoder, plan.normalization)
    rows, confusions = _held_out(material, plan), {}
    for name in sorted({key.split("/")[0] + "/" for key in arrays}):
        network = network_of(plan, len(classes), part(arrays, name)).eval()
        counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
        if len(rows):
            predicted = predict_scores(network, material.inputs(rows)).argmax(axis=1)
            counts = confusion(material.labels[rows], predicted, len(classes))
        confusions[name] = counts
    return Tally(len(material), material.num_speakers, material.hours, confusions)


def _held_out(material: Material, plan: Plan) -> np.ndarray:
    return held_out_rows(material.speakers, material.labels, plan.seed)


def _trained(
    material: Material, rows: np.ndarray, plan: Plan, arrays: Mapping[str, np.ndarray], round_number: int
) -> Arrays:
    network = network_of(plan, len(material.classes), arrays)
    labels = torch.from_numpy(material.labels[rows])
    if plan.epsilon:
        private = private_settings(plan, len(rows))
        noise_key = secrets.randbits(128)
        steps = _stretch(round_number, private.steps // plan.rounds)
        train_private(network, material.inputs(rows), labels, private, noise_key=noise_key, steps=steps)
        return snapshot(network)
    settings = replace(plan.training, epochs=plan.rounds * plan.local_epochs)
    epochs = _stretch(round_number, plan.local_epochs)
    train(network, material.inputs(rows), labels, settings, seed=plan.seed, epochs=epochs, proximal=plan.mu)
    return snapshot(network)


def private_settings(plan: Plan, num_utterances: int) -> PrivateSettings:
    """How a site trains to keep the plan's promise over all rounds together.

    Every utterance is at one site alone, so what a site promises its own the whole consortium promises.

    Raises:
        UsageFault: the plan's rounds do not divide the steps of a private training, or no noise is enough.
    """
    private = settings_for(plan.epsilon, usual_delta(num_utterances), unit="utterance")
    if private.steps % plan.rounds:
        raise UsageFault(f"{private.steps} private steps cannot be shared out over {plan.rounds} rounds; plan for 10.")
    return private


def _stretch(round_number: int, length: int) -> range:
    """Numbers of what is done in a round, over all rounds from 0."""
    return range((round_number - 1) * length, round_number * length)


@lru_cache(maxsize=8)
def _material(site: Site, classes: tuple[str, ...], encoder: str, normalization: str) -> Material:
    """A site's corpus; read once where one process does all rounds."""
    return read_material(
        [(site.recipe, site.path)],
        classes=classes,
        normalization=normalization,
        encoder=encoder,
        cache_path=site.cache,
        narrator=Narrator(quiet=True),
        meaning=site.meaning,
    )
