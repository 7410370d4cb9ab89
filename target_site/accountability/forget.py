"""Remove a person from an adapted model.

What came from their recordings goes, and the model is made again without it.

The cache with the features of all recordings is deleted, because it holds nothing that cannot be computed again. So
the person's recordings need not exist any longer. Predictions that name the person are deleted as well. In the end a
signed certificate says which model replaced which.
"""

from pathlib import Path

from ecan_core.data.cache import OF_SQLITE, is_feature_cache
from ecan_core.data.forgotten import Forgotten
from ecan_core.errors import UsageError
from protocol.files import cannot_write
from protocol.locks import writing_alone
from target_site.model.folder import (
    EARLIER_CACHE_FILE,
    REPLAY,
    UNFINISHED,
    file_of_model,
    remove_tree,
)
from target_site.results.segments import JSONL, PREDICTIONS, read_segments


def count_heard(folder: Path, person: Forgotten) -> int:
    """Count the utterances of somebody that a model was adapted to.

    Raises:
        UsageError: none, or the model's list of utterances is damaged.
    """
    segments = read_segments(file_of_model(folder, JSONL))
    heard = sum(person.covers(Path(one.recording), one.speaker) for one in segments)
    if not heard:
        raise UsageError(f"{folder} was adapted to no utterance of theirs; check --speaker and --file in segments.csv")
    return heard


def remove_traces(model: Path, cache: Path, predictions: tuple[Path, ...]) -> None:
    """Remove what holds features or names and is not replaced by a new model.

    Args:
        model: folder of the adapted model, which nobody else writes into.
        cache: where features are kept.
        predictions: folders that `predict` wrote.

    Raises:
        UsageError: ``cache`` is no feature cache.
        FileError: something cannot be removed, or is in use.
    """
    remove_features(cache)
    if is_feature_cache(model / EARLIER_CACHE_FILE):
        remove_features(model / EARLIER_CACHE_FILE)
    for folder in predictions:
        remove_predictions(folder)
    try:
        for name in (UNFINISHED, REPLAY):
            remove_tree(model / name)
        _remove_unfinished_files(model)
    except OSError as error:
        raise cannot_write(model, error) from error


def remove_features(cache: Path) -> None:
    """Remove a feature cache, and the files that SQLite keeps beside it.

    Nobody else may use it.

    Raises:
        UsageError: it is another file, or a link.
        FileError: it cannot be removed.
    """
    if (cache.exists() or cache.is_symlink()) and not is_feature_cache(cache):
        raise UsageError(f"{cache} is no feature cache, so it stays; name the --cache that `adapt` was given.")
    try:
        for suffix in OF_SQLITE:
            cache.with_name(cache.name + suffix).unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(cache, error) from error


def remove_predictions(folder: Path) -> None:
    """Remove what `predict` wrote, unless it is writing there right now."""
    try:
        with writing_alone(folder):
            _remove_unfinished_files(folder)
            for name in PREDICTIONS:
                (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error


def _remove_unfinished_files(folder: Path) -> None:
    """Remove what a process left that was killed while writing a file."""
    for path in folder.glob(".*.part"):
        path.unlink(missing_ok=True)
