"""Collect statistics as names with values, so that both stay together."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

Curve = npt.NDArray[np.floating[Any]]

DECILES = (10, 50, 90)


class Tally:
    """Collect named numbers in the order in which they are given.

    A curve may be empty, for instance pitch where nobody spoke with a voice: it then counts as `absent`. All curves
    are described together when the values are asked for, since many are short and few are long.
    """

    def __init__(self) -> None:
        self._values: dict[str, float] = {}
        self._for_moments: dict[str, Curve] = {}
        self._for_quantiles: dict[str, tuple[Curve, Sequence[int]]] = {}

    @property
    def values(self) -> dict[str, float]:
        """Return every number by its name."""
        if self._for_moments:
            means, deviations = moments([*self._for_moments.values()])
            self._values.update(zip((f"{name}.mean" for name in self._for_moments), means.tolist(), strict=True))
            self._values.update(zip((f"{name}.std" for name in self._for_moments), deviations.tolist(), strict=True))
            self._for_moments.clear()
        if self._for_quantiles:
            curves, percents = zip(*self._for_quantiles.values(), strict=True)
            names = [f"{name}.q{percent:02d}" for name, (_, which) in self._for_quantiles.items() for percent in which]
            self._values.update(zip(names, quantiles(curves, percents).tolist(), strict=True))
            self._for_quantiles.clear()
        return self._values

    def number(self, name: str, value: float | np.floating[Any]) -> None:
        """Note one number."""
        self._values[name] = float(value)

    def numbers(self, name: str, values: Curve) -> None:
        """Note a list of numbers as `name.00`, `name.01` and so on."""
        self._values.update(zip(_numbered(name, len(values)), values.tolist(), strict=True))

    def moments(self, name: str, curve: Curve, absent: float = 0.0) -> None:
        """Note mean and standard deviation."""
        self.number(f"{name}.mean", absent)
        self.number(f"{name}.std", 0.0)
        if len(curve):
            self._for_moments[name] = curve

    def quantiles(self, name: str, curve: Curve, percents: Sequence[int] = DECILES, absent: float = 0.0) -> None:
        """Note quantiles as `name.q05`, `name.q50` and so on."""
        for percent in percents:
            self.number(f"{name}.q{percent:02d}", absent)
        if len(curve):
            self._for_quantiles[name] = curve, percents

    def distribution(self, name: str, curve: Curve, percents: Sequence[int] = DECILES, absent: float = 0.0) -> None:
        """Note mean, standard deviation and quantiles."""
        self.moments(name, curve, absent)
        self.quantiles(name, curve, percents, absent)


@cache
def _numbered(name: str, count: int) -> tuple[str, ...]:
    return tuple(f"{name}.{row:02d}" for row in range(count))


def moments(curves: Sequence[Curve]) -> tuple[Curve, Curve]:
    """Take mean and standard deviation of curves of any lengths.

    Args:
        curves: At least one value in each, [F].

    Returns:
        Means and deviations, both [curves].
    """
    lengths = np.array([len(curve) for curve in curves])
    starts = np.cumsum(lengths) - lengths
    values = np.concatenate(curves, dtype=np.float64)
    means = np.add.reduceat(values, starts) / lengths
    values -= np.repeat(means, lengths)
    return means, np.sqrt(np.add.reduceat(np.square(values), starts) / lengths)


def quantiles(curves: Sequence[Curve], percents: Sequence[Sequence[int]]) -> Curve:
    """Read quantiles off curves of any lengths.

    Values between the sorted ones are interpolated by straight lines.

    Args:
        curves: At least one value in each, [F].
        percents: Of every curve, between 0 and 100.

    Returns:
        One value for each percentage of each curve, all in a row, as `numpy.percentile` gives.
    """
    ordered = np.concatenate([np.sort(curve) for curve in curves], dtype=np.float64)
    lengths = np.array([len(curve) for curve in curves])
    counts = [len(which) for which in percents]
    starts, tops = np.repeat(np.cumsum(lengths) - lengths, counts), np.repeat(lengths - 1, counts)
    places = np.concatenate(percents) * (tops / 100)
    below = places.astype(np.intp)
    above = np.minimum(below + 1, tops)
    share = places - below
    values: Curve = ordered[starts + below] * (1 - share) + ordered[starts + above] * share
    return values


def median(curve: Curve) -> float:
    """Return the median, 0 where there is nothing."""
    if not len(curve):
        return 0.0
    ordered = np.sort(curve)
    return float(ordered[(len(curve) - 1) // 2] + ordered[len(curve) // 2]) / 2


def correlations(curves: Curve) -> Curve:
    """Correlate every pair of columns.

    Args:
        curves: At least one row, [F, columns].

    Returns:
        The upper triangle row by row; a constant column is correlated with nothing.
    """
    centered = curves - curves.mean(axis=0)
    deviations = np.sqrt(np.square(centered).mean(axis=0)) + 1e-3
    matrix = centered.T @ centered / len(curves) / deviations / deviations[:, None]
    upper: Curve = matrix[_upper_triangle(curves.shape[1])]
    return upper


@cache
def _upper_triangle(size: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    return np.triu_indices(size, k=1)
