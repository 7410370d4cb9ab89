"""Refuse a layout that puts keys or rules within reach.

Landlock can only add to what may be reached: a key that lies in a folder of recordings can be read with them.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from protocol.errors import Code, ContainmentError

IsPrivate = Callable[[str], bool]
"""Tells by a file's name whether a contained process has no business with it."""
_Place = tuple[int, int]


def out_of_reach(
    own: Iterable[Path], is_private: IsPrivate, *, readable: Sequence[Path], writable: Sequence[Path]
) -> list[Path]:
    """List the files that a contained process must not be able to reach.

    These are a site's own, and those that have a private name: in what may be reached, or beside a file of it.

    Args:
        own: files, and folders of them.
        is_private: tells by a name.
        readable: files and folders that the process may read.
        writable: folders that it may write into.

    Raises:
        ContainmentError: one of them lies where the process may read or write.
    """
    beside = {path.parent for path in readable if path.is_file()}
    private = [
        *_files(own, lambda _: True, depth=0),
        *_files([*readable, *writable], is_private),
        *_files(beside, is_private, depth=1),
    ]
    _refuse_within_reach(private, readable=readable, writable=writable)
    return private


def _files(places: Iterable[Path], is_wanted: IsPrivate, *, depth: int | None = None) -> Iterator[Path]:
    """Yield files by their names.

    These, and those in folders so many levels deep; None is all.
    """
    for place in places:
        if not place.is_dir():
            found = place.resolve() if place.is_symlink() else place
            yield from [place] if is_wanted(found.name) and place.exists() else []
            continue
        for folder, folders, names in os.walk(place):
            yield from (Path(folder, name) for name in names if is_wanted(name))
            if depth is not None and len(Path(folder).relative_to(place).parts) >= depth:
                folders.clear()


def _refuse_within_reach(private: Iterable[Path], *, readable: Sequence[Path], writable: Sequence[Path]) -> None:
    """Refuse a private file in what may be reached.

    Links and second names of the same file count.
    """
    holders: dict[_Place | None, Path] = {}
    for path in private:
        found = path.resolve()
        holders |= dict.fromkeys(map(_place, (found, *found.parents)), path)
    holders.pop(None, None)
    for what, roots in (("change", writable), ("read", readable)):
        for root in roots:
            if holder := holders.get(_place(root)):
                raise ContainmentError(
                    Code.CONTAINMENT,
                    f"The process that reads recordings could {what} {holder}, because it may {what} {root}; keep keys "
                    "and rules in a folder of their own, or name another folder here.",
                )


def _place(path: Path) -> _Place | None:
    """Return what a file is known by, whatever its name.

    None where there is none.
    """
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino
