"""Run a network over a whole corpus in evaluation mode (E12)."""

import numpy as np
import torch

from ecan_core.data.inputs import Inputs
from ecan_core.model.network import NetOutput, Network


@torch.no_grad()
def run(network: Network, inputs: Inputs, batch_size: int = 512) -> NetOutput:
    """Features ``[N, D]`` and logits ``[N, C]`` of all utterances, without gradients."""
    network.eval()
    outputs = [network(inputs.batch(rows)) for rows in torch.arange(len(inputs)).split(batch_size)]
    return NetOutput(
        torch.cat([output.features for output in outputs]), torch.cat([output.logits for output in outputs])
    )


def predict_scores(network: Network, inputs: Inputs) -> np.ndarray:
    """Softmax scores ``[N, C]`` of all utterances."""
    scores: np.ndarray = run(network, inputs).logits.softmax(dim=1).numpy()
    return scores
