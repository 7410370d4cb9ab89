"""Test whether a day's class shares lie where those of weeks before do.

What is compared are calls, not utterances: those of one call are alike, and counting each of them would make chance
look like drift. Whole days differ as well, so a day has drifted only if it also lies further off than any day before
it. Whether a model should be adapted again is asked of a week: there it is days that are shuffled. docs/operations.md
states both tests.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from target_site.results.segments import UNCERTAIN

WEEKS_BEFORE = 4
WEEK_DAYS, FEWEST_OF_WEEK = 7, 3
FEWEST_DAYS = 7
"""With fewer days before nothing is known of how days differ."""
FEWEST_CALLS = 8
"""Fewer calls say nothing about a day."""
LEVEL = 0.01
_SHUFFLES, _DRAWS = 999, 199
_AT_ONCE = 50


@dataclass(frozen=True, kw_only=True)
class Drift:
    """Describe how far a day, or a week, lies from the weeks before.

    Attributes:
        distance: total variation between the shares of the classes and of the uncertain utterances, from 0 to 1.
        low: lower end of its 95 % interval, drawn over calls, or over days for a week.
        high: upper end.
        p: share of draws in which shuffled calls lie as far apart; for a week, shuffled days.
        usual: the farthest that a day before lies from the other days before; for a week, how far 99 of 100 draws lie
            apart at most.
        is_drift: it lies further off than chance explains (`LEVEL`), and a day further than any day before.
        num_days: how many days it is compared with.
        moved: what moved most, as a class or `UNCERTAIN`.
        share: the share of that on this day.
        share_before: its share in the weeks before.
    """

    distance: float
    low: float
    high: float
    p: float
    usual: float
    is_drift: bool
    num_days: int
    moved: str
    share: float
    share_before: float


def find_drift(today: np.ndarray, before: Mapping[int, np.ndarray], classes: Sequence[str]) -> Drift | None:
    """Compare a day with those of the weeks before.

    Args:
        today: utterances of each class and uncertain ones of its calls ``[calls, C + 1]``.
        before: the same by day.
        classes: the C classes.

    Returns:
        None where too little is known: fewer than `FEWEST_DAYS` days, or fewer than `FEWEST_CALLS` calls today.
    """
    if len(before) < FEWEST_DAYS or len(today) < FEWEST_CALLS:
        return None
    rest = np.concatenate(list(before.values()))
    distance, usual = _distance(today, rest), _usual(before, rest)
    low, high = _interval(today, rest)
    p = _chance(today, rest, distance)
    return _drift(
        (_shares(today), _shares(rest)),
        (low, high),
        p,
        usual,
        is_drift=p < LEVEL and distance > usual,
        num_days=len(before),
        classes=classes,
    )


def find_weekly_drift(by_day: Mapping[int, np.ndarray], last: int, classes: Sequence[str]) -> Drift | None:
    """Compare a week with the weeks before it, day by day.

    Args:
        by_day: utterances of each class and uncertain ones by call ``[calls, C + 1]``, of every day of run.
        last: the last day of the week.
        classes: the C classes.

    Returns:
        None where too little is known: fewer than `FEWEST_OF_WEEK` days of the week, or `FEWEST_DAYS` before it.
    """
    shares = {day: _shares(calls) for day, calls in by_day.items()}
    week = [one for day, one in shares.items() if last - WEEK_DAYS < day <= last]
    before = [one for day, one in shares.items() if last - WEEK_DAYS * (1 + WEEKS_BEFORE) < day <= last - WEEK_DAYS]
    if len(week) < FEWEST_OF_WEEK or len(before) < FEWEST_DAYS:
        return None
    sides, days = (np.mean(week, axis=0), np.mean(before, axis=0)), np.stack([*week, *before])
    rng = np.random.default_rng(0)
    orders = rng.random((_SHUFFLES, len(days))).argsort(axis=1)
    shuffled = _apart(days[orders[:, : len(week)]].mean(axis=1), days[orders[:, len(week) :]].mean(axis=1))
    p = float((1 + (shuffled >= _apart(*sides) - 1e-12).sum()) / (_SHUFFLES + 1))
    drawn = [
        np.stack(side)[rng.integers(len(side), size=(_SHUFFLES, len(side)))].mean(axis=1) for side in (week, before)
    ]
    low, high = np.quantile(_apart(*drawn), (0.025, 0.975))
    usual = float(np.quantile(shuffled, 1 - LEVEL))
    return _drift(sides, (low, high), p, usual, is_drift=p < LEVEL, num_days=len(before), classes=classes)


def _drift(
    sides: tuple[np.ndarray, np.ndarray],
    interval: tuple[float, float],
    p: float,
    usual: float,
    *,
    is_drift: bool,
    num_days: int,
    classes: Sequence[str],
) -> Drift:
    """Describe how far apart the shares of two sides ``[C + 1]`` lie."""
    moved = int(np.abs(sides[0] - sides[1]).argmax())
    share, share_before = (float(side[moved]) for side in sides)
    figures = {"distance": float(_apart(*sides)), "low": interval[0], "high": interval[1], "p": p, "usual": usual}
    figures |= {"share": share, "share_before": share_before}
    return Drift(
        is_drift=is_drift,
        num_days=num_days,
        moved=(*classes, UNCERTAIN)[moved],
        **{name: round(float(value), 4) for name, value in figures.items()},
    )


def _shares(counts: np.ndarray) -> np.ndarray:
    """Return the shares ``[..., C + 1]`` of calls ``[..., calls, C + 1]``."""
    return _of_sums(counts.sum(axis=-2))


def _of_sums(sums: np.ndarray) -> np.ndarray:
    shares: np.ndarray = sums / sums.sum(axis=-1, keepdims=True).clip(1)
    return shares


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(_apart(_shares(one), _shares(other)))


def _apart(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the total variation between shares ``[..., C + 1]``."""
    apart: np.ndarray = 0.5 * np.abs(one - other).sum(axis=-1)
    return apart


