"""Plant canaries and measure whether one can tell they were there.

A canary is an utterance with a wrong label, put into a training by the toss of a coin.

The same coins test a promise of differential privacy: whoever guesses more of them right than epsilon allows has shown
that the promise does not hold.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import binom

from source_site.audit.bounds import LEVEL, NUM_RESAMPLES, Estimate
from source_site.audit.membership import confidences
from source_site.audit.report import Canaries
from source_site.audit.shadows import Shadows
from source_site.training.material import Material

MAX_CANARIES = 64
CORPUS_SHARE = 6
"""At most one utterance in this many becomes a canary, or the networks would learn little else."""
NUM_NETWORKS = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class CanaryPlan:
    """Plan which utterances are canaries, and in which network each is.

    Attributes:
        rows: the canaries, M indices.
        labels: their wrong labels ``[M]``.
        coins: whether a network is trained on one, bool ``[T, M]``.
    """

    rows: np.ndarray
    labels: np.ndarray
    coins: np.ndarray

    def material(self, material: Material) -> Material:
        """Return the corpus with the wrong labels."""
        labels = material.labels.copy()
        labels[self.rows] = self.labels
        return replace(material, labels=labels)

    def trained(self, num_utterances: int) -> np.ndarray:
        """Return which network is trained on which utterance, bool ``[T, N]``.

        All but the canaries that lost the toss.
        """
        chosen = np.ones((len(self.coins), num_utterances), dtype=bool)
        chosen[:, self.rows] = self.coins
        return chosen


def plan_canaries(labels: np.ndarray, num_classes: int, *, seed: int) -> CanaryPlan:
    """Draw canaries, their wrong labels and the coins.

    Args:
        labels: class indices ``[N]``.
        num_classes: C.
        seed: seed of the draw.
    """
    random = np.random.default_rng([seed, 1])
    count = min(MAX_CANARIES, len(labels) // CORPUS_SHARE)
    rows = np.sort(random.permutation(len(labels))[:count])
    wrong = (labels[rows] + random.integers(1, num_classes, size=count)) % num_classes
    return CanaryPlan(rows=rows, labels=wrong, coins=random.random((NUM_NETWORKS, count)) < 0.5)


def look_at_canaries(plan: CanaryPlan, logits: np.ndarray, references: Shadows, *, delta: float, seed: int) -> Canaries:
    """Measure how exposed canaries are, and test a promise by their coins.

    Args:
        plan: the canaries.
        logits: what the networks with canaries answer ``[T, N, C]``.
        references: networks without them: how sure such networks are of a wrong label anyway.
        delta: that of the promise; 0 for none.
        seed: seed of the resamples.
    """
    usual = confidences(references.logits[:, plan.rows], plan.labels)
    usual = np.where(references.members[:, plan.rows], np.nan, usual)
    scores = (confidences(logits[:, plan.rows], plan.labels) - np.nanmean(usual, axis=0)) / np.nanstd(usual, axis=0)
    exposed = [exposures(own[coins], own[~coins]) for own, coins in zip(scores, plan.coins, strict=True)]
    every = np.concatenate(exposed)
    ranks = np.arange(1, 2 + int(np.mean((~plan.coins).sum(axis=1))))
    guesses, right = guess(scores[0], plan.coins[0])
    return Canaries(
        count=len(plan.rows),
        networks=len(plan.coins),
        exposures=tuple(round(float(one), 3) for one in every),
        exposure=_mean_exposure(scores, plan.coins, every, seed),
        chance=round(float(np.mean(-np.log2(ranks / len(ranks)))), 3),
        guesses=guesses,
        right=right,
        epsilon_low=round(least_epsilon(len(plan.rows), guesses, right, delta), 3),
    )


def exposures(inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """Return the exposure in bits of each canary that was in.

    It is minus the logarithm of the canary's rank as a share among those that were not in.

    Source: exposure (Carlini et al., "The secret sharer", 2019).
    Differs: the candidates are canaries that were drawn alike and left out by a coin.
    """
    above = (outside[None] >= inside[:, None]).sum(axis=1)
    bits: np.ndarray = -np.log2((1 + above) / (1 + len(outside)))
    return bits


def guess(scores: np.ndarray, coins: np.ndarray) -> tuple[int, int]:
    """Guess the coins: the highest quarter of scores in, the lowest out.

    Returns:
        How many were guessed, and how many of them right.
    """
    quarter = len(scores) // 4
    order = np.argsort(-scores, kind="stable")
    right = int(coins[order[:quarter]].sum() + (~coins[order[len(order) - quarter :]]).sum())
    return 2 * quarter, right


def least_epsilon(count: int, guesses: int, right: int, delta: float) -> float:
    """Return the least epsilon of a training with so many right guesses.

    The bound holds at 95 % confidence.

    Source: Steinke, Nasr & Jagielski, "Privacy auditing with one (1) training run", 2023, theorem 5.2.
    Differs: nothing.

    Args:
        count: canaries.
        guesses: of them guessed.
        right: guessed right.
        delta: probability that the promise does not hold.
    """
    low, high = 0.0, 1.0
    while _probability(count, guesses, right, high, delta) < 1 - LEVEL and high < 50:
        high *= 2
    if _probability(count, guesses, right, low, delta) >= 1 - LEVEL:
        return 0.0
    for _ in range(40):
        middle = (low + high) / 2
        if _probability(count, guesses, right, middle, delta) < 1 - LEVEL:
            low = middle
        else:
            high = middle
    return low


def _probability(count: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """Return the largest probability of so many right guesses.

    The promise is assumed to hold.
    """
    share = 1 / (1 + math.exp(-epsilon))
    tail = float(binom.sf(right - 1, guesses, share))
    worst = total = 0.0
    for missed in range(1, right + 1):
        total += float(binom.pmf(right - missed, guesses, share))
        worst = max(worst, total / missed)
    return min(1.0, tail + 2 * count * delta * worst)


def _mean_exposure(scores: np.ndarray, coins: np.ndarray, every: np.ndarray, seed: int) -> Estimate:
    """Return the mean exposure over all networks with an interval.

    The interval is from resamples of the canaries.
    """
    random = np.random.default_rng(seed)
    means = []
    for _ in range(NUM_RESAMPLES):
        drawn = random.integers(0, scores.shape[1], size=scores.shape[1])
        parts = [
            exposures(own[drawn][coin[drawn]], own[drawn][~coin[drawn]])
            for own, coin in zip(scores, coins, strict=True)
        ]
        means.append(float(np.concatenate(parts).mean()))
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Estimate(value=round(float(every.mean()), 3), low=round(float(low), 3), high=round(float(high), 3))
