"""Models on disk that nobody has trained: enough for what asks only that there is one."""

from pathlib import Path

import numpy as np

from ecan_core.adaptation.site import Preparation
from ecan_core.audio.frontend import FRONT_ENDS
from ecan_core.model.architectures import ARCHITECTURES, build_network
from ecan_core.model.weights import to_arrays
from ecan_core.normalization.normalize import Moments, Normalizer
from target_site.model.adapted import AdaptedModel, save_adapted
from target_site.model.folder import finish_replacement, new_model
from target_site.model.load import ModelCard

DIM = FRONT_ENDS["stats-v1"].dim


def save_untrained(folder: Path) -> Path:
    """Write a model as `adapt` does."""
    network = build_network(ARCHITECTURES["mlp"], input_dim=DIM, num_classes=2, normalization="corpus", seed=0)
    moments = Moments(center=np.zeros(DIM, np.float32), scale=np.ones(DIM, np.float32))
    by_corpus = Preparation(normalizer=Normalizer(mode="corpus", corpus=moments))
    folder.mkdir(parents=True, exist_ok=True)
    with new_model(folder) as incoming:
        save_adapted(
            incoming,
            AdaptedModel(
                card=ModelCard(arch="mlp-stats-v1", normalization="corpus", classes=("anger", "fear")),
                weights=(to_arrays(network),),
                received_weights=to_arrays(network),
                preparation=by_corpus,
                unadapted=by_corpus,
                temperature=1.0,
                provenance={"issuer": "00" * 32, "weights_sha256": "00" * 32, "abstention": {"least_confidence": 0.5}},
            ),
        )
    finish_replacement(folder)
    return folder