def _usual(before: Mapping[int, np.ndarray], rest: np.ndarray) -> float:
    """Return how far the farthest of the days before lies from the others."""
    total = rest.sum(axis=0)
    sums = [counts.sum(axis=0) for counts in before.values()]
    return max(float(_apart(_of_sums(one), _of_sums(total - one))) for one in sums)


def _interval(today: np.ndarray, rest: np.ndarray) -> tuple[float, float]:
    """Return the ends of the distance's 95 % interval (bootstrap of calls)."""
    rng = np.random.default_rng(0)
    low, high = np.quantile(_apart(_drawn(today, rng), _drawn(rest, rng)), (0.025, 0.975))
    return float(low), float(high)


def _drawn(calls: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the shares ``[draws, C + 1]`` of calls drawn with replacement."""
    evenly = np.full(len(calls), 1 / len(calls))
    sums = [rng.multinomial(len(calls), evenly) @ calls for _ in range(_DRAWS)]
    return _of_sums(np.stack(sums))


def _chance(today: np.ndarray, rest: np.ndarray, distance: float) -> float:
    """Return how often shuffled calls lie as far apart (permutation test)."""
    rng = np.random.default_rng(0)
    calls = np.concatenate([today, rest])
    total, as_far = calls.sum(axis=0), 1
    for first in range(0, _SHUFFLES, _AT_ONCE):
        orders = rng.random((min(_AT_ONCE, _SHUFFLES - first), len(calls)))
        chosen = orders.argpartition(len(today) - 1, axis=1)[:, : len(today)]
        sums = calls[chosen].sum(axis=1)
        as_far += int((_apart(_of_sums(sums), _of_sums(total - sums)) >= distance - 1e-12).sum())
    return as_far / (_SHUFFLES + 1)
