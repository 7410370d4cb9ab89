"""Store the trained source model (RUN): float32 weights and facts.

The few facts that its manifest will state.

``run.json`` is written last: a folder without it is a training that did not finish. Nothing here names a
file, a speaker or an utterance of the corpus. Nobody but the gate parses the weights again, see
`source_site.release.gate`; here they are bytes.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from safetensors.numpy import save

from ecan_core.errors import ModelError, SettingsError, UsageError
from ecan_core.settings.checks import non_negative, positive
from ecan_core.settings.parse import parse_settings
from protocol.bundle.form import ModelForm
from protocol.files import read_bounded, write_atomic

FACTS_FILE = "run.json"
WEIGHTS_FILE = "weights.safetensors"
MAX_WEIGHTS_BYTES = 256 * 1024 * 1024
MAX_FACTS_BYTES = 64 * 1024

_LIKELY_KINDS = {b"PK\x03\x04": "a zip archive or a PyTorch checkpoint", b"\x80": "a pickle"}


@dataclass(frozen=True, kw_only=True)
class Promise:
    """Describe what a private training promises.

    Attributes:
        epsilon: how much one unit can change the odds of any outcome, at most, as a logarithm.
        delta: probability that it can change them more.
        unit: what is protected.
    """

    epsilon: float
    delta: float
    unit: Literal["utterance", "speaker"]


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """Hold what is known about a trained model besides its weights.

    Attributes:
        arch: architecture name, such as ``mlp-stats-v1``.
        frontend: front end that the network reads.
        normalization: ``none``, ``corpus`` or ``speaker``.
        classes: class names in the order of the head's rows.
        num_utterances: utterances that it was trained on.
        num_speakers: speakers among them.
        hours: their speech, in hours.
        uar_source: UAR of the quantized network, which is what leaves, on held-out source speakers, 0 to 1; 0 where
            it was not estimated.
        uar_float: the same before quantization.
        seed: seed of the training.
        added_encoder: SHA-256 of the encoder that it is read by, in hexadecimal, where the site has added that; empty
            where ``arch`` fixes it or there is none.
    """

    arch: str
    frontend: str
    normalization: str
    classes: tuple[str, ...]
    num_utterances: int
    num_speakers: int
    hours: float
    uar_source: float
    uar_float: float
    seed: int
    added_encoder: str = ""

    def __post_init__(self) -> None:
        positive(self, "num_utterances", "hours")
        non_negative(self, "num_speakers", "uar_source", "uar_float")
        if not re.fullmatch("([0-9a-f]{64})?", self.added_encoder):
            raise SettingsError("added_encoder must be 64 hexadecimal digits")

    @property
    def form(self) -> ModelForm:
        """Return the form of its weights."""
        return ModelForm(self.arch, len(self.classes), self.normalization)

    @property
    def quantization_loss(self) -> float | None:
        """Return the UAR that quantization costs, negative for a gain.

        0 to 1; None where it was not estimated.
        """
        return round(self.uar_float - self.uar_source, 4) if self.uar_float or self.uar_source else None


@dataclass(frozen=True, kw_only=True)
class StoredRun:
    """Hold a trained source model.

    Attributes:
        weights: the safetensors file with the network's float32 tensors, unread.
        facts: what is known about it.
    """

    weights: bytes = field(repr=False)
    facts: RunFacts

    @property
    def digest(self) -> bytes:
        """Return the SHA-256 of the weights, 32 bytes.

        The ledger tells models apart by it.
        """
        return hashlib.sha256(self.weights).digest()


def save_run(folder: Path, tensors: Mapping[str, np.ndarray], facts: RunFacts) -> None:
    """Write a trained model into a folder, each file whole or not at all.

    The folder must exist.

    Raises:
        FileError: the folder cannot be written.
    """
    (folder / FACTS_FILE).unlink(missing_ok=True)
    write_atomic(folder / WEIGHTS_FILE, save(dict(tensors)))
    write_atomic(folder / FACTS_FILE, json.dumps(asdict(facts), indent=2).encode())


def load_run(folder: Path) -> StoredRun:
    """Read a trained model; its weights stay bytes.

    Raises:
        UsageError: there is no finished training in ``folder``.
        ModelError: its facts are damaged or of another version, or its weights are another kind of file.
    """
    if not (folder / FACTS_FILE).is_file():
        raise UsageError(f"{folder} holds no finished training; run `ecan-source train --out {folder}` first.")
    try:
        facts = parse_settings(RunFacts, _facts(folder / FACTS_FILE), FACTS_FILE)
    except (ValueError, RecursionError, SettingsError) as fault:
        raise damaged_run(folder, str(fault)) from fault
    weights = read_bounded(folder / WEIGHTS_FILE, MAX_WEIGHTS_BYTES)
    if weights[8:9] != b"{":
        kinds = (kind for start, kind in _LIKELY_KINDS.items() if weights.startswith(start))
        raise damaged_run(folder, f"{WEIGHTS_FILE} is not a safetensors file but {next(kinds, 'something else')}")
    return StoredRun(weights=weights, facts=facts)


def damaged_run(folder: Path, why: str) -> ModelError:
    """Return the error for a training run that cannot be used."""
    return ModelError(f"The training run in {folder} is damaged ({why}); train again.")


def _facts(path: Path) -> dict[str, object]:
    facts = json.loads(read_bounded(path, MAX_FACTS_BYTES))
    if not isinstance(facts, dict):
        raise ValueError("the facts are not an object")
    return facts
