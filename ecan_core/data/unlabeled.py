"""List what a target site points at: recordings without labels."""

import glob
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ecan_core.data.folders import AUDIO_SUFFIXES, OTHER_SUFFIXES, find_files, linked_folders, printable
from ecan_core.data.tables import TABLE_SUFFIXES, read_table
from ecan_core.errors import NoRecordingError, UsageError
from ecan_core.utterance import Utterance

_SUFFIXES = AUDIO_SUFFIXES | OTHER_SUFFIXES


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Hold the utterances that a path stands for.

    Attributes:
        utterances: In a fixed order that does not depend on the file system.
        ignored_columns: Columns of a list that were not read, such as a label column.
    """

    utterances: tuple[Utterance, ...]
    ignored_columns: tuple[str, ...] = ()


def whole_path(path: Path) -> str:
    """Return a path from the root on, without `..`; links stay."""
    return os.path.normpath(path.absolute())


def list_utterances(path: Path) -> Listing:
    """List recordings without opening them.

    Of a list only the columns `file` or `path`, `speaker`, `channel`, `start` and `end` are read. A file
    that is listed but cannot be decoded is refused later, with its reason, not here.

    Args:
        path: A folder (searched to its depths), one recording, a pattern such as `calls/*.wav`, or a list
            as CSV or JSON Lines (see `ecan_core.data.tables`).

    Raises:
        UsageError: The path does not exist, or a line of the list has no clear meaning.
        NoRecordingError: It holds no recording.
    """
    listing = _list(path)
    if not listing.utterances:
        raise NoRecordingError(
            f"There is no recording in {path}; check that it is mounted, or put .wav or .flac files there."
        )
    return listing


def roots(path: Path) -> tuple[Path, ...]:
    """Return the files and folders that must be readable for a path.

    They are needed to list the path and to read what it lists: a folder, or the very files and nothing beside them.
    Where a link leads to is among them.

    Args:
        path: As for `list_utterances`.

    Raises:
        UsageError: As for `list_utterances`.
    """
    if path.is_dir():
        return _with_links([path, *linked_folders(path)], find_files(path, _SUFFIXES))
    if path.suffix.lower() in TABLE_SUFFIXES:
        listed = dict.fromkeys(row.utterance.path for row in read_table(path).rows)
        return (path, *(file for file in listed if file.is_file()))
    if path.exists():
        return (path,)
    if glob.has_magic(str(path)):
        return tuple(_matches(path))
    raise _nothing_at(path)


def searched(path: Path) -> tuple[Path, ...]:
    """Return the folders whose names must be readable to list a path.

    Only a pattern needs one, and the folders that links in it lead to: what lies in them is no part of that.
    """
    is_pattern = not path.exists() and glob.has_magic(str(path))
    return (_fixed(path), *linked_folders(_fixed(path))) if is_pattern else ()


def _with_links(folders: Iterable[Path], files: Iterable[Path]) -> tuple[Path, ...]:
    """Return folders, and the files outside them that links lead to."""
    inside = tuple(dict.fromkeys(folders))
    places = {Path(os.path.realpath(folder)) for folder in inside}
    targets = (Path(os.path.realpath(file)) for file in files if file.is_symlink())  # others lie where they are
    outside = (target for target in targets if not places.intersection(target.parents) and target.is_file())
    return tuple(dict.fromkeys([*inside, *outside]))


def _list(path: Path) -> Listing:
    if path.is_dir():
        return _from_files(list(find_files(path, _SUFFIXES)), path)
    if path.suffix.lower() in TABLE_SUFFIXES:
        table = read_table(path)
        utterances = tuple(row.utterance for row in table.rows)
        return Listing(utterances=utterances, ignored_columns=table.ignored_columns)
    if path.exists():
        return _from_files([path], path.parent)
    if glob.has_magic(str(path)):
        return _from_pattern(path)
    raise _nothing_at(path)


def _nothing_at(path: Path) -> UsageError:
    return UsageError(f"There is nothing at {path}; check the path.")


def _fixed(pattern: Path) -> Path:
    """Return the folder in which a pattern is searched."""
    return next(parent for parent in pattern.parents if not glob.has_magic(str(parent)))


def _from_pattern(pattern: Path) -> Listing:
    return _from_files(_matches(pattern), _fixed(pattern))


def _matches(pattern: Path) -> list[Path]:
    fixed = _fixed(pattern)
    try:
        matches = sorted(fixed.glob(str(pattern.relative_to(fixed))))
    except ValueError as error:
        raise UsageError(f"{pattern} is not a pattern ({error}); write one such as 'calls/**/*.wav'.") from error
    return [file for file in matches if file.suffix.lower() in _SUFFIXES]


def _from_files(files: list[Path], root: Path) -> Listing:
    return Listing(utterances=tuple(Utterance(id=printable(file.relative_to(root)), path=file) for file in files))
