"""Measure how well an attack tells members from others, with intervals.

Area under the ROC curve, and hits at few false alarms.

Scores of many models are pooled: ``scores[k, n]`` is how much an attack believes that utterance n was in the training
of model k, and ``members[k, n]`` whether it was. The models share their utterances, so a resample draws utterances and
takes all scores of each.
"""

from dataclasses import dataclass

import numpy as np

from ecan_core.errors import UsageError

FALSE_ALARMS = {"tpr1": 0.01, "tpr01": 0.001}
"""Rates of false alarms at which hits are counted, by the names of the figures."""
LEVEL = 0.95
NUM_RESAMPLES = 1000


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Hold a figure and its two-sided 95 % interval."""

    value: float
    low: float
    high: float

    def holds(self, value: float) -> bool:
        """Return whether a value lies in the interval."""
        return self.low <= value <= self.high


@dataclass(frozen=True, kw_only=True)
class Separation:
    """Describe how well scores separate members from others.

    Attributes:
        auc: area under the ROC curve; 0.5 is chance.
        tpr1: share of members found when 1 % of the others are taken for members.
        tpr01: the same at 0.1 %.
    """

    auc: Estimate
    tpr1: Estimate
    tpr01: Estimate


def separation(scores: np.ndarray, members: np.ndarray, *, seed: int = 0) -> Separation:
    """Measure an attack.

    Args:
        scores: ``[K, N]``; higher speaks for a member. NaN takes no part.
        members: bool ``[K, N]``.
        seed: seed of the resamples.

    Raises:
        UsageError: there are no members or no others.
    """
    roc = Roc.of(scores, members)
    random = np.random.default_rng(seed)
    count = scores.shape[1]
    weights = random.multinomial(count, np.full(count, 1 / count), size=NUM_RESAMPLES)
    drawn = np.array([_figures(roc, row) for row in weights])
    value = _figures(roc, np.ones(count))
    tail = (1 - LEVEL) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail], axis=0)
    exact = [clopper_pearson(share * roc.num_members, roc.num_members) for share in value[1:]]
    return Separation(
        auc=_estimate(value[0], low[0], high[0]),
        # Few hits: a resample cannot draw what was not seen, so the binomial bound counts as well.
        tpr1=_estimate(value[1], min(low[1], exact[0][0]), max(high[1], exact[0][1])),
        tpr01=_estimate(value[2], min(low[2], exact[1][0]), max(high[2], exact[1][1])),
    )


def clopper_pearson(hits: float, trials: int) -> tuple[float, float]:
    """Return the exact two-sided 95 % interval of a binomial share.

    Source: Clopper & Pearson, Biometrika 26 (1934).
    Differs: nothing.
    """
    from scipy.stats import beta  # takes a moment, and who reads a report does not need it

    tail = (1 - LEVEL) / 2
    hits = round(hits)
    low = 0.0 if hits == 0 else float(beta.ppf(tail, hits, trials - hits + 1))
    high = 1.0 if hits == trials else float(beta.ppf(1 - tail, hits + 1, trials - hits))
    return low, high


@dataclass(frozen=True, kw_only=True, eq=False)
class Roc:
    """Hold scores in falling order, equal ones together.

    Attributes:
        utterances: the column of each score, best first.
        members: whether each is a member's.
        starts: where each group of equal scores begins.
    """

    utterances: np.ndarray
    members: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, scores: np.ndarray, members: np.ndarray) -> "Roc":
        """Sort scores ``[K, N]``."""
        known = np.isfinite(scores)
        columns = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)[known]
        values, inside = scores[known], members[known]
        if inside.all() or not inside.any():
            raise UsageError("an attack needs members and others: use more models")
        order = np.argsort(-values, kind="stable")
        starts = np.flatnonzero(np.r_[True, np.diff(values[order]) != 0])
        return cls(utterances=columns[order], members=inside[order], starts=starts)

    @property
    def num_members(self) -> int:
        """Return the number of members' scores."""
        return int(self.members.sum())

    @property
    def area(self) -> float:
        """Return the area under the curve."""
        alarms, hits = self.curve(np.ones(1 + self.utterances.max()))
        return float(np.trapezoid(hits, alarms))

    def points(self, *, count: int = 80) -> tuple[tuple[float, ...], ...]:
        """Return false and true alarms as shares at some thresholds.

        They are close together where false alarms are few.
        """
        alarms, hits = self.curve(np.ones(1 + self.utterances.max()))
        rates = np.r_[0.0, np.geomspace(max(alarms[1:][alarms[1:] > 0].min(), 1e-5), 1.0, count)]
        places = np.unique(np.searchsorted(alarms, rates, side="right") - 1)
        return tuple((round(float(alarms[one]), 6), round(float(hits[one]), 6)) for one in places)

    def curve(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return false and true alarms as shares, one point per threshold.

        Every utterance is weighted ``[N]``.
        """
        weight = weights[self.utterances]
        hits = np.add.reduceat(weight * self.members, self.starts).cumsum()
        alarms = np.add.reduceat(weight * ~self.members, self.starts).cumsum()
        with np.errstate(invalid="ignore"):
            return np.r_[0.0, alarms / alarms[-1]], np.r_[0.0, hits / hits[-1]]


def _figures(roc: Roc, weights: np.ndarray) -> list[float]:
    alarms, hits = roc.curve(weights)
    at = [hits[np.searchsorted(alarms, rate, side="right") - 1] for rate in FALSE_ALARMS.values()]
    return [float(np.trapezoid(hits, alarms)), *map(float, at)]


def _estimate(value: float, low: float, high: float) -> Estimate:
    return Estimate(value=round(float(value), 5), low=round(float(low), 5), high=round(float(high), 5))
