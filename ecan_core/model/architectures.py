"""Register the networks that a bundle can carry."""

from dataclasses import dataclass

from ecan_core.errors import ModelError
from ecan_core.model.encoder import FrameEncoder, StatisticsEncoder
from ecan_core.model.network import Network, Standardize
from ecan_core.runtime.seeding import seeded

FEATURE_DIM = 128


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Identify a network: its name in the bundle, front end and encoder."""

    name: str
    front_end: str
    encoder: type[StatisticsEncoder] | type[FrameEncoder]


ARCHITECTURES = {
    "mlp": Architecture(name="mlp-stats-v1", front_end="stats-v1", encoder=StatisticsEncoder),
    "tdnn": Architecture(name="tdnn-frames-v1", front_end="frames-v1", encoder=FrameEncoder),
}
"""Architectures by the short name that ``--encoder`` takes."""
MLP_WHISPER = Architecture(name="mlp-stats-whisper-v1", front_end="stats-whisper-v1", encoder=StatisticsEncoder)
"""The network on statistics and a public encoder; no bundle can name that encoder yet, so no command offers it."""


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
            feature_dim=FEATURE_DIM,
            num_classes=num_classes,
            standardize=Standardize(input_dim) if normalization == "none" else None,
        )
