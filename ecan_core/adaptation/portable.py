"""Express a site's model as one module of plain tensors.

It goes from front-end outputs to calibrated scores, for other runtimes.

It does what `ecan_core.adaptation.site.Preparation` and `ecan_core.model.predict` do in steps. A speaker is a number
here: a row of the site's speakers. An utterance of an unknown speaker has row 0, the corpus; `predict` would take such
a speaker's own moments, for which it needs several utterances at once.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ecan_core.adaptation.site import Ear, Preparation
from ecan_core.model.network import Network
from ecan_core.normalization.normalize import CLAMP, Normalizer


class PortableModel(nn.Module):
    """Compute calibrated scores ``[N, C]`` of statistics ``[N, S]``.

    The module is in evaluation mode.

    Args:
        networks: the committee.
        preparation: how its inputs are normalized.
        temperature: at which its scores are calibrated.
    """

    center: Tensor
    scale: Tensor

    def __init__(self, networks: Sequence[Network], preparation: Preparation, temperature: float) -> None:
        super().__init__()
        normalizer = preparation.normalizer
        self.networks = nn.ModuleList(networks)
        self.normalizes = normalizer.mode != "none"
        self.temperature = temperature
        moments = [normalizer.corpus, *(normalizer.speakers[name] for name in speakers_of(normalizer))]
        self.register_buffer("center", torch.from_numpy(np.stack([item.center for item in moments])))
        self.register_buffer("scale", torch.from_numpy(np.stack([item.scale for item in moments])))
        self.ear = None if preparation.ear is None else PortableEar(preparation.ear, speakers_of(normalizer))
        self.eval()

    def forward(self, features: Tensor, speaker: Tensor) -> Tensor:
        """Return the scores of ``features`` ``[N, S]``.

        ``speaker`` ``[N]`` counts from 1; 0 is a speaker who is not known.
        """
        if self.ear is not None:
            speaker = self.ear(self._normalize(features, torch.zeros_like(speaker)))
        return _soften(committee(self.networks, self._normalize(features, speaker)), self.temperature)

    def _normalize(self, features: Tensor, rows: Tensor) -> Tensor:
        if not self.normalizes:
            return features
        return ((features - self.center[rows]) / self.scale[rows]).clamp(-CLAMP, CLAMP)


class PortableEar(nn.Module):
    """Find the voice nearest to each utterance, as a row.

    It reads statistics ``[N, S]`` normalized by the corpus.
    """

    columns: Tensor
    offsets: Tensor
    centers: Tensor
    rows: Tensor

    def __init__(self, ear: Ear, speakers: Sequence[str]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(ear.networks)
        voices = ear.voices
        self.register_buffer("columns", torch.from_numpy(np.flatnonzero(voices.columns)))
        self.register_buffer("offsets", torch.from_numpy(voices.offsets.astype(np.float32)))
        self.register_buffer("centers", torch.from_numpy(voices.centers.astype(np.float32)))
        known = {name: row for row, name in enumerate(speakers, start=1)}
        self.register_buffer("rows", torch.tensor([known.get(name, 0) for name in voices.all_names()]))

    def forward(self, normalized: Tensor) -> Tensor:
        """Return rows ``[N]``."""
        places = (normalized - committee(self.networks, normalized) @ self.offsets)[:, self.columns]
        distances = ((places[:, None] - self.centers[None]) ** 2).sum(dim=2)
        return self.rows[distances.argmin(dim=1)]


def speakers_of(normalizer: Normalizer) -> list[str]:
    """List the speakers of a normalizer, in a portable model's row order.

    Rows count from 1.
    """
    return sorted(normalizer.speakers)


def committee(networks: nn.ModuleList, inputs: Tensor) -> Tensor:
    """Return the mean scores ``[N, C]`` of networks."""
    return torch.stack([network(inputs).logits.softmax(dim=1) for network in networks]).mean(dim=0)


def _soften(scores: Tensor, temperature: float) -> Tensor:
    return (scores.clamp_min(torch.finfo(torch.float32).tiny).log() / temperature).softmax(dim=1)
