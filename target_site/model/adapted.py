"""Store the adapted model (ADAPTED): weights, normalization, origin.

Never a memory bank.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load, save

from ecan_core.adaptation.site import Ear, Preparation
from ecan_core.model.abstention import Abstention
from ecan_core.model.network import Network
from ecan_core.model.weights import Arrays, to_arrays
from ecan_core.normalization.normalize import Moments, Normalizer
from ecan_core.normalization.voices import Voices
from ecan_core.settings.parse import parse_settings
from protocol.errors import Code, UnauthenticError
from protocol.files import read_bounded, write_atomic
from target_site.model.folder import FACTS, FORMAT, MAX_BYTES, VOICES, WEIGHTS, damaged, file_of_model, read_facts
from target_site.model.load import ModelCard

SOURCE = "source.safetensors"


@dataclass(frozen=True, kw_only=True)
class AdaptedModel:
    """Hold a model that this site adapted.

    Attributes:
        card: how to rebuild the network.
        weights: the adapted weights of each member of the committee, float32.
        received_weights: the weights as they were received.
        preparation: what its inputs are normalized by, from the audio it was adapted to.
        unadapted: the same for the model as it was received.
        temperature: at which its scores are calibrated (`ecan_core.adaptation.calibrate`).
        provenance: how it was made: bundle, method, settings, seed, verdict, versions.
    """

    card: ModelCard
    weights: tuple[Arrays, ...]
    received_weights: Arrays
    preparation: Preparation
    unadapted: Preparation
    temperature: float
    provenance: dict[str, Any]

    @property
    def abstention(self) -> Abstention:
        """Return where it abstained when it was adapted."""
        return parse_settings(Abstention, self.provenance.get("abstention", {}), "the provenance")

    def networks(self) -> tuple[Network, ...]:
        """Build the adapted committee."""
        return tuple(self.card.build(weights) for weights in self.weights)

    def received_network(self) -> Network:
        """Build the network as it was received."""
        return self.card.build(self.received_weights)


def save_adapted(folder: Path, model: AdaptedModel) -> None:
    """Write the model into a new folder, ``adapted.json`` last.

    The folder is from `target_site.model.folder.new_model`. ``adapted.json`` holds the digests of the other files.
    """
    normalizers = {"normalizer": model.preparation.normalizer, "unadapted": model.unadapted.normalizer}
    files = _files(model, normalizers)
    facts = {
        "format": FORMAT,
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
        "card": asdict(model.card),
        "normalizers": {
            name: {"mode": item.mode, "speakers": sorted(item.speakers), "trust": item.trust}
            for name, item in normalizers.items()
        },
        "temperature": model.temperature,
        "provenance": model.provenance,
    }
    for name, data in files.items():
        write_atomic(folder / name, data)
    write_atomic(folder / FACTS, json.dumps(facts, indent=2).encode())


def _files(model: AdaptedModel, normalizers: Mapping[str, Normalizer]) -> dict[str, bytes]:
    """Return the content of a model's files by name, but ``adapted.json``."""
    files = {WEIGHTS: save(_side_by_side(model.weights)), SOURCE: save(model.received_weights)}
    files |= {f"{name}.safetensors": save(_statistics(normalizer)) for name, normalizer in normalizers.items()}
    ear = model.preparation.ear
    if ear is not None:
        networks = _side_by_side([to_arrays(network) for network in ear.networks])
        files[VOICES] = save(networks | asdict(ear.voices))
    elif model.preparation.guessing:
        files[VOICES] = save(_side_by_side([to_arrays(network) for network in model.preparation.guessing]))
    return files


def load_adapted(folder: Path) -> AdaptedModel:
    """Read a model that ``save_adapted`` wrote.

    Raises:
        UsageError: there is no finished adaptation in ``folder``.
        ModelError: its files are damaged or of another version.
        UnauthenticError: a file was changed since it was written.
    """
    facts = read_facts(folder)
    try:
        tensors = partial(_tensors, folder, facts["files"])
        card = ModelCard(**facts["card"] | {"classes": tuple(facts["card"]["classes"])})
        normalizers = {
            name: _normalizer(tensors(f"{name}.safetensors"), **how) for name, how in facts["normalizers"].items()
        }
        normalizer = normalizers["normalizer"]
        return AdaptedModel(
            card=card,
            weights=_apart(tensors(WEIGHTS)),
            received_weights=tensors(SOURCE),
            preparation=_load_preparation(tensors, card, normalizer),
            unadapted=Preparation(normalizer=normalizers["unadapted"]),
            temperature=float(facts["temperature"]),
            provenance=facts["provenance"],
        )
    except (KeyError, TypeError, ValueError, SafetensorError) as fault:
        raise damaged(folder) from fault


def _statistics(normalizer: Normalizer) -> Arrays:
    """Return center and scale of the corpus in row 0, then of speakers.

    The speakers stand by name.
    """
    moments = [normalizer.corpus, *(normalizer.speakers[name] for name in sorted(normalizer.speakers))]
    return {f"{row}.{what}": getattr(item, what) for row, item in enumerate(moments) for what in ("center", "scale")}


def _normalizer(statistics: Arrays, mode: str, speakers: list[str], trust: float) -> Normalizer:
    """Read what `_statistics` wrote."""
    corpus, *rest = (
        Moments(center=statistics[f"{row}.center"], scale=statistics[f"{row}.scale"])
        for row in range(len(speakers) + 1)
    )
    return Normalizer(mode=mode, corpus=corpus, speakers=dict(zip(speakers, rest, strict=True)), trust=trust)


def _load_preparation(read: Callable[[str], Arrays], card: ModelCard, normalizer: Normalizer) -> Preparation:
    """Read what finds the voices of later utterances, where the model asks."""
    if normalizer.mode != "voice":
        return Preparation(normalizer=normalizer)
    tensors = read(VOICES)
    if not normalizer.speakers:  # a speaker encoder hears them
        return Preparation(normalizer=normalizer, guessing=tuple(card.build(weights) for weights in _apart(tensors)))
    voices = Voices(**{field.name: tensors.pop(field.name) for field in fields(Voices)})
    networks = tuple(card.build(weights) for weights in _apart(tensors))
    return Preparation(normalizer=normalizer, ear=Ear(networks=networks, corpus=normalizer.by_corpus(), voices=voices))


def _side_by_side(members: Sequence[Arrays]) -> Arrays:
    """Name the weights of a committee such as ``0.head.bias``."""
    return {f"{index}.{name}": array for index, weights in enumerate(members) for name, array in weights.items()}


def _apart(tensors: Arrays) -> tuple[Arrays, ...]:
    """Read what `_side_by_side` wrote."""
    members: dict[int, Arrays] = {}
    for name, array in tensors.items():
        index, _, own_name = name.partition(".")
        members.setdefault(int(index), {})[own_name] = array
    return tuple(members[index] for index in range(len(members)))


def _tensors(folder: Path, digests: Mapping[str, str], name: str) -> Arrays:
    """Read a file of the model, if it is the one that was written."""
    data = read_bounded(file_of_model(folder, name), MAX_BYTES)
    if hashlib.sha256(data).hexdigest() != digests[name]:
        raise UnauthenticError(Code.DIGEST, f"{folder / name} was changed since the model was made; adapt again.")
    arrays: Arrays = load(data)
    return arrays
