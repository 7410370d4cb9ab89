"""No adaptation: the row that every other method is measured against."""

from ecan_core.adapt import AdaptSettings, EpochRecord, OnEpoch
from ecan_core.data.inputs import Inputs
from ecan_core.model.network import Network


def adapt_none(
    network: Network,
    inputs: Inputs,
    settings: AdaptSettings,
    *,
    seed: int,
    on_epoch: OnEpoch | None = None,
) -> list[EpochRecord]:
    """Leave the source model as it is; all arguments but the signature's sake are unused."""
    return []
