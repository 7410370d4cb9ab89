"""Load a network from a verified bundle.

This is the one place where the protocol's words become the core's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ecan_core.audio.frontend import FrontEnd
from ecan_core.encoders.front_end import front_end_named
from ecan_core.model.architectures import architecture, build_network
from ecan_core.model.network import Network
from ecan_core.model.weights import load_arrays
from ecan_core.normalization.voices import normalization_for
from protocol.bundle.trust import VerifiedBundle
from protocol.encoders.registry import encoder_of
from protocol.encoders.store import place_of


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """Describe what rebuilds a network besides its weights.

    Attributes:
        arch: architecture name.
        normalization: how the source normalized: ``none``, ``corpus`` or ``speaker``.
        classes: class names in the order of the head's rows.
        added_encoder: SHA-256 of the encoder that it is read by, in hexadecimal, where each site adds that itself.
    """

    arch: str
    normalization: str
    classes: tuple[str, ...]
    added_encoder: str = ""

    def front_end(self, encoders: Path = Path()) -> FrontEnd:
        """Return the front end that the network reads.

        Args:
            encoders: folder of public encoders; only what computes features needs it.

        Raises:
            ModelError: this version does not know it.
        """
        name, encoder = architecture(self.arch).front_end, encoder_of(self.arch, self.added_encoder)
        if encoder is None:
            return front_end_named(name)
        return front_end_named(name, place_of(encoders, encoder), encoder.sha256)

    def build(self, weights: Mapping[str, np.ndarray]) -> Network:
        """Build a network with these weights."""
        network = build_network(
            architecture(self.arch),
            input_dim=self.front_end().dim,
            num_classes=len(self.classes),
            normalization=self.normalization,
        )
        load_arrays(network, weights)
        return network


def model_card(bundle: VerifiedBundle) -> ModelCard:
    """Return what a verified bundle's manifest says about its network."""
    stated = bundle.manifest
    return ModelCard(
        arch=stated.arch, normalization=stated.norm, classes=stated.classes, added_encoder=stated.encoder.hex()
    )


def choose_normalization(card: ModelCard, wanted: str | None, *, speakers_known: bool) -> str:
    """Choose how the target normalizes what a model reads.

    Raises:
        UsageError: the model cannot be normalized as wished.
    """
    return normalization_for(card.normalization, card.front_end().feature_names, wanted, speakers_known=speakers_known)
