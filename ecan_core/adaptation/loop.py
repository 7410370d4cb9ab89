"""Run an adaptation's epochs: a step, its objective, its optimizer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ecan_core.adaptation.banks import MemoryBanks, fill_banks
from ecan_core.adaptation.given import GivenLabels
from ecan_core.adaptation.health import Health, examine
from ecan_core.adaptation.losses.neighbor import Neighborhood, neighborhood
from ecan_core.adaptation.settings import AdaptSettings
from ecan_core.data.inputs import Inputs
from ecan_core.model.network import Network
from ecan_core.model.optim import batches, decay, make_optimizer, set_rates
from ecan_core.model.predict import predict_scores
from ecan_core.runtime.seeding import seeded


class Step(NamedTuple):
    """Hold a mini-batch under adaptation.

    Attributes:
        rows: which utterances of the target corpus these are ``[B]``.
        embeddings: unit-length embeddings ``[B, D]``.
        scores: softmax outputs ``[B, C]``.
        banks: memory banks, already updated with this mini-batch; a part of those of a large corpus.
        bank_rows: where the mini-batch stands in ``banks`` ``[B]``.
        progress: share of the run that is done, in [0, 1).
    """

    rows: Tensor
    embeddings: Tensor
    scores: Tensor
    banks: MemoryBanks
    bank_rows: Tensor
    progress: float

    def neighborhood(self, num_neighbors: int) -> Neighborhood:
        """Return the K nearest bank rows of each utterance of the batch (E6)."""
        return neighborhood(self.embeddings, self.bank_rows, self.banks, num_neighbors)


LossTerms = dict[str, Tensor]
"""The weighted terms of an objective by name; their sum is minimized."""
Objective = Callable[[Step], LossTerms]


@dataclass(frozen=True, kw_only=True)
class EpochRecord:
    """Hold one epoch's mean loss terms and the model's health after it."""

    epoch: int
    losses: dict[str, float]
    health: Health


OnEpoch = Callable[[EpochRecord, np.ndarray], None]
"""Told each epoch and the scores ``[N, C]`` after it."""


class Adaptation(NamedTuple):
    """Describe what a method did.

    Attributes:
        records: one per epoch; one in all for a method that changes the network in a single pass, none for one that
            leaves it as it is.
        scores: softmax scores ``[N, C]`` of the utterances that it was given. Those of the network as it is now,
            except where the method's docstring says otherwise.
    """

    records: list[EpochRecord]
    scores: np.ndarray


def minimize(
    objective: Objective,
    network: Network,
    inputs: Inputs,
    settings: AdaptSettings,
    *,
    seed: int,
    on_epoch: OnEpoch | None = None,
    on_start_of_epoch: Callable[[], None] | None = None,
    given: GivenLabels | None = None,
) -> Adaptation:
    """Minimize ``objective`` over the target in mini-batches.

    ECAN and the iterative baselines share this loop.

    The banks are filled by the source model and, in every step, overwritten with the mini-batch's outputs before
    anything is retrieved from them (E5). ``on_start_of_epoch`` may refresh what the objective closes over. Labels
    that an operator has ``given`` add a term to every step.
    """
    banks = fill_banks(network, inputs)
    scores = source_scores = banks.scores.numpy().copy()
    optimizer = make_optimizer(
        settings.optimizer, _trained_parameters(network, settings), settings.learning_rate, settings.weight_decay
    )
    base_rates = [group["lr"] for group in optimizer.param_groups]
    records = []
    for epoch in range(settings.epochs):
        if on_start_of_epoch is not None:
            on_start_of_epoch()
        network.train()
        sums: dict[str, float] = {}
        with seeded(seed, stream=epoch):
            drawn = banks.draw(settings.candidates)
            plan = list(batches(len(inputs), settings.batch_size))
            for index, rows in enumerate(plan):
                progress = (epoch + index / len(plan)) / settings.epochs
                set_rates(optimizer, base_rates, decay(progress))
                output = network(inputs.batch(rows))
                scores = output.logits.softmax(dim=1)
                banks.update(rows, output.embeddings, scores)
                near, bank_rows = banks.around(rows, drawn)
                terms = objective(Step(rows, output.embeddings, scores, near, bank_rows, progress))
                if given is not None:
                    terms = terms | {"given_labels": given.loss(network, inputs)}
                optimizer.zero_grad()
                torch.stack(list(terms.values())).sum().backward()
                optimizer.step()
                for name, value in terms.items():
                    sums[name] = sums.get(name, 0.0) + value.item() / len(plan)
        scores = predict_scores(network, inputs)
        health = examine(scores, source_scores)
        records.append(EpochRecord(epoch=epoch + 1, losses=sums, health=health))
        if on_epoch is not None:
            on_epoch(records[-1], scores)
    return Adaptation(records, scores)


def single_pass(scores: np.ndarray, source_scores: np.ndarray, on_epoch: OnEpoch | None) -> Adaptation:
    """Record a method that has no epochs: one record without losses.

    It stands beside the scores ``[N, C]`` of the source.
    """
    record = EpochRecord(epoch=1, losses={}, health=examine(scores, source_scores))
    if on_epoch is not None:
        on_epoch(record, scores)
    return Adaptation([record], scores)


def _trained_parameters(network: Network, settings: AdaptSettings) -> list[dict[str, Any]]:
    """Return the parameter groups with their learning rates.

    The head is among them only where it is trained.
    """
    groups: list[dict[str, Any]] = [
        {"params": list(network.bottleneck.parameters())},
        {
            "params": list(network.encoder.parameters()),
            "lr": settings.learning_rate * settings.encoder_rate,
        },
    ]
    if settings.train_head:
        groups.append({"params": list(network.head.parameters())})
    return groups
