"""List the adaptation methods by the name that ``--method`` takes."""

from typing import Protocol

from ecan_core.adaptation.ecan import adapt
from ecan_core.adaptation.given import GivenLabels
from ecan_core.adaptation.loop import Adaptation, OnEpoch
from ecan_core.adaptation.relatives.aad import adapt_aad
from ecan_core.adaptation.relatives.adabn import adapt_adabn
from ecan_core.adaptation.relatives.cahtn import adapt_cahtn
from ecan_core.adaptation.relatives.cowa import adapt_cowa
from ecan_core.adaptation.relatives.lame import adapt_lame
from ecan_core.adaptation.relatives.nrc import adapt_nrc
from ecan_core.adaptation.relatives.shot import adapt_shot, adapt_shot_im
from ecan_core.adaptation.relatives.source_only import adapt_none
from ecan_core.adaptation.relatives.t3a import adapt_t3a
from ecan_core.adaptation.relatives.tent import adapt_tent
from ecan_core.adaptation.relatives.ucon import adapt_ucon
from ecan_core.adaptation.settings import AdaptSettings
from ecan_core.data.inputs import Inputs
from ecan_core.model.network import Network


class Method(Protocol):
    """Adapt a network in place to unlabelled inputs."""

    def __call__(
        self,
        network: Network,
        inputs: Inputs,
        settings: AdaptSettings,
        *,
        seed: int,
        on_epoch: OnEpoch | None = None,
    ) -> Adaptation: ...


class GuidedMethod(Method, Protocol):
    """Adapt a network in place, with the labels of some inputs."""

    def __call__(
        self,
        network: Network,
        inputs: Inputs,
        settings: AdaptSettings,
        *,
        seed: int,
        on_epoch: OnEpoch | None = None,
        given: GivenLabels | None = None,
    ) -> Adaptation: ...


METHODS: dict[str, Method] = {
    "ecan": adapt,
    "none": adapt_none,
    "adabn": adapt_adabn,
    "t3a": adapt_t3a,
    "tent": adapt_tent,
    "shot-im": adapt_shot_im,
    "shot": adapt_shot,
    "nrc": adapt_nrc,
    "aad": adapt_aad,
    "ucon": adapt_ucon,
    "cahtn": adapt_cahtn,
    "cowa": adapt_cowa,
}
"""What ``--method`` takes: each leaves a network that can be saved and used again."""

GUIDED: dict[str, GuidedMethod] = {"ecan": adapt, "shot-im": adapt_shot_im, "cowa": adapt_cowa}
"""The methods that learn from labels, where an operator gives some."""

SCORING_METHODS: dict[str, Method] = {"lame": adapt_lame}
"""What leaves the network as it is and gives these utterances other scores; no command offers it, because there is
nothing to save."""
