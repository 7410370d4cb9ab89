"""Reconstruct inputs that a network is surest of.

The audit tells whether they lie nearer to what the network was trained on than to other speech.
"""

import numpy as np
import torch

from ecan_core.model.network import Network
from ecan_core.runtime.seeding import seeded
from source_site.audit.report import Reconstruction
from source_site.audit.shadows import job_seed
from source_site.training.material import Material, Recipe, fit_network, quantize_network

NUM_NETWORKS = 8
STARTS = 4
"""Reconstructions of each class from each network."""
_STEPS, _RATE, _PULL = 100, 0.05, 0.02


def try_reconstruction(
    material: Material, members: np.ndarray, recipe: Recipe, *, seed: int, num_networks: int = NUM_NETWORKS
) -> Reconstruction | None:
    """Invert some networks of the audit.

    Source: model inversion (Fredrikson et al., 2015), and a nearest-member test whose chance level is what the same
        reconstructions show of halves that other networks were trained on.
    Differs: inputs are normalized statistics; sequences of frames are not inverted.

    Args:
        material: all utterances.
        members: which network was trained on which utterance ``[K, N]``; the first ones are trained again.
        recipe: how they are trained.
        seed: seed of the audit.
        num_networks: how many to invert.

    Returns:
        None where inputs are sequences.
    """
    if material.values[0].ndim != 1:
        return None
    num_networks = min(num_networks, len(members))
    vectors = torch.from_numpy(material.vectors)
    nearest = np.stack(
        [
            _nearest(_inverted(_network(material, members[index], recipe, index, seed), vectors), vectors)
            for index in range(num_networks)
        ]
    )
    return judge(nearest, members, seed=seed)


def judge(nearest: np.ndarray, members: np.ndarray, *, seed: int, num_draws: int = 2000) -> Reconstruction:
    """Compare how many reconstructions lie next to a member with chance.

    Chance is what other halves would show.

    Args:
        nearest: index of the utterance next to each reconstruction ``[J, R]``.
        members: which network was trained on which utterance ``[K, N]``; the first J are the inverted ones.
        seed: seed of the draws.
        num_draws: random halves to compare with.
    """
    count = len(nearest)
    share = float(np.mean([members[index, nearest[index]].mean() for index in range(count)]))
    random = np.random.default_rng(seed)
    at_least = 0
    for _ in range(num_draws):
        # A half of the corpus as random as that of the network: its own, with the utterances shuffled.
        shuffled = [
            members[index][random.permutation(members.shape[1])][nearest[index]].mean() for index in range(count)
        ]
        at_least += float(np.mean(shuffled)) >= share
    return Reconstruction(
        networks=count,
        count=nearest.size,
        near_members=round(share, 4),
        probability=round((1 + at_least) / (1 + num_draws), 4),
    )


def _network(material: Material, row: np.ndarray, recipe: Recipe, index: int, seed: int) -> Network:
    own = job_seed(seed, index)
    network = fit_network(material, np.flatnonzero(row), recipe, seed=own, noise_key=own)
    quantize_network(network, material.form)
    return network


def _inverted(network: Network, vectors: torch.Tensor) -> torch.Tensor:
    """Return inputs that a network is surest of ``[C * STARTS, S]``."""
    classes = torch.arange(network.head.bias.shape[0]).repeat(STARTS)
    with seeded(0):
        found = (0.1 * torch.randn(len(classes), vectors.shape[1])).requires_grad_()
    optimizer = torch.optim.Adam([found], lr=_RATE)
    for _ in range(_STEPS):
        loss = torch.nn.functional.cross_entropy(network(found).logits, classes, reduction="sum")
        (found.grad,) = torch.autograd.grad(loss + _PULL * found.pow(2).sum(), [found])
        optimizer.step()
    return found.detach()


def _nearest(found: torch.Tensor, vectors: torch.Tensor) -> np.ndarray:
    """Return the utterance most like each reconstruction ``[R]``.

    The one whose direction is most like it.
    """
    unit = torch.nn.functional.normalize
    nearest: np.ndarray = (unit(found, dim=1) @ unit(vectors, dim=1).T).argmax(dim=1).numpy()
    return nearest
