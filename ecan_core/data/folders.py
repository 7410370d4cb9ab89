"""Find recordings below a folder."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from ecan_core.errors import AudioError

AUDIO_SUFFIXES = frozenset({".flac", ".mp3", ".oga", ".ogg", ".opus", ".wav"})
"""Files that are always read."""

OTHER_SUFFIXES = frozenset(
    {
        *(
            ".3gp",
            ".aac",
            ".aif",
            ".aifc",
            ".aiff",
            ".amr",
            ".au",
            ".avi",
            ".caf",
            ".flv",
            ".m4a",
            ".m4v",
            ".mka",
            ".mkv",
        ),
        *(".mov", ".mp4", ".rf64", ".snd", ".w64", ".webm", ".wma"),
    }
)
"""Files that hold sound as well, in formats that need another decoder or are refused by name."""


def find_files(folder: Path, suffixes: frozenset[str]) -> Iterator[Path]:
    """Yield every file below `folder` with one of the `suffixes`.

    Upper and lower case do not matter, and the order is fixed.

    Hidden files and folders are passed over: other systems leave files such as `._call.wav` beside real ones. Links to
    folders are followed, each folder once.

    Raises:
        AudioError: A folder cannot be listed; what it holds would otherwise be missed without a word.
    """
    seen = {folder.resolve()}
    for root, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and _is_new(Path(root, name), seen))
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in suffixes:
                yield Path(root, name)


def _is_new(folder: Path, seen: set[Path]) -> bool:
    """Return whether a folder was not seen before, and note it.

    Only links lead to a folder twice, or nowhere.
    """
    place = Path(os.path.realpath(folder))
    is_new = place not in seen
    seen.add(place)
    return is_new


def linked_folders(folder: Path) -> Iterator[Path]:
    """Yield the folders that links below a folder lead to."""
    seen = {folder.resolve()}
    for root, folders, _ in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".") and _is_new(Path(root, name), seen)]
        yield from (Path(root, name).resolve() for name in folders if Path(root, name).is_symlink())


def _refuse(error: OSError) -> NoReturn:
    message = f"The folder {error.filename} cannot be listed ({error.strerror}); check its permissions or move it away."
    raise AudioError(message) from error


def printable(path: Path) -> str:
    """Return the path with forward slashes, non-UTF-8 bytes escaped."""
    return path.as_posix().encode("utf-8", "backslashreplace").decode()
