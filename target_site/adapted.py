"""The adapted model on disk (ADAPTED): weights, normalization and what they came from. Never a memory bank.

``adapted.json`` is written last: a folder without it is a run that did not finish.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load, save

from ecan_core.errors import ModelError, UsageFault
from ecan_core.model.network import Network
from ecan_core.model.weights import Arrays
from ecan_core.normalize import Moments, Normalizer
from protocol.files import read_bounded, write_atomic
from target_site.load import ModelCard

FORMAT = 1
MAX_BYTES = 1 << 30
FACTS = "adapted.json"
CACHE_FILE = "features.cache"


@dataclass(frozen=True, kw_only=True)
class AdaptedModel:
    """A model that this site adapted.

    Attributes:
        card: how to rebuild the network.
        weights: the adapted weights, float32.
        source_weights: the weights as they were received.
        normalizer: statistics of the audio it was adapted to.
        receipt: what it was made from and how: bundle, method, settings, seed, verdict, versions.
    """

    card: ModelCard
    weights: Arrays
    source_weights: Arrays
    normalizer: Normalizer
    receipt: dict[str, Any]

    def network(self) -> Network:
        """The adapted network."""
        return self.card.build(self.weights)

    def source_network(self) -> Network:
        """The network as it was received."""
        return self.card.build(self.source_weights)


def discard_adapted(folder: Path) -> None:
    """Mark what a folder holds as unfinished, before anything in it is replaced."""
    (folder / FACTS).unlink(missing_ok=True)


def save_adapted(folder: Path, model: AdaptedModel) -> None:
    """Write the model into ``folder``, each file whole or not at all."""
    speakers = sorted(model.normalizer.speakers)
    moments = [model.normalizer.corpus, *(model.normalizer.speakers[name] for name in speakers)]
    statistics = {f"{row}.center": item.center for row, item in enumerate(moments)} | {
        f"{row}.scale": item.scale for row, item in enumerate(moments)
    }
    facts = {
        "format": FORMAT,
        "card": asdict(model.card),
        "normalization": model.normalizer.mode,
        "speakers": speakers,
        "receipt": model.receipt,
    }
    discard_adapted(folder)
    write_atomic(folder / "weights.safetensors", save(model.weights))
    write_atomic(folder / "source.safetensors", save(model.source_weights))
    write_atomic(folder / "normalizer.safetensors", save(statistics))
    write_atomic(folder / FACTS, json.dumps(facts, indent=2).encode())


def load_adapted(folder: Path) -> AdaptedModel:
    """Read a model that ``save_adapted`` wrote.

    Raises:
        UsageFault: there is no finished adaptation in ``folder``.
        ModelError: its files are damaged or of another version.
    """
    if not (folder / FACTS).is_file():
        raise UsageFault(f"{folder} holds no finished adaptation: run `ecan-target adapt --out {folder}` first")
    try:
        facts = json.loads(read_bounded(folder / FACTS, MAX_BYTES))
        if facts["format"] != FORMAT:
            raise ModelError("this adapted model was written by another version: adapt again from the bundle")
        statistics = _tensors(folder / "normalizer.safetensors")
        moments = [
            Moments(center=statistics[f"{row}.center"], scale=statistics[f"{row}.scale"])
            for row in range(len(facts["speakers"]) + 1)
        ]
        return AdaptedModel(
            card=ModelCard(**facts["card"] | {"classes": tuple(facts["card"]["classes"])}),
            weights=_tensors(folder / "weights.safetensors"),
            source_weights=_tensors(folder / "source.safetensors"),
            normalizer=Normalizer(
                mode=facts["normalization"],
                corpus=moments[0],
                speakers=dict(zip(facts["speakers"], moments[1:], strict=True)),
            ),
            receipt=facts["receipt"],
        )
    except (KeyError, TypeError, ValueError, SafetensorError) as fault:
        raise ModelError(f"the adapted model in {folder} is damaged: adapt again from the bundle") from fault


def _tensors(path: Path) -> Arrays:
    arrays: Arrays = load(read_bounded(path, MAX_BYTES))
    return arrays
