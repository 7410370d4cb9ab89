"""Record how a run was trained: ``training.json`` beside the weights.

The record has all details that are needed to train it again.

It stays at the source. It names no file, speaker or utterance, but whoever holds the corpus can tell by its digests
which utterances were trained on.
"""

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch

from ecan_core.errors import ModelError, SettingsError
from ecan_core.settings.parse import parse_settings
from protocol.errors import ProtocolError
from protocol.files import read_bounded, write_atomic
from source_site.training.material import Material, Recipe
from source_site.training.run_folder import Promise, StoredRun, damaged_run

RECORD_FILE = "training.json"
NOISE_KEY_FILE = "noise.key"
MAX_RECORD_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """Describe what else a training's last bits depend on.

    Besides the corpus, the settings and the seed.

    Attributes:
        threads: threads that torch computes with.
        torch: its version.
        numpy: its version.
        instructions: the processor's instructions that torch uses.
        machine: the processor's kind.
    """

    threads: int
    torch: str
    numpy: str
    instructions: str
    machine: str


@dataclass(frozen=True, kw_only=True)
class TrainingRecord:
    """Describe how a run was trained.

    Attributes:
        encoder: short name of the architecture.
        recipe: how it was trained.
        promise: what a private training promises.
        noise_key: SHA-256 of what a private training drew its first weights and its noise from, in hexadecimal;
            empty for another one. Whoever knows the key can take the noise away, so it lies in a file of its own.
        seed: seed of the training.
        circumstances: what it ran with.
        utterances: `Material.digests`.
        relabel: what labels counted as (`ecan_core.labels.parse_relabel`).
        run_sha256: SHA-256 of the run's weights file, in hexadecimal.
    """

    encoder: str
    recipe: Recipe
    promise: Promise | None
    noise_key: str
    seed: int
    circumstances: Circumstances
    utterances: tuple[str, ...]
    run_sha256: str
    relabel: dict[str, str] = field(default_factory=dict)


def present_circumstances() -> Circumstances:
    """Return what this process computes with."""
    return Circumstances(
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        numpy=np.__version__,
        instructions=torch.backends.cpu.get_cpu_capability(),
        machine=platform.machine(),
    )


def save_record(folder: Path, record: TrainingRecord) -> None:
    """Write how a run was trained beside it.

    Raises:
        FileError: the folder cannot be written.
    """
    write_atomic(folder / RECORD_FILE, json.dumps(asdict(record), indent=2).encode())


def save_noise_key(folder: Path, noise_key: int) -> None:
    """Write the secret that a private training draws from.

    Without the file nobody can repeat the run.

    Raises:
        FileError: the folder cannot be written.
    """
    write_atomic(folder / NOISE_KEY_FILE, f"{noise_key:032x}".encode())


def load_noise_key(folder: Path, record: TrainingRecord) -> int:
    """Read what a training drew from; 0 for one that was not private.

    Raises:
        ModelError: the file is gone, or of another training.
    """
    if record.recipe.private is None:
        return 0
    try:
        text = read_bounded(folder / NOISE_KEY_FILE, 32)
        if _digest_of(int(text, 16)) == record.noise_key:
            return int(text, 16)
    except (ProtocolError, ValueError) as fault:
        raise _no_noise_key(folder) from fault
    raise _no_noise_key(folder)


def _no_noise_key(folder: Path) -> ModelError:
    return ModelError(f"{folder / NOISE_KEY_FILE} is gone or of another training, so it cannot be done again.")


def _digest_of(noise_key: int) -> str:
    return hashlib.sha256(f"{noise_key:032x}".encode()).hexdigest()


def load_record(folder: Path, run: StoredRun) -> TrainingRecord:
    """Read how a run was trained.

    Raises:
        ModelError: that is not known, or it is the record of another training.
    """
    if not (folder / RECORD_FILE).is_file():
        raise ModelError(f"The run in {folder} does not say how it was trained; train again with this version.")
    try:
        fields = json.loads(read_bounded(folder / RECORD_FILE, MAX_RECORD_BYTES))
        record = parse_settings(TrainingRecord, fields, RECORD_FILE)
    except (ValueError, RecursionError, SettingsError) as fault:
        raise damaged_run(folder, str(fault)) from fault
    if record.run_sha256 != run.digest.hex():
        raise damaged_run(folder, f"{RECORD_FILE} is of another training than the weights")
    return record


def differences(record: TrainingRecord, other: TrainingRecord) -> Iterator[str]:
    """Yield the differences of two trainings besides their weights.

    Each is half a sentence.
    """
    yield from _other_settings(record.recipe.settings, other.recipe.settings)
    if (record.recipe.private is None) != (other.recipe.private is None):
        yield f"private training was {_on(record)} and is {_on(other)}"
    elif record.recipe.private is not None and other.recipe.private is not None:
        yield from _other_settings(record.recipe.private, other.recipe.private)
    if record.noise_key != other.noise_key:
        yield "the noise was drawn from another key"
    for name in ("encoder", "seed"):
        if (value := getattr(record, name)) != (now := getattr(other, name)):
            yield f"the {name} was {value} and is {now}"
    if record.relabel != other.relabel:
        yield f"labels counted as {_told(record.relabel)} and count as {_told(other.relabel)}"
    for name, value in asdict(record.circumstances).items():
        if (now := getattr(other.circumstances, name)) != value:
            yield f"{name} was {value} and is {now}"
    yield from _other_utterances(record.utterances, other.utterances)


def record_of(
    material: Material,
    encoder: str,
    recipe: Recipe,
    seed: int,
    digest: bytes,
    *,
    promise: Promise | None = None,
    noise_key: int = 0,
    relabel: dict[str, str] | None = None,
) -> TrainingRecord:
    """Return the record of a training that just ended in this process."""
    return TrainingRecord(
        encoder=encoder,
        recipe=recipe,
        promise=promise,
        noise_key="" if recipe.private is None else _digest_of(noise_key),
        seed=seed,
        circumstances=present_circumstances(),
        utterances=material.digests,
        run_sha256=digest.hex(),
        relabel=relabel or {},
    )


def _other_settings(before: object, now: object) -> Iterator[str]:
    for name, value in vars(before).items():
        if (other := getattr(now, name)) != value:
            yield f"the setting {name} was {value} and is {other}"


def _told(relabel: Mapping[str, str]) -> str:
    return ", ".join(f"{word}={name}" for word, name in sorted(relabel.items())) or "themselves"


def _on(record: TrainingRecord) -> str:
    return "off" if record.recipe.private is None else "on"


def _other_utterances(before: tuple[str, ...], now: tuple[str, ...]) -> Iterator[str]:
    gone, new = len(set(before) - set(now)), len(set(now) - set(before))
    if gone or new:
        places = [place for place, digest in enumerate(now) if digest not in set(before)][:3]
        where = f" (the first at place {', '.join(str(1 + place) for place in places)} of the corpora)" if new else ""
        yield f"{gone} utterance(s) of the training are not there and {new} are others{where}"
    elif before != now:
        yield "the utterances are the same in another order or number"
