"""Train privately: full-batch descent on clipped, noisy gradients.

The bottleneck and the head alone are trained.

The encoder keeps its random initial weights: it has seen no speech, so it costs no privacy. What each utterance, or
each speaker, can add to a step is clipped to one length, and noise of a multiple of that length is added to the sum.
The accountant in `source_site.training.privacy` computes what this promises.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ecan_core.data.inputs import Inputs
from ecan_core.errors import SettingsError
from ecan_core.model.network import CosineHead, Network
from ecan_core.model.optim import cosine
from ecan_core.settings.checks import positive

_ENCODED_AT_ONCE = 512
_MOMENTUM, _SCALE, _TINY = 0.9, 0.99, 1e-8


@dataclass(frozen=True, kw_only=True)
class PrivateSettings:
    """Configure how a private model is trained.

    Attributes:
        noise_multiplier: deviation of the noise in units of ``clip``.
        unit: what is protected: an utterance, or a speaker with all that was said.
        steps: steps, each on the whole corpus.
        clip: the longest gradient that one unit may add.
        learning_rate: initial learning rate of Adam, which falls to 0 along half a cosine.
    """

    noise_multiplier: float
    unit: Literal["utterance", "speaker"] = "utterance"
    steps: int = 30
    clip: float = 1.0
    learning_rate: float = 0.05

    def __post_init__(self) -> None:
        positive(self, "noise_multiplier", "steps", "clip", "learning_rate")


def train_private(
    network: Network,
    inputs: Inputs,
    labels: Tensor,
    settings: PrivateSettings,
    *,
    noise_key: int,
    speakers: Tensor | None = None,
    steps: range | None = None,
) -> None:
    """Train the bottleneck and the head of ``network`` in place.

    Classes are not balanced and dropout is off: a weight that depends on the other utterances would not be covered.

    Source: DP-SGD (Abadi et al., 2016) with the whole corpus as its batch; Adam on its noisy gradients.
    Differs: gradients are never written down one by one; their lengths follow from those at the layers' outputs.

    Args:
        network: a fresh network.
        inputs: N normalized utterances.
        labels: class indices ``[N]``.
        settings: how to train.
        noise_key: 128 secret bits that the noise is drawn from. Whoever knows them can take the noise away.
        speakers: number of each utterance's speaker ``[N]``, for the unit ``speaker``.
        steps: which of the ``settings.steps`` to take now, from 0; None takes them all. Several sites that train one
            network take a few at a time.

    Raises:
        SettingsError: the unit is a speaker and some are unknown; or the network carries statistics of the corpus.
    """
    if network.standardize is not None:
        raise SettingsError("a private model must carry no statistics of the corpus: normalize by corpus or speaker")
    if settings.unit == "speaker" and (speakers is None or int(speakers.min()) < 0):
        raise SettingsError("the unit of privacy is the speaker and some are unknown: name every utterance's speaker")
    noise = np.random.Generator(np.random.Philox(key=noise_key))
    network.eval()
    codes = _encoded(network, inputs)
    learned = [*network.bottleneck.parameters(), *network.head.parameters()]
    averages = [(torch.zeros_like(one), torch.zeros_like(one)) for one in learned]
    for number, step in enumerate(range(settings.steps) if steps is None else steps, start=1):
        sums = clipped_sums(
            network, codes, labels, settings.clip, speakers=speakers if settings.unit == "speaker" else None
        )
        rate = settings.learning_rate * cosine(step / settings.steps)
        for parameter, total, (mean, square) in zip(learned, sums, averages, strict=True):
            drawn = torch.from_numpy(noise.standard_normal(tuple(total.shape), dtype=np.float32))
            gradient = (total + settings.noise_multiplier * settings.clip * drawn) / len(labels)
            mean.mul_(_MOMENTUM).add_(gradient, alpha=1 - _MOMENTUM)
            square.mul_(_SCALE).addcmul_(gradient, gradient, value=1 - _SCALE)
            deviation = (square / (1 - _SCALE**number)).sqrt() + _TINY
            with torch.no_grad():
                parameter.sub_(rate * mean / (1 - _MOMENTUM**number) / deviation)


def hide_first_weights(network: Network, noise_key: int) -> None:
    """Shuffle a fresh network's weights and their signs in secret, in place.

    A seed has 31 bits and torch draws from 32 of them, so whoever is given the network could try them all, and would
    know the weights that the training began with. The draws do not overlap with those of the noise.

    Args:
        network: a fresh network.
        noise_key: 128 secret bits.
    """
    draw = np.random.Generator(np.random.Philox(key=noise_key).jumped())
    with torch.no_grad():
        for parameter in network.parameters():
            hidden = draw.permutation(parameter.numpy().ravel())
            if parameter.dim() > 1:  # the others are no draws around 0
                hidden = hidden * draw.choice(np.array([-1.0, 1.0], np.float32), hidden.size)
            parameter.copy_(torch.from_numpy(hidden.reshape(tuple(parameter.shape))))


def clipped_sums(
    network: Network, codes: Tensor, labels: Tensor, clip: float, *, speakers: Tensor | None = None
) -> list[Tensor]:
    """Sum every unit's gradient, each cut to a length.

    The gradients are those of bottleneck and head.

    Args:
        network: the network.
        codes: the encoder's outputs ``[N, E]``.
        labels: class indices ``[N]``.
        clip: the longest gradient of a unit.
        speakers: number of each utterance's speaker ``[N]`` if speakers are the units; None takes utterances.
    """
    learned = [*network.bottleneck.parameters(), *network.head.parameters()]
    if speakers is None:
        shares = (clip / gradient_lengths(network, codes, labels).clamp_min(_TINY)).clamp_max(1.0)
        return list(torch.autograd.grad((shares * _losses(network, codes, labels)).sum(), learned))
    sums = [torch.zeros_like(one) for one in learned]
    for rows in _groups(speakers):
        own = torch.autograd.grad(_losses(network, codes[rows], labels[rows]).sum(), learned)
        length = torch.cat([one.flatten() for one in own]).norm()
        share = float((clip / length.clamp_min(_TINY)).clamp_max(1.0))
        for total, one in zip(sums, own, strict=True):
            total.add_(one, alpha=share)
    return sums


def gradient_lengths(network: Network, codes: Tensor, labels: Tensor) -> Tensor:
    """Return the length of each utterance's gradient ``[N]``.

    The parameters of bottleneck and head count.
    """
    outputs = network.bottleneck(codes)
    embeddings = functional.normalize(outputs, dim=1)
    logits = network.head(embeddings)
    loss = functional.cross_entropy(logits, labels, reduction="sum")
    by_output, by_logit = torch.autograd.grad(loss, [outputs, logits])
    squares = by_output.pow(2).sum(dim=1) * (codes.pow(2).sum(dim=1) + 1)
    # A row of the head is LENGTH * d / |d|: only what stands across d changes it.
    rows = network.head.direction.detach().norm(dim=1)
    along = functional.linear(embeddings.detach(), network.head.direction.detach() / rows[:, None])
    across = (1 - along.pow(2)).clamp_min(0.0) * (CosineHead.LENGTH / rows).pow(2)
    squares = squares + (by_logit.pow(2) * (across + 1)).sum(dim=1)
    lengths: Tensor = squares.sqrt()
    return lengths


def _losses(network: Network, codes: Tensor, labels: Tensor) -> Tensor:
    embeddings = functional.normalize(network.bottleneck(codes), dim=1)
    return functional.cross_entropy(network.head(embeddings), labels, reduction="none")


@torch.no_grad()
def _encoded(network: Network, inputs: Inputs) -> Tensor:
    chunks = torch.arange(len(inputs)).split(_ENCODED_AT_ONCE)
    return torch.cat([network.encoder(inputs.batch(rows)) for rows in chunks])


def _groups(numbers: Tensor) -> Iterator[Tensor]:
    for number in numbers.unique():
        yield torch.nonzero(numbers == number).flatten()
