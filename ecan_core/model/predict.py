"""Run a network over a whole corpus in evaluation mode (E12)."""

from collections.abc import Sequence

import numpy as np
import torch

from ecan_core.data.inputs import Inputs
from ecan_core.model.network import NetOutput, Network


@torch.no_grad()
def run(network: Network, inputs: Inputs, batch_size: int = 512) -> NetOutput:
    """Return embeddings ``[N, D]`` and logits ``[N, C]`` of all utterances.

    No gradients are kept.
    """
    network.eval()
    outputs = [network(inputs.batch(rows)) for rows in torch.arange(len(inputs)).split(batch_size)]
    return NetOutput(
        torch.cat([output.embeddings for output in outputs]), torch.cat([output.logits for output in outputs])
    )


def predict_scores(network: Network, inputs: Inputs) -> np.ndarray:
    """Return softmax scores ``[N, C]`` of all utterances."""
    scores: np.ndarray = run(network, inputs).logits.softmax(dim=1).numpy()
    return scores


def committee_scores(networks: Sequence[Network], inputs: Inputs) -> np.ndarray:
    """Return mean softmax scores ``[N, C]`` of a committee.

    Its networks were adapted alike.
    """
    return mean_scores([predict_scores(network, inputs) for network in networks])


def mean_scores(scores: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean of the scores ``[N, C]`` of several networks."""
    mean: np.ndarray = np.mean(scores, axis=0)
    return mean
