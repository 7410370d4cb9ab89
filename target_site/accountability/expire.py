"""Delete cached features and predictions past their retention time.

The time is `retention_days` in the site's rules.

The model itself is not touched: it is kept until it is adapted anew or its folder is removed.
"""

from collections.abc import Iterable
from pathlib import Path

from ecan_core.data.cache import FeatureCache
from protocol.ledger.grants import SECONDS_PER_DAY
from target_site.accountability.forget import remove_features, remove_predictions
from target_site.results.days import days_kept, folder_of
from target_site.results.index import INDEX, Index
from target_site.results.runs import drop_run, unfinished, writing_in_turn


def expire(caches: Iterable[Path], predictions: Iterable[Path], *, days: int, today: int) -> list[Path]:
    """Delete caches and predictions that are more than ``days`` old.

    A cache counts from when it was begun, predictions from the day of run. Recordings whose predictions expired stay
    known, so they are not predicted again.

    Args:
        caches: where features may be kept.
        predictions: folders that `predict` writes into.
        days: how long they may be kept.
        today: days since 1970.

    Returns:
        What was removed: caches, and folders of days.

    Raises:
        FileError: something cannot be removed, or is in use.
    """
    removed = []
    for cache in caches:
        if cache.exists() and today - _begun_on(cache) > days:
            remove_features(cache)
            removed.append(cache)
    for out in predictions:
        removed += _expired_runs(out, days, today)
        removed += _expired_days(out, days, today)
    return removed


def _expired_days(out: Path, days: int, today: int) -> list[Path]:
    """Remove what was predicted on days that are too long ago."""
    if not (out / INDEX).exists():
        return []
    with writing_in_turn(out), Index(out) as index:
        past = [day for day in days_kept(out, index) if today - day > days]
        for day in past:
            remove_predictions(folder_of(out, day))
            index.expire(day)
    return [folder_of(out, day) for day in past]


def _expired_runs(out: Path, days: int, today: int) -> list[Path]:
    """Remove what runs left that were killed too long ago."""
    past = []
    for folder in unfinished(out):
        if today - int(folder.stat().st_mtime) // SECONDS_PER_DAY > days:
            drop_run(folder)
            past.append(folder)
    return past


def _begun_on(cache: Path) -> int:
    with FeatureCache(cache) as opened:
        return opened.begun_on
