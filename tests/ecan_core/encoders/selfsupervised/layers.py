"""What a network of torchaudio's says of its own layers."""

import numpy as np
import torch


@torch.no_grad()
def layers_of(network, samples):
    """Every layer's output, [F, E] each."""
    layers, _ = network.extract_features(torch.from_numpy(np.asarray(samples, np.float32))[None])
    return [layer[0].double().numpy() for layer in layers]
