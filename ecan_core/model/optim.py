"""Provide mini-batches, optimizers and learning-rate schedules."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def make_optimizer(
    name: str, parameters: Iterable[nn.Parameter] | list[dict[str, Any]], learning_rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    """Make AdamW, or SGD with Nesterov momentum 0.9.

    The published methods use the latter (method section 2).
    """
    if name == "adamw":
        return torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=weight_decay)
    return torch.optim.SGD(parameters, lr=learning_rate, momentum=0.9, nesterov=True, weight_decay=weight_decay)


def set_rates(optimizer: torch.optim.Optimizer, base_rates: Sequence[float], factor: float) -> None:
    """Set each group's learning rate to ``factor`` times its base rate.

    The base rate is the one at the start.
    """
    for group, rate in zip(optimizer.param_groups, base_rates, strict=True):
        group["lr"] = rate * factor


def cosine(progress: float) -> float:
    """Return a rate factor that falls from 1 to 0 along half a cosine.

    ``progress`` lies in [0, 1].
    """
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def decay(progress: float) -> float:
    """Return the rate factor ``(1 + 10 t/T)^-0.75``.

    ``progress = t/T`` lies in [0, 1]. SHOT, NRC and AaD use this factor.
    """
    return float((1.0 + 10.0 * progress) ** -0.75)


def batches(count: int, batch_size: int) -> Iterator[Tensor]:
    """Yield shuffled index batches over ``count`` utterances.

    Drawn from torch's global generator.

    A last batch of one is left out: a contrast needs two.
    """
    for rows in torch.randperm(count).split(batch_size):
        if len(rows) > 1:
            yield rows
