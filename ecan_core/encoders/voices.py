"""Hear who speaks by a public speaker encoder.

Utterances whose embeddings lie close together are one voice.

Unlike the voices of `ecan_core.normalization.voices` these need no guess of the emotions, and there are as many as are
heard. Embeddings identify a person. They live as long as the call that needs them: only the voices' names go on.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ecan_core.audio.waveform import Waveform
from ecan_core.encoders import campplus
from ecan_core.encoders.campplus import CamPlusPlus, Samples
from ecan_core.encoders.weights import read_weights
from ecan_core.runtime.threads import one_thread

Array = npt.NDArray[np.float64]

SAME_VOICE = 0.6
"""Cosine distance up to which two groups of utterances, on average, are one voice.

Chosen on development corpora, for the published network. A package that ships its weights cuts the embedding's negative
half off; distances are smaller there, and 0.45 does about the same.
"""
MOST_GROUPED = 4096
"""So many utterances, drawn at random from a larger corpus, are enough to find the voices by."""


@dataclass(frozen=True, kw_only=True)
class VoiceFrontEnd:
    """Compute an utterance's embedding, for `group_voices` and no cache.

    Attributes:
        path: The encoder's canonical file.
        encoder_sha256: Its hash, in hexadecimal.
    """

    path: Path
    encoder_sha256: str
    name: str = "campplus"
    dim: int = campplus.DIM
    feature_names: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """Return what tells encoders apart; the weights are read with it."""
        load_campplus(self.path, self.encoder_sha256)
        return self.encoder_sha256

    def compute(self, waveform: Waveform) -> npt.NDArray[np.float32]:
        """Compute a point on the unit sphere, [192]: biometric data."""
        embedded = embed_voices(load_campplus(self.path, self.encoder_sha256), [waveform.samples])
        return embedded.reshape(-1)


@lru_cache(maxsize=1)
def load_campplus(path: Path, encoder_sha256: str) -> CamPlusPlus:
    """Read the encoder once in a process.

    Raises:
        ModelError: The file is missing, damaged or another one.
    """
    return CamPlusPlus(read_weights(path, encoder_sha256, campplus.tensor_shapes()))


def embed_voices(encoder: CamPlusPlus, sounds: Iterable[Samples]) -> npt.NDArray[np.float32]:
    """Compute the embedding of every utterance on one thread.

    Args:
        encoder: The speaker encoder.
        sounds: N utterances at 16 kHz, [T] each.

    Returns:
        Points on the unit sphere, [N, 192]: biometric data, to be dropped as soon as the voices are named.
    """
    with one_thread():
        embedded = [encoder.embed(sound) for sound in sounds]
    return np.stack(embedded) if embedded else np.zeros((0, campplus.DIM), dtype=np.float32)


def group_voices(embeddings: npt.ArrayLike, *, seed: int) -> tuple[str, ...]:
    """Name the voice of each utterance.

    Average linkage on cosine distances, cut at `SAME_VOICE`.
    Of more than `MOST_GROUPED` utterances some are drawn and grouped; the others go to the nearest center.

    Args:
        embeddings: Of unit length, [N, 192].
        seed: Seed of the draw.
    """
    points = np.asarray(embeddings, dtype=np.float64)
    if len(points) <= MOST_GROUPED:
        groups = _linked(points)
    else:
        drawn = points[np.random.default_rng(seed).permutation(len(points))[:MOST_GROUPED]]
        groups = (points @ _centers(drawn, _linked(drawn)).T).argmax(axis=1)
    return tuple(f"voice {group}" for group in groups)


def _linked(points: Array) -> npt.NDArray[np.intp]:
    """Return the group of each point, [N], numbered by their first points."""
    from scipy.cluster.hierarchy import fcluster, linkage

    if len(points) < 2:
        return np.zeros(len(points), dtype=np.intp)
    labels = fcluster(linkage(points, "average", metric="cosine"), SAME_VOICE, "distance")
    _, first, group = np.unique(labels, return_index=True, return_inverse=True)
    ranks: npt.NDArray[np.intp] = first.argsort().argsort()[group]
    return ranks


def _centers(points: Array, groups: npt.NDArray[np.intp]) -> Array:
    """Return the direction of each group's mean, [V, 192]."""
    sums = np.zeros((int(groups.max(initial=-1)) + 1, points.shape[1]))
    np.add.at(sums, groups, points)
    centers: Array = sums / np.linalg.norm(sums, axis=1, keepdims=True).clip(1e-12)
    return centers
