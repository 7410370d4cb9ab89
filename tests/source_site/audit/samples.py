"""Material of no corpus: random statistics with a class in them, and answers of models that remember by heart."""

from pathlib import Path

import numpy as np

from ecan_core.model.architectures import ARCHITECTURES
from protocol.bundle.architecture import STATISTICS_DIM
from source_site.training.material import Material

CLASSES = ("anger", "neutral", "sadness")


def random_material(num_utterances: int = 60, *, seed: int = 0, num_speakers: int = 6) -> Material:
    random = np.random.default_rng(seed)
    labels = np.arange(num_utterances) % len(CLASSES)
    values = random.normal(size=(num_utterances, STATISTICS_DIM)).astype(np.float32)
    values[:, : len(CLASSES)] += 2 * np.eye(len(CLASSES))[labels]
    return Material(
        arch=ARCHITECTURES["mlp"],
        normalization="speaker",
        classes=CLASSES,
        values=tuple(values),
        labels=labels,
        speakers=tuple(f"speaker {row % num_speakers}" for row in range(num_utterances)),
        durations_s=(2.0,) * num_utterances,
        digests=tuple(f"{seed}-{row}" for row in range(num_utterances)),
        paths=(Path("nowhere"),) * num_utterances,
    )


def answers(
    members: np.ndarray, labels: np.ndarray, *, remembered: float, hardness: float = 3.0, seed: int = 0
) -> np.ndarray:
    """Logits ``[K, N, 3]``: utterances differ in how hard they are, and members are surer of themselves."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(*members.shape, len(CLASSES)))
    rows = np.arange(len(labels))
    logits[:, rows, labels] += hardness * random.normal(size=len(labels)) + remembered * members
    return logits
