"""Register the networks that a bundle can carry."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from ecan_core.encoders import whisper
from ecan_core.errors import ModelError
from ecan_core.model.encoder import Encoder, FrameEncoder, StatisticsEncoder
from ecan_core.model.network import Network, Standardize
from ecan_core.runtime.seeding import seeded

EMBEDDING_DIM = 128


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Identify a network.

    Attributes:
        name: its name in the bundle.
        front_end: what it reads.
        encoder: makes its first part for an input of so many columns.
    """

    name: str
    front_end: str
    encoder: Callable[[int], Encoder]


ARCHITECTURES = {
    "mlp": Architecture(name="mlp-stats-v1", front_end="stats-v1", encoder=StatisticsEncoder),
    "tdnn": Architecture(name="tdnn-frames-v1", front_end="frames-v1", encoder=FrameEncoder),
    "mlp-whisper": Architecture(
        name="mlp-stats-whisper-v1",
        front_end="stats-whisper-v1",
        encoder=partial(StatisticsEncoder, width=96, num_heard=whisper.DIM),
    ),
    "mlp-ssl-768": Architecture(
        name="mlp-stats-ssl-768-v1",
        front_end="stats-ssl-768-v1",
        encoder=partial(StatisticsEncoder, width=96, num_heard=768),
    ),
    "mlp-ssl-1024": Architecture(
        name="mlp-stats-ssl-1024-v1",
        front_end="stats-ssl-1024-v1",
        encoder=partial(StatisticsEncoder, width=80, num_heard=1024),
    ),
}
"""Architectures by their short names, which a run's record keeps."""


def architecture(name: str) -> Architecture:
    """Return the architecture called ``name`` in a bundle."""
    for candidate in ARCHITECTURES.values():
        if candidate.name == name:
            return candidate
    raise ModelError(f"this version does not know the architecture {name!r}; install a newer ecan-ser")


def build_network(
    arch: Architecture, *, input_dim: int, num_classes: int, normalization: str, seed: int = 0
) -> Network:
    """Build a freshly initialized network.

    Args:
        arch: which network.
        input_dim: width of the front end (S statistics or M frame columns).
        num_classes: C.
        normalization: with ``none`` the network carries the source's own center and scale.
        seed: seed of the initialization.
    """
    with seeded(seed):
        return Network(
            encoder=arch.encoder(input_dim),
            embedding_dim=EMBEDDING_DIM,
            num_classes=num_classes,
            standardize=Standardize(input_dim) if normalization == "none" else None,
        )
