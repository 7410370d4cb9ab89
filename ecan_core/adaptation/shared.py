"""Adapt one model together, for sites of one operator.

Each site tells how it would change the weights, and no more.

A round is an adaptation at every site, from the same weights, to its own utterances. What leaves a site is the
difference of the weights that a bundle holds, with a bound on its length. Memory banks, pseudo-labels, features and
the site's normalization are not in it. Whoever sums the differences up need not be trusted with them (a masked sum).

Source: McMahan et al., AISTATS 2017, arXiv 1602.05629 (federated averaging).
Differs: every site counts the same, however many utterances it has; the local objective has no labels.
"""

import numpy as np

from ecan_core.adaptation.registry import METHODS
from ecan_core.adaptation.settings import AdaptSettings
from ecan_core.data.inputs import Inputs
from ecan_core.errors import ModelError
from ecan_core.model.network import Network
from ecan_core.model.weights import Arrays, load_arrays, to_arrays

OF_THE_SOURCE = "input."
"""What the source standardizes inputs by: no adaptation changes it, and no update names it."""


def update_of_site(
    network: Network, inputs: Inputs, settings: AdaptSettings, *, method: str, seed: int, longest: float
) -> Arrays:
    """Adapt ``network`` in place for a round and tell how its weights changed.

    Args:
        network: the weights that all sites start the round from.
        inputs: N utterances, normalized by the site's own statistics.
        settings: how to adapt; the epochs are those of one round.
        method: a name in ``METHODS`` that trains weights.
        seed: seed of shuffling and dropout.
        longest: the update is scaled down to this Euclidean length if it is longer.

    Returns:
        The change of every weight that a site may train, by its name in a bundle.

    Raises:
        ModelError: the adaptation diverged.
    """
    before = trainable(to_arrays(network))
    METHODS[method](network, inputs, settings, seed=seed)
    after = trainable(to_arrays(network))
    update = {name: after[name] - before[name] for name in before}
    length = length_of(update)
    if not np.isfinite(length):
        raise ModelError("the adaptation diverged, so that it has no update to send; lower its learning_rate")
    factor = min(1.0, longest / length) if length else 1.0
    return {name: np.asarray(array * factor, dtype=np.float32) for name, array in update.items()}


def change_weights(network: Network, change: Arrays) -> None:
    """Change ``network`` in place, by one update or by the mean of many.

    Raises:
        ModelError: the change is not finite, or not of this network.
    """
    weights = to_arrays(network)
    refuse_foreign(change, trainable(weights))
    load_arrays(network, weights | {name: weights[name] + array for name, array in change.items()})


def refuse_foreign(update: Arrays, expected: Arrays) -> None:
    """Refuse an update that is not exactly a change of one network's weights.

    Raises:
        ModelError: a name, shape or type differs from those of ``expected``, or a number is not finite.
    """
    if update.keys() != expected.keys():
        different = ", ".join(sorted(update.keys() ^ expected.keys()))
        raise ModelError(f"an update does not fit this network ({different}); give all sites the same bundle")
    for name, array in update.items():
        if array.shape != expected[name].shape or array.dtype != np.float32:
            raise ModelError(f"tensor {name} of an update has another shape or type; give all sites the same bundle")
        if not np.isfinite(array).all():
            raise ModelError(f"tensor {name} of an update is not finite; lower the learning_rate of the sites")


def trainable(weights: Arrays) -> Arrays:
    """Name what an update may change of the weights of a bundle."""
    return {name: array for name, array in weights.items() if not name.startswith(OF_THE_SOURCE)}


def length_of(update: Arrays) -> float:
    """Euclidean length of an update, all tensors taken as one vector."""
    return float(np.sqrt(sum(np.square(array, dtype=np.float64).sum() for array in update.values())))
