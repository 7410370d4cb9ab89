"""The adaptation methods by the name that ``--method`` takes."""

from typing import Protocol

from ecan_core.adapt import AdaptSettings, EpochRecord, OnEpoch, adapt
from ecan_core.baselines.aad import adapt_aad
from ecan_core.baselines.shot import adapt_shot_im
from ecan_core.baselines.source_only import adapt_none
from ecan_core.data.inputs import Inputs
from ecan_core.model.network import Network


class Method(Protocol):
    """Adapts a network in place to unlabelled inputs; returns one record per epoch."""

    def __call__(
        self,
        network: Network,
        inputs: Inputs,
        settings: AdaptSettings,
        *,
        seed: int,
        on_epoch: OnEpoch | None = None,
    ) -> list[EpochRecord]: ...


METHODS: dict[str, Method] = {
    "ecan": adapt,
    "none": adapt_none,
    "shot-im": adapt_shot_im,
    "aad": adapt_aad,
}
