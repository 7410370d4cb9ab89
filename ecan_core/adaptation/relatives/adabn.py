"""Adapt by AdaBN: replace the network's input statistics by the target's.

Source: Li et al. 2017, "Revisiting Batch Normalization for Practical Domain Adaptation"; method section 6.14.
Differs: our networks have no batch normalization. The one layer that holds statistics is ``network.standardize``,
which only a model trained with ``--normalize none`` has. With corpus or speaker normalization the inputs are already
normalized by the site's own statistics, as AdaBN wants it, so there it changes nothing.
"""

import numpy as np
import torch

from ecan_core.adaptation.loop import Adaptation, OnEpoch, single_pass
from ecan_core.adaptation.settings import AdaptSettings
from ecan_core.data.inputs import FrameBatch, Inputs
from ecan_core.model.network import Network
from ecan_core.model.predict import predict_scores

BLOCK = 512


def adapt_adabn(
    network: Network,
    inputs: Inputs,
    settings: AdaptSettings,
    *,
    seed: int,
    on_epoch: OnEpoch | None = None,
) -> Adaptation:
    """Refit center and scale of the inputs to the target.

    Networks without such statistics stay as they are. There is no loss and there are no epochs.
    """
    source_scores = predict_scores(network, inputs)
    if network.standardize is not None:
        network.standardize.fit(_values(inputs))
    return single_pass(predict_scores(network, inputs), source_scores, on_epoch)


def _values(inputs: Inputs) -> list[np.ndarray]:
    """Return what the network reads, without padding.

    Blocks ``[B, S]`` of statistics, or one ``[F, M]`` per utterance.
    """
    values = []
    for rows in torch.arange(len(inputs)).split(BLOCK):
        batch = inputs.batch(rows)
        if isinstance(batch, FrameBatch):
            pairs = zip(batch.frames, batch.lengths.tolist(), strict=True)
            values += [frames[:length].numpy() for frames, length in pairs]
        else:
            values.append(batch.numpy())
    return values
