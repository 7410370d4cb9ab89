"""Keep out who and what was forgotten, by keyed digests, not by names.

Whoever holds the key can find out whether a guess is among the digests, and nobody can read a name from them.
"""

import hmac
import json
import secrets
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from ecan_core.audio.decode import hashed
from ecan_core.data.unlabeled import whole_path
from ecan_core.errors import AudioError, UnusableAudioError
from ecan_core.utterance import Utterance

KEY_BYTES = 32
_MARK_BYTES = 16
Sounds = Mapping[Path, str | None]
"""SHA-256 of the bytes of files; None where one cannot be read."""


@dataclass(frozen=True, kw_only=True)
class Forgotten:
    """Hold the marks of people and recordings that are never read again.

    Attributes:
        key: What the marks are computed with, in hexadecimal; empty where nobody was ever forgotten.
        marks: Keyed digests in hexadecimal: of names, of paths, and of the bytes of recordings.
    """

    key: str = ""
    marks: tuple[str, ...] = ()

    @classmethod
    def begin(cls) -> "Forgotten":
        """Return no marks yet, with a new key."""
        return cls(key=secrets.token_hex(KEY_BYTES))

    def named(self, speakers: Iterable[str], files: Iterable[Path]) -> "Forgotten":
        """Return the marks of these names and paths alone."""
        marks = [self._of_speaker(name) for name in speakers] + [self._of_file(path) for path in files]
        return replace(self, marks=tuple(marks))

    def plus(self, marks: Iterable[str]) -> "Forgotten":
        """Return these marks and others of the same key, each once."""
        return replace(self, marks=tuple(dict.fromkeys((*self.marks, *marks))))

    def covers(self, path: Path, speaker: str | None) -> bool:
        """Return whether a recording is known by its path or speaker."""
        if not self.marks:
            return False
        return self._of_file(path) in self._known or (speaker is not None and self._of_speaker(speaker) in self._known)

    def covers_sound(self, sound: str | None, speaker: str | None) -> bool:
        """Return whether a recording is known by its bytes.

        Where only a part of them is known, whoever has a name there is somebody else.
        """
        if sound is None:
            return False
        return self._mark("sound", sound) in self._known or (
            speaker is None and self._mark("part", sound) in self._known
        )

    def marks_of(self, utterance: Utterance, sound: str | None) -> tuple[str, ...]:
        """Return the marks by which a recording that is covered is known.

        A stretch or channel of it makes no more of the recording known than that somebody is heard in it.
        """
        is_cut = (utterance.channel, utterance.start_s, utterance.end_s) != (None, None, None)
        place = self._of_file(utterance.path)
        is_whole = not is_cut or place in self._known
        of_sound = () if sound is None else (self._mark("sound" if is_whole else "part", sound),)
        return (place, *of_sound) if is_whole else of_sound

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.marks)

    def _of_speaker(self, name: str) -> str:
        return self._mark("speaker", unicodedata.normalize("NFC", name))

    def _of_file(self, path: Path) -> str:
        return self._mark("file", whole_path(path))

    def _mark(self, kind: str, what: str) -> str:
        return hmac.digest(bytes.fromhex(self.key), json.dumps([kind, what]).encode(), "sha256")[:_MARK_BYTES].hex()


NOBODY = Forgotten()


class Parted(NamedTuple):
    """Hold what is left of a listing.

    Attributes:
        kept: What may be read, in order.
        num_left_out: How many utterances may not.
        forgotten: The marks, with those of the recordings that were left out.
    """

    kept: tuple[Utterance, ...]
    num_left_out: int
    forgotten: Forgotten


def leave_out(listed: Sequence[Utterance], forgotten: Forgotten) -> Parted:
    """Leave out whom and what was forgotten, and copies under other names.

    The bytes of all files are hashed if anybody was forgotten; no file is parsed.

    Args:
        listed: What a site points at.
        forgotten: Marks of what is left out.

    Raises:
        AudioError: Nothing else is listed.
    """
    parted = part(listed, forgotten)
    if not parted.kept and listed:
        raise AudioError("Everything that is listed here was forgotten; name other recordings.")
    return parted


def part(listed: Sequence[Utterance], forgotten: Forgotten) -> Parted:
    """Part what may be read from what may not, as `leave_out` does.

    Nothing need be left.
    """
    if not forgotten.marks:
        return Parted(tuple(listed), 0, forgotten)
    sounds = {path: _sound(path) for path in dict.fromkeys(utterance.path for utterance in listed)}
    known = forgotten.plus(_marks_of(listed, sounds, forgotten))
    kept = tuple(item for item in listed if not _is_covered(item, sounds, known))
    return Parted(kept, len(listed) - len(kept), known)


def _marks_of(listed: Sequence[Utterance], sounds: Sounds, forgotten: Forgotten) -> list[str]:
    theirs = (item for item in listed if forgotten.covers(item.path, item.speaker))
    return [mark for item in theirs for mark in forgotten.marks_of(item, sounds[item.path])]


def _is_covered(utterance: Utterance, sounds: Sounds, known: Forgotten) -> bool:
    return known.covers(utterance.path, utterance.speaker) or known.covers_sound(
        sounds[utterance.path], utterance.speaker
    )


def _sound(path: Path) -> str | None:
    try:
        return hashed(path)[1]
    except UnusableAudioError:
        return None  # whoever reads it next refuses it with its reason
