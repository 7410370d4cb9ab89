"""Train the source model by label-smoothed cross-entropy (method E2).

Where a public encoder hears beside the statistics, the network learns to do with either: of some utterances one of the
two views is hidden. Such a network leans less on what one view alone tells, and carries over better (docs/method.md).

Source: Neverova et al., ModDrop, PAMI 2016 (drop whole modalities in training).
Differs: never both views at once.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ecan_core.data.inputs import FrameBatch, Inputs
from ecan_core.errors import SettingsError
from ecan_core.model.network import Network
from ecan_core.model.optim import batches, cosine, make_optimizer, set_rates
from ecan_core.runtime.seeding import seeded
from ecan_core.settings.checks import at_least, at_most, fraction, non_negative, positive


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Configure how the source model is trained.

    Attributes:
        epochs: passes over the corpus.
        batch_size: utterances per step.
        learning_rate: initial learning rate of AdamW, which falls to 0 along half a cosine.
        weight_decay: decoupled weight decay.
        label_smoothing: epsilon of E2.
        view_dropout: share of the utterances of a step whose statistics are hidden, and share of the others from which
            what a public encoder heard is; counts where there is one.
    """

    epochs: int = 15
    batch_size: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    label_smoothing: float = 0.2
    view_dropout: float = 0.25

    def __post_init__(self) -> None:
        positive(self, "epochs", "learning_rate")
        at_least(self, "batch_size", 2)
        non_negative(self, "weight_decay", "view_dropout")
        fraction(self, "label_smoothing")
        at_most(self, "view_dropout", 0.5)


def train(
    network: Network,
    inputs: Inputs,
    labels: Tensor,
    settings: TrainSettings,
    *,
    seed: int,
    on_epoch: Callable[[int, float], None] | None = None,
    epochs: range | None = None,
    proximal: float = 0.0,
) -> None:
    """Train ``network`` in place.

    Every class weighs the same in the loss, however many utterances it has, because the measure (UAR) weighs
    them so.

    Args:
        network: a fresh network.
        inputs: N normalized utterances.
        labels: class indices ``[N]``.
        settings: how to train.
        seed: seed of the shuffling and of dropout.
        on_epoch: called after each epoch with its number (from 1) and its mean loss.
        epochs: which of the ``settings.epochs`` to train now, from 0; None trains them all. Several sites that train
            one network do a few at a time, with a fresh optimizer each time.
        proximal: weight of half the squared distance from where the network was at the start, which keeps a site's
            network near that of the others (FedProx, Li et al. 2020); 0 leaves it free.

    Raises:
        SettingsError: the training diverged.
    """
    class_weights = _balancing_weights(labels, network.head.bias.shape[0])
    optimizer = make_optimizer("adamw", network.parameters(), settings.learning_rate, settings.weight_decay)
    start = [parameter.detach().clone() for parameter in network.parameters()] if proximal else []
    network.train()
    for epoch in range(settings.epochs) if epochs is None else epochs:
        with seeded(seed, stream=epoch):
            total = 0.0
            plan = list(batches(len(inputs), settings.batch_size))
            for index, rows in enumerate(plan):
                progress = (epoch + index / len(plan)) / settings.epochs
                set_rates(optimizer, [settings.learning_rate], cosine(progress))
                loss = functional.cross_entropy(
                    network(hide_a_view(network, inputs.batch(rows), settings.view_dropout)).logits,
                    labels[rows],
                    weight=class_weights,
                    label_smoothing=settings.label_smoothing,
                )
                if proximal:
                    loss = loss + 0.5 * proximal * _squared_distance(network, start)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.item() * len(rows)
        if on_epoch is not None:
            on_epoch(epoch + 1, total / len(inputs))
    network.eval()
    if not all(torch.isfinite(parameter).all() for parameter in network.parameters()):
        raise SettingsError("the training diverged: lower learning_rate")


def hide_a_view(network: Network, batch: Tensor | FrameBatch, share: float) -> Tensor | FrameBatch:
    """Hide one of two views of some utterances behind the mean.

    Args:
        network: its encoder says how many of the last numbers a public encoder heard.
        batch: statistics and what was heard ``[B, S]``; a batch of one view stays as it is.
        share: of the utterances whose statistics are hidden; of as many others it is what was heard.
    """
    heard = network.encoder.num_heard
    if isinstance(batch, FrameBatch) or not heard or not share:
        return batch
    drawn = torch.rand(len(batch), 1)
    is_heard = torch.arange(batch.shape[1]) >= batch.shape[1] - heard
    hidden = torch.where(is_heard, drawn >= 1.0 - share, drawn < share)
    mean = torch.zeros(()) if network.standardize is None else network.standardize.center
    return torch.where(hidden, mean, batch)


def _squared_distance(network: Network, start: list[Tensor]) -> Tensor:
    return torch.stack([(now - then).pow(2).sum() for now, then in zip(network.parameters(), start, strict=True)]).sum()


def _balancing_weights(labels: Tensor, num_classes: int) -> Tensor:
    counts = torch.bincount(labels, minlength=num_classes).clamp_min(1)
    return len(labels) / (num_classes * counts)
