"""Adapt nothing: every other method is measured against this row."""

from ecan_core.adaptation.loop import Adaptation, OnEpoch
from ecan_core.adaptation.settings import AdaptSettings
from ecan_core.data.inputs import Inputs
from ecan_core.model.network import Network
from ecan_core.model.predict import predict_scores


def adapt_none(
    network: Network,
    inputs: Inputs,
    settings: AdaptSettings,
    *,
    seed: int,
    on_epoch: OnEpoch | None = None,
) -> Adaptation:
    """Leave the source model as it is."""
    return Adaptation([], predict_scores(network, inputs))
