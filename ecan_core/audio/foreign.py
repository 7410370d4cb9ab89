"""Compressed recordings: FLAC, Ogg (Vorbis, Opus) and MP3, decoded by libsndfile where it can do no harm.

A process is made for every file and thrown away: with a limit of memory, of time and of what it may give back. What
makes it crash, hang or swell costs that one file.
"""

import io
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ecan_core.errors import AudioRefused
from ecan_core.workers import shared_out

MAX_BYTES = 1 << 30
MAX_FRAMES = 1 << 34
MAX_MEMORY = 4 << 30  # bytes of address space, most of it the libraries that are there already
MAX_SECONDS = 30  # of computing

_FACTS_BYTES = 24
_SHORT = 1 << 24  # samples

_DECODED = {b"fLaC": "FLAC", b"OggS": "Ogg", b"ID3": "MP3"}
_NAMED = {
    b"RF64": "RF64",
    b"BW64": "BW64",
    b"riff": "Wave64",
    b"RIFX": "big-endian WAV",
    b"RIFF": "RIFF that is no WAV",
    b"FORM": "AIFF",
    b"caff": "CAF",
    b".snd": "AU",
    b"MATLAB": "MATLAB",
    b"\xf0\x7e": "SDS",
    b"Extended": "XI",
    b"\x7fELF": "program",
    b"MZ": "program",
    b"PK\x03\x04": "ZIP",
    b"%PDF": "PDF",
    b"\x1aE\xdf\xa3": "Matroska",
    b"#!AMR": "AMR",
    b"<": "HTML or XML",
}


@dataclass(frozen=True)
class ForeignContent:
    """The sound in a compressed file.

    Attributes:
        num_channels: Channels.
        sample_rate: Frames per second, in Hz.
        num_frames: Frames, T.
    """

    num_channels: int
    sample_rate: int
    num_frames: int
    _data: bytes
    _name: str
    _whole: npt.NDArray[np.float32] | None

    def read(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Decodes frames, [stop - start, channels]; fewer where the file ends before."""
        if self._whole is not None:
            return self._whole[start:stop]
        said = _aside(lambda: _samples(self._data, start, stop), self._name)
        return np.frombuffer(said, np.float32).reshape(-1, self.num_channels)


def open_content(head: bytes, descriptor: int, size: int, name: str) -> ForeignContent:
    """Reads what a compressed file says of itself.

    Args:
        head: Its first bytes.
        descriptor: The open file.
        size: Its length in bytes.
        name: What messages call it.

    Raises:
        AudioRefused: CONTAINER, UNREADABLE, EMPTY, MALFORMED or TOO_LONG.
    """
    _require_known(head, name)
    if size > MAX_BYTES:
        raise AudioRefused("TOO_LONG", f"{name} is larger than 1 GiB; convert it to WAV.")
    import soundfile  # noqa: F401 - once here, so that not every process that is thrown away loads it

    data = _whole(descriptor, size)
    said = _aside(lambda: _facts(data), name)
    num_channels, sample_rate, num_frames = np.frombuffer(said[:_FACTS_BYTES], np.int64).tolist()
    if num_frames <= 0:
        raise AudioRefused("EMPTY", f"{name} holds no sound; record or copy it again.")
    if num_frames > MAX_FRAMES or num_channels > 16:
        raise AudioRefused("MALFORMED", f"{name} claims an impossible length: it is damaged; export it again.")
    whole = None
    if len(said) > _FACTS_BYTES:
        whole = np.frombuffer(said[_FACTS_BYTES:], np.float32).reshape(-1, num_channels)
    return ForeignContent(num_channels, sample_rate, num_frames, data, name, whole)


def _require_known(head: bytes, name: str) -> None:
    is_mp3 = len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0
    if is_mp3 or any(head.startswith(mark) for mark in _DECODED):
        return
    kind = next((kind for mark, kind in _NAMED.items() if head.lstrip().startswith(mark)), None)
    if head[4:8] == b"ftyp":
        kind = "MP4"
    what = f"is {kind}" if kind else "is not audio that can be decoded"
    raise AudioRefused("CONTAINER", f"{name} {what}; convert it to WAV or FLAC.")


def _whole(descriptor: int, size: int) -> bytes:
    blocks, place = [], 0
    while block := os.pread(descriptor, min(size, MAX_BYTES) - place, place):
        blocks.append(block)
        place += len(block)
    return b"".join(blocks)


def _aside(decode: Callable[[], bytes], name: str) -> bytes:
    """Run a decoder in a process that is thrown away.

    Raises:
        AudioRefused: UNREADABLE: it fails, or reaches a limit.
    """

    def limited(_: bytes) -> bytes:
        _limit()
        return decode()

    (said,) = shared_out([b""], _quiet(limited), 1)
    if not said:
        raise AudioRefused("UNREADABLE", f"{name} is not audio that can be decoded; convert it to WAV or FLAC.")
    return said


def _quiet(compute: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Nothing instead of an error: what a decoder says of hostile bytes is of no use."""

    def computed(content: bytes) -> bytes:
        try:
            return compute(content)
        except Exception:
            return b""

    return computed


def _limit() -> None:
    with suppress(ImportError, ValueError, OSError):
        import resource  # other systems do not have it

        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (MAX_SECONDS, MAX_SECONDS))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _facts(data: bytes) -> bytes:
    """Channels, rate and length, and of a short file all samples at once."""
    import soundfile

    with soundfile.SoundFile(io.BytesIO(data)) as sound:
        facts = np.array([sound.channels, sound.samplerate, sound.frames], np.int64).tobytes()
        if sound.frames * sound.channels > _SHORT:
            return facts
        return facts + bytes(sound.read(dtype="float32", always_2d=True).tobytes())


def _samples(data: bytes, start: int, stop: int) -> bytes:
    import soundfile

    with soundfile.SoundFile(io.BytesIO(data)) as sound:
        sound.seek(start)
        content: bytes = sound.read(stop - start, dtype="float32", always_2d=True).tobytes()
        return content
