"""Remove a person from an adapted model.

What came from their recordings goes, and the model is made again without it.

The cache with the features of all recordings is deleted, because it holds nothing that cannot be computed again. So
the person's recordings need not exist any longer. Recordings in which they are heard are taken out of the predictions
of every day. In the end a signed certificate says which model replaced which.
"""

import contextlib
from pathlib import Path

from ecan_core.data.cache import OF_SQLITE, is_feature_cache
from ecan_core.data.forgotten import Forgotten
from ecan_core.errors import UsageError
from protocol.errors import Code, FileError
from protocol.files import cannot_write, refuse_link
from target_site.model.folder import (
    EARLIER_CACHE_FILE,
    REPLAY,
    UNFINISHED,
    file_of_model,
    remove_tree,
)
from target_site.report.days import finish_runs, recordings_of, write_day
from target_site.results.days import days_kept, folder_of, read_day
from target_site.results.index import INDEX, Index
from target_site.results.rows import read_rows
from target_site.results.runs import RUNS, drop_run, unfinished, writing_in_turn
from target_site.results.segments import CSV, JSONL, PREDICTIONS, Segment


def count_heard(folder: Path, person: Forgotten) -> int:
    """Count the utterances of somebody that a model was adapted to.

    Raises:
        UsageError: none, or the model's list of utterances is damaged.
    """
    segments = read_rows(file_of_model(folder, JSONL), Segment)
    heard = sum(person.covers(Path(one.recording), one.speaker) for one in segments)
    if not heard:
        named = f"such as {segments[0].recording}" if segments else "which names none"
        raise UsageError(
            f"{folder} was adapted to no utterance of theirs; give --speaker and --file as in {folder / CSV}, {named}."
        )
    return heard


def remove_traces(model: Path, cache: Path, predictions: tuple[Path, ...], person: Forgotten) -> None:
    """Remove what holds features or names and is not replaced by a new model.

    Args:
        model: folder of the adapted model, which nobody else writes into.
        cache: where features are kept.
        predictions: folders that `predict` writes into.
        person: whom to remove.

    Raises:
        UsageError: ``cache`` is no feature cache, or a folder's predictions are damaged.
        FileError: something cannot be removed, or is in use.
    """
    remove_features(cache)
    if is_feature_cache(model / EARLIER_CACHE_FILE):
        remove_features(model / EARLIER_CACHE_FILE)
    for folder in predictions:
        remove_from_days(folder, person)
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


def remove_from_days(out: Path, person: Forgotten) -> None:
    """Take recordings of a person out of every day, and out of the index.

    The whole recording goes, with all who speak in it. If it is still there, a later run hears it again, without them.
    The folder of a day that the index does not know goes as a whole: a merge that was killed left it.

    Raises:
        UsageError: a day is damaged.
        FileError: something is being heard right now, or cannot be written.
    """
    finish_runs(out, person)
    for run in unfinished(out):
        drop_run(run)
    if any((out / RUNS).glob("*-of-*/")):
        raise FileError(Code.LOCKED, f"Another command is writing into {out}; wait for it, then forget again.")
    if (out / INDEX).exists():
        with writing_in_turn(out), Index(out) as index:
            sounds = _sounds_of(out, person, index)
            for day in days_kept(out, index):
                if day in index.days():
                    _remove_from_day(out, day, person, sounds, index)
                else:
                    remove_predictions(folder_of(out, day))
            index.forget_sounds(lambda sound: sound in sounds or person.covers_sound(sound, None))


def _sounds_of(out: Path, person: Forgotten, index: Index) -> frozenset[str]:
    """Return digests of all recordings of a person, to know copies by."""
    sounds: set[str] = set()
    for content in (read_day(folder_of(out, day)) for day in index.days()):
        theirs = recordings_of(content, person)
        sounds.update(call.sha256 for call in content.calls if call.sha256 and call.recording in theirs)
    return frozenset(sounds)


def _remove_from_day(out: Path, day: int, person: Forgotten, sounds: frozenset[str], index: Index) -> None:
    """Write a day anew without a person's recordings, if it has any."""
    folder = folder_of(out, day)
    content = read_day(folder)
    theirs = recordings_of(content, person).union(call.recording for call in content.calls if call.sha256 in sounds)
    if not theirs:
        return
    rest, facts = content.without(theirs), None
    _remove_unfinished_files(folder)
    if rest.calls:
        facts = write_day(out, rest, index).facts
    else:
        remove_predictions(folder)
    index.forget([call.place for call in content.calls if call.recording in theirs], day, facts)


def remove_predictions(folder: Path) -> None:
    """Remove what `predict` wrote into the folder of a day.

    Raises:
        FileError: the folder is a link, or cannot be written.
    """
    refuse_link(folder)
    try:
        if folder.is_dir():
            _remove_unfinished_files(folder)
            for name in PREDICTIONS:
                (folder / name).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                folder.rmdir()
    except OSError as error:
        raise cannot_write(folder, error) from error


def _remove_unfinished_files(folder: Path) -> None:
    """Remove what a process left that was killed while writing a file."""
    for path in folder.glob(".*.part"):
        path.unlink(missing_ok=True)
