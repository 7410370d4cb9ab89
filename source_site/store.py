"""The trained source model on disk (RUN): float32 weights and the few facts that its manifest will state.

``run.json`` is written last: a folder without it is a training that did not finish. Nothing here names a
file, a speaker or an utterance of the corpus.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ecan_core.errors import ModelError, SettingsError, UsageFault
from ecan_core.settings import parse_settings
from protocol.files import read_bounded, write_atomic

FACTS_FILE = "run.json"
WEIGHTS_FILE = "weights.safetensors"
MAX_WEIGHTS_BYTES = 1 << 30
MAX_FACTS_BYTES = 64 * 1024


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What is known about a trained model besides its weights.

    Attributes:
        arch: architecture name, such as ``mlp-stats-v1``.
        frontend: front end that the network reads.
        normalization: ``none``, ``corpus`` or ``speaker``.
        classes: class names in the order of the head's rows.
        num_utterances: utterances that it was trained on.
        num_speakers: speakers among them.
        hours: their speech, in hours.
        uar_source: UAR on held-out source speakers, 0 to 1.
        seed: seed of the training.
    """

    arch: str
    frontend: str
    normalization: str
    classes: tuple[str, ...]
    num_utterances: int
    num_speakers: int
    hours: float
    uar_source: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class StoredRun:
    """A trained source model.

    Attributes:
        tensors: the network's weights, float32, under their names in a bundle.
        facts: what is known about it.
    """

    tensors: dict[str, np.ndarray]
    facts: RunFacts


def save_run(folder: Path, tensors: Mapping[str, np.ndarray], facts: RunFacts) -> None:
    """Write a trained model into an existing folder, each file whole or not at all.

    Raises:
        StorageFault: the folder cannot be written.
    """
    (folder / FACTS_FILE).unlink(missing_ok=True)
    write_atomic(folder / WEIGHTS_FILE, save(dict(tensors)))
    write_atomic(folder / FACTS_FILE, json.dumps(asdict(facts), indent=2).encode())


def load_run(folder: Path) -> StoredRun:
    """Read a trained model.

    Raises:
        UsageFault: there is no finished training in ``folder``.
        ModelError: its files are damaged or of another version.
    """
    if not (folder / FACTS_FILE).is_file():
        raise UsageFault(f"{folder} holds no finished training; run `ecan-source train --out {folder}` first.")
    try:
        facts = parse_settings(RunFacts, _facts(folder / FACTS_FILE), FACTS_FILE)
        tensors = load(read_bounded(folder / WEIGHTS_FILE, MAX_WEIGHTS_BYTES))
    except (ValueError, SettingsError, SafetensorError) as fault:
        raise ModelError(f"The training run in {folder} is damaged ({fault}); train again.") from fault
    if any(tensor.dtype != np.float32 for tensor in tensors.values()):
        raise ModelError(f"The weights in {folder} are not float32; train again.")
    return StoredRun(tensors=tensors, facts=facts)


def _facts(path: Path) -> dict[str, object]:
    facts = json.loads(read_bounded(path, MAX_FACTS_BYTES))
    if not isinstance(facts, dict):
        raise ValueError("the facts are not an object")
    return facts
