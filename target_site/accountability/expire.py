"""Delete cached features and predictions past their retention time.

The time is `retention_days` in the site's rules.

The model itself is not touched: it is kept until it is adapted anew or its folder is removed.
"""

from collections.abc import Iterable
from pathlib import Path

from ecan_core.data.cache import FeatureCache
from protocol.ledger.grants import SECONDS_PER_DAY
from target_site.accountability.forget import remove_features, remove_predictions
from target_site.results.segments import PREDICTIONS


def expire(caches: Iterable[Path], predictions: Iterable[Path], *, days: int, today: int) -> list[Path]:
    """Delete caches and predictions that are more than ``days`` old.

    A cache counts from when it was begun, predictions from when they were written.

    Args:
        caches: where features may be kept.
        predictions: folders that `predict` wrote.
        days: how long they may be kept.
        today: days since 1970.

    Returns:
        What was removed.

    Raises:
        FileError: something cannot be removed, or is in use.
    """
    removed = []
    for cache in caches:
        if cache.exists() and today - _begun_on(cache) > days:
            remove_features(cache)
            removed.append(cache)
    for folder in predictions:
        written = [path.stat().st_mtime for name in PREDICTIONS if (path := folder / name).exists()]
        if written and today - int(min(written)) // SECONDS_PER_DAY > days:
            remove_predictions(folder)
            removed.append(folder)
    return removed


def _begun_on(cache: Path) -> int:
    with FeatureCache(cache) as opened:
        return opened.begun_on
