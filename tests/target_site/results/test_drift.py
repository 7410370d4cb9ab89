"""The test of a day against the weeks before: what it calls drift, and how often by mistake."""

import numpy as np
import pytest

from target_site.results.drift import FEWEST_CALLS, FEWEST_DAYS, FEWEST_OF_WEEK, find_drift, find_weekly_drift

CLASSES = ("anger", "joy", "neutral")
USUAL = (0.1, 0.2, 0.5, 0.2)


def a_day(rng, shares=USUAL, calls: int = 60, spread: float = 5.0, of_day: float = 0.0) -> np.ndarray:
    """Calls whose utterances are alike: each has shares of its own, around those of the day."""
    own = rng.dirichlet(np.array(shares) / of_day) if of_day else np.array(shares)
    of_calls = rng.standard_gamma(spread * own + 1e-3, (calls, len(own)))
    return rng.multinomial(rng.integers(5, 60, calls), of_calls / of_calls.sum(axis=1, keepdims=True))


def weeks(rng, days: int = 28, **how) -> dict[int, np.ndarray]:
    return {day: a_day(rng, **how) for day in range(days)}


@pytest.mark.parametrize("of_day", [0.0, 0.005])
def test_days_as_before_are_hardly_ever_called_drift(of_day):
    """Calls of one day are alike, and so are days: neither is taken for drift."""
    rng = np.random.default_rng(0)
    found = [find_drift(a_day(rng, of_day=of_day), weeks(rng, of_day=of_day), CLASSES) for _ in range(40)]
    assert sum(drift is not None and drift.is_drift for drift in found) <= 3


def test_counting_utterances_would_call_such_days_drift():
    """What the test must not do: utterances as if they were drawn one by one."""
    from scipy.stats import chi2_contingency

    rng = np.random.default_rng(0)
    tables = [np.stack([a_day(rng).sum(axis=0), sum(weeks(rng).values()).sum(axis=0)]) for _ in range(20)]
    assert sum(chi2_contingency(table).pvalue < 0.01 for table in tables) > 10


def test_a_shift_is_found_and_named():
    rng = np.random.default_rng(0)
    shifted = a_day(rng, shares=(0.1, 0.2, 0.3, 0.4))
    drift = find_drift(shifted, weeks(rng), CLASSES)
    assert drift is not None
    assert drift.is_drift
    assert drift.moved in ("uncertain", "neutral")
    assert 0.1 < drift.low < drift.distance < drift.high < 0.3
    assert (drift.p, drift.num_days) == (0.001, 28)


def test_a_day_that_lies_no_further_off_than_another_has_not_drifted():
    rng = np.random.default_rng(0)
    before = weeks(rng)
    before[3] = a_day(rng, shares=(0.4, 0.2, 0.2, 0.2))
    today = a_day(rng, shares=(0.3, 0.2, 0.3, 0.2))
    drift = find_drift(today, before, CLASSES)
    assert drift is not None
    assert (drift.p < 0.01, drift.is_drift) == (True, False)


@pytest.mark.parametrize(("days", "calls"), [(FEWEST_DAYS - 1, 60), (28, FEWEST_CALLS - 1)])
def test_too_little_is_not_compared(days, calls):
    rng = np.random.default_rng(0)
    assert find_drift(a_day(rng, calls=calls), weeks(rng, days), CLASSES) is None


def test_the_same_calls_give_the_same_figures():
    rng = np.random.default_rng(0)
    today, before = a_day(rng), weeks(rng)
    assert find_drift(today, before, CLASSES) == find_drift(today, before, CLASSES)


def a_season(rng, *, shares=USUAL, days: int = 35, of_day: float = 0.005) -> dict[int, np.ndarray]:
    """Weeks of days that differ, the last of them with these shares."""
    usual = {day: a_day(rng, of_day=of_day) for day in range(days - 7)}
    return usual | {day: a_day(rng, shares=shares, of_day=of_day) for day in range(days - 7, days)}


def test_weeks_as_before_are_hardly_ever_called_drift():
    rng = np.random.default_rng(0)
    found = [find_weekly_drift(a_season(rng), 34, CLASSES) for _ in range(40)]
    assert sum(drift is not None and drift.is_drift for drift in found) <= 2


def test_a_week_shows_changes_that_are_too_small_for_a_day():
    rng = np.random.default_rng(0)
    seasons = [a_season(rng, shares=(0.17, 0.2, 0.43, 0.2)) for _ in range(10)]
    weeks_found = [find_weekly_drift(season, 34, CLASSES) for season in seasons]
    before = [{day: season[day] for day in range(6, 34)} for season in seasons]
    days_found = [find_drift(season[34], days, CLASSES) for season, days in zip(seasons, before, strict=True)]
    of_weeks, of_days = (sum(drift is not None and drift.is_drift for drift in d) for d in (weeks_found, days_found))
    assert of_weeks >= 8
    assert of_weeks > 2 * of_days
    drift = weeks_found[0]
    assert drift is not None
    assert drift.moved in ("anger", "neutral")
    assert drift.low < drift.distance < drift.high


@pytest.mark.parametrize(("of_week", "before"), [(FEWEST_OF_WEEK - 1, 28), (7, FEWEST_DAYS - 1)])
def test_too_short_a_week_or_season_is_not_compared(of_week, before):
    rng = np.random.default_rng(0)
    days = [*range(28 - before, 28), *range(28, 28 + of_week)]
    assert find_weekly_drift({day: a_day(rng) for day in days}, 34, CLASSES) is None
