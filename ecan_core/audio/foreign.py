"""Decode FLAC, Ogg (Vorbis, Opus) and MP3 in a disposable process.

Every file gets a new process with a limit of memory, of time and of what it may return. It has pipes and the file,
which is open already, and can open no other: it builds the walls that a site has brought (`ecan_core.runtime.cage`).
A file that makes it crash, hang or swell costs that one file alone.
"""

import os
import struct
import time
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from ecan_core.audio.wav import MAX_CHANNELS
from ecan_core.errors import UnusableAudioError
from ecan_core.runtime import cage
from ecan_core.runtime.workers import Companion

MAX_BYTES = 1 << 30
MAX_FRAMES = 1 << 34
MAX_MEMORY = 4 << 30  # bytes of address space, most of it the libraries that are there already
MAX_SECONDS, MAX_SECONDS_IN_ALL = 30, 1200  # of computing, for one answer and for one file

_FACTS = struct.Struct("<qqq")  # channels, frames per second, frames
_PLACE = struct.Struct("<qq")  # first frame, and the one after the last
_SOUND = 3  # the descriptor of the file in the decoder, behind its pipes
_RUN_UP, _PASSED = 1 << 13, 1 << 18  # frames before those that are wanted, and so many at once

_DECODED = (b"fLaC", b"OggS", b"ID3")
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


class ForeignContent:
    """Decode a compressed file in a process of its own; close it when done.

    Attributes:
        num_channels: Channels.
        sample_rate: Frames per second, in Hz.
        num_frames: Frames, T.

    Args:
        descriptor: The file, open to read; it stays open.
        name: Its name in messages.

    Raises:
        UnusableAudioError: UNREADABLE, EMPTY or MALFORMED.
    """

    def __init__(self, descriptor: int, name: str) -> None:
        self._name = name
        self._decoder = Companion(_Decoder(descriptor))
        try:
            facts = self._ask(b"", _FACTS.size)
            if len(facts) != _FACTS.size:
                raise self._unreadable()
            self.num_channels, self.sample_rate, self.num_frames = _FACTS.unpack(facts)
            if self.num_frames <= 0:
                raise UnusableAudioError("EMPTY", f"{name} holds no sound; record or copy it again.")
            if self.num_frames > MAX_FRAMES or not 1 <= self.num_channels <= MAX_CHANNELS:
                raise UnusableAudioError(
                    "MALFORMED", f"{name} claims an impossible length: it is damaged; export it again."
                )
        except BaseException:
            self.close()
            raise

    def read(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Decode frames, [stop - start, channels]; fewer at the file's end."""
        frame_bytes = self.num_channels * np.dtype(np.float32).itemsize
        said = self._ask(_PLACE.pack(start, stop), (stop - start) * frame_bytes + 1)[1:]
        return np.frombuffer(said[: len(said) - len(said) % frame_bytes], np.float32).reshape(-1, self.num_channels)

    def close(self) -> None:
        """End the process."""
        self._decoder.close()

    def _ask(self, question: bytes, most: int) -> bytes:
        said = self._decoder.ask(question, most)
        if not said:
            raise self._unreadable()
        return said

    def _unreadable(self) -> UnusableAudioError:
        return UnusableAudioError(
            "UNREADABLE", f"{self._name} is not audio that can be decoded; convert it to WAV or FLAC."
        )


def open_content(head: bytes, descriptor: int, size: int, name: str) -> ForeignContent:
    """Read the header facts of a compressed file.

    Args:
        head: Its first bytes.
        descriptor: The file, open to read.
        size: Its length in bytes.
        name: What messages call it.

    Raises:
        UnusableAudioError: CONTAINER, UNREADABLE, EMPTY, MALFORMED or TOO_LONG.
    """
    _require_known(head, name)
    if size > MAX_BYTES:
        raise UnusableAudioError("TOO_LONG", f"{name} is larger than 1 GiB; convert it to WAV.")
    import soundfile  # noqa: F401 - once here, so that not every process that is thrown away loads it

    return ForeignContent(descriptor, name)


def _require_known(head: bytes, name: str) -> None:
    is_mp3 = len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0
    if is_mp3 or head.startswith(_DECODED):
        return
    kind = next((kind for mark, kind in _NAMED.items() if head.lstrip().startswith(mark)), None)
    if head[4:8] == b"ftyp":
        kind = "MP4"
    what = f"is {kind}" if kind else "is not audio that can be decoded"
    raise UnusableAudioError("CONTAINER", f"{name} {what}; convert it to WAV or FLAC.")


class _Decoder:
    """Answer questions about a file in a disposable process.

    It answers with the facts of the file, or with samples behind one byte.

    Where the decoder fails the answer is empty: a decoder's message about hostile bytes is of no use.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._sound: Any = None
        self._place = 0

    def __call__(self, question: bytes) -> bytes:
        try:
            if self._sound is None:
                self._shut_in()
                self._sound = self._open()
            _limit_time()
            return self._samples(*_PLACE.unpack(question)) if question else self._facts()
        except Exception:
            return b""

    def _shut_in(self) -> None:
        _mute()
        _limit()
        os.dup2(self._descriptor, _SOUND)
        cage.build(_SOUND + 1)

    def _open(self) -> Any:
        import soundfile

        os.lseek(_SOUND, 0, os.SEEK_SET)
        return soundfile.SoundFile(_SOUND, closefd=False)

    def _facts(self) -> bytes:
        return _FACTS.pack(self._sound.channels, self._sound.samplerate, self._sound.frames)

    def _samples(self, start: int, stop: int) -> bytes:
        self._move(start)
        samples = self._sound.read(stop - start, dtype="float32", always_2d=True)
        self._place += len(samples)
        return b"." + bytes(samples.tobytes())

    def _move(self, start: int) -> None:
        """Go to a frame as if everything before it had been decoded."""
        if self._sound.subtype == "VORBIS":  # libsndfile finds its places, but for 128 frames now and then
            if start < self._place:
                self._sound, self._place = self._open(), 0
        elif start != self._place:
            # A decoder that begins in the middle is wrong for some hundred frames.
            self._place = max(start - _RUN_UP, 0)
            self._sound.seek(self._place)
        while self._place < start:
            passed = len(self._sound.read(min(start - self._place, _PASSED), dtype="float32"))
            if not passed:
                break
            self._place += passed


def _mute() -> None:
    """Silence what a decoder prints, without a file: into an unread pipe."""
    reading, writing = os.pipe()
    os.close(reading)
    os.dup2(writing, 2)
    os.close(writing)


def _limit() -> None:
    with suppress(ImportError, ValueError, OSError):
        import resource  # other systems do not have it

        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (MAX_SECONDS, MAX_SECONDS_IN_ALL))


def _limit_time() -> None:
    """Limit the processor time of one answer."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        used = int(time.process_time())
        resource.setrlimit(resource.RLIMIT_CPU, (min(used + MAX_SECONDS, MAX_SECONDS_IN_ALL), MAX_SECONDS_IN_ALL))
