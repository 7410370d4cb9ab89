"""Choose the recordings that have to be heard: the new and the changed."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from ecan_core.audio.decode import hashed
from ecan_core.errors import UnusableAudioError
from ecan_core.utterance import Utterance
from target_site.results.days import date_of
from target_site.results.index import Index, Known, Touched
from target_site.results.shards import Shard, place_of_path

TRIED_AGAIN_DAYS = 7
"""So long what was lost is tried again with each run, although it did not change: a disk may have been out of reach."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """Describe a recording as it was found, before it is heard.

    Attributes:
        utterances: what is listed of it.
        place: digest of where it lies.
        listed: digest of what the list says of it, also of people who are left out.
        size_bytes: of its file; None where there is none.
        mtime_ns: when the file was last changed, in nanoseconds since 1970.
        sha256: of its bytes; None until they are read, and where they cannot be.
        known: what is known of an earlier hearing.
    """

    utterances: tuple[Utterance, ...]
    place: str
    listed: str
    size_bytes: int | None
    mtime_ns: int | None
    sha256: str | None = None
    known: Known | None = None

    @property
    def path(self) -> Path:
        """Return its file."""
        return self.utterances[0].path

    @property
    def is_unchanged(self) -> bool:
        """Return whether its file looks as it did when it was heard."""
        assert self.known is not None
        return (self.size_bytes, self.mtime_ns) == (self.known.size_bytes, self.known.mtime_ns)

    def supersedes(self, day: int) -> str | None:
        """Return the date of an earlier day that counts no longer."""
        return None if self.known is None or self.known.day == day else date_of(self.known.day)

    def is_tried_again(self, day: int) -> bool:
        """Return whether it was lost a short time ago and is the same."""
        known = self.known
        if known is None or not known.is_lost or day - known.day > TRIED_AGAIN_DAYS:
            return False
        return self.listed == known.listed and self.is_unchanged


class Choice(NamedTuple):
    """Hold what has to be heard.

    Attributes:
        heard: the recordings, in the order in which they are listed.
        num_known: how many others there are.
        touched: those of them whose files were written anew with the same bytes.
    """

    heard: tuple[Found, ...]
    num_known: int
    touched: tuple[Touched, ...]


def choose(listed: Sequence[Utterance], shard: Shard, index: Index, day: int) -> Choice:
    """Choose what is new of a share of the recordings.

    A recording is new if it has never been predicted, if its bytes are others now, or if the list says something else
    of it. The bytes are read only where its size or time of modification is another.

    Args:
        listed: what a site points at.
        shard: the share.
        index: what was predicted before.
        day: today, in days since 1970.
    """
    found = [one for one in _found(listed) if shard.holds(one.place)]
    known = index.known([one.place for one in found])
    heard, touched = [], []
    for one in (replace(one, known=known.get(one.place)) for one in found):
        if one.known is None or one.known.listed != one.listed or one.is_tried_again(day):
            heard.append(_hashed(one))
        elif not one.is_unchanged:
            changed = _hashed(one)
            if changed.sha256 is None or changed.sha256 != one.known.sha256:
                heard.append(changed)
            elif one.size_bytes is not None and one.mtime_ns is not None:
                touched.append(Touched(one.place, one.size_bytes, one.mtime_ns))
    return Choice(tuple(heard), len(found) - len(heard), tuple(touched))


def _found(listed: Sequence[Utterance]) -> list[Found]:
    """Gather what is listed by recording, in the order of the list.

    A recording that is listed by several names has the first of them.
    """
    by_path: dict[Path, list[Utterance]] = {}
    for utterance in listed:
        by_path.setdefault(utterance.path, []).append(utterance)
    by_place: dict[str, list[Utterance]] = {}
    for path, utterances in by_path.items():
        same = by_place.setdefault(place_of_path(path), [])
        same += [replace(one, path=same[0].path) if same else one for one in utterances]
    return [_found_at(place, tuple(utterances)) for place, utterances in by_place.items()]


def _found_at(place: str, utterances: tuple[Utterance, ...]) -> Found:
    said = [(one.speaker, one.channel, one.start_s, one.end_s) for one in utterances]
    listed = sha256(json.dumps(said).encode()).hexdigest()[:16]
    size_bytes, mtime_ns = _stamp(utterances[0].path)
    return Found(utterances=utterances, place=place, listed=listed, size_bytes=size_bytes, mtime_ns=mtime_ns)


def _hashed(found: Found) -> Found:
    """Read a recording's bytes; what cannot be read is refused later."""
    try:
        return replace(found, sha256=hashed(found.path)[1])
    except UnusableAudioError:
        return found


def _stamp(path: Path) -> tuple[int, int] | tuple[None, None]:
    """Return size and time of a file as it is now; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None, None
    return status.st_size, status.st_mtime_ns
