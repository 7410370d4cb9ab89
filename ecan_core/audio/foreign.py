"""Decode compressed recordings in a disposable process.

FLAC, Ogg (Vorbis, Opus), MP3, and what WAV files hold beside plain samples (GSM 6.10, ADPCM, MP3) by libsndfile; MP4,
AAC, AMR, WMA and Matroska by FFmpeg, if PyAV is installed. Every file gets a new process with a limit of memory, of
time and of what it may return. It has two pipes and the bytes of the file, and opens none: it builds the walls that a
site has brought (`ecan_core.runtime.cage`). A file that makes it crash, hang or swell costs that one file alone. A
recording lasts as long as it can be decoded, whatever its header says.

To fork a process costs what it has in memory, and torch alone is some hundred megabytes. So a site starts makers
before it loads that: small processes that fork the decoders, and pass on what they are asked and answer.
"""

import io
import os
import struct
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ecan_core.audio.streams import (
    MOST_FLAC,
    flac_length,
    flac_streams,
    mp3_without_lengths,
    ogg_streams,
    with_flac_length,
)
from ecan_core.audio.wav import MAX_CHANNELS, ReadAt
from ecan_core.errors import UnusableAudioError
from ecan_core.runtime import cage
from ecan_core.runtime.workers import Companion, put_aside, taken

MAX_BYTES = 1 << 30
MAX_FRAMES = 1 << 34
MAX_MEMORY = 4 << 30  # bytes of address space, most of it the libraries that are there already
MAX_SECONDS, MAX_SECONDS_IN_ALL = 30, 1200  # of computing, for one answer and for one file
MAX_IN_MEMORY = 1 << 30  # bytes of samples that are kept decoded

_FACTS = struct.Struct("<qqq")  # channels, frames per second, frames
_PIPES = 3  # descriptors that the decoder keeps: what it is asked and answers by, and an unread pipe
_PLACE = struct.Struct("<qq")  # first frame, and the one after the last
_RUN_UP, _PASSED, _LAST = 1 << 13, 1 << 18, 1 << 12  # frames before those that are wanted, and so many at once
_ONE_WAY = ("VORBIS", "GSM610")  # libsndfile finds no places in GSM, and misses them by 128 frames in Vorbis
_MOST_PARTS = 64  # streams of one file that are open at the same time
_TAIL = 1 << 16  # frames that are decoded at the end, to know where it is
_TRUNCATED, _UNEQUAL = b"!", b"?"  # answers
_MAKE, _ASK, _END = b"+", b"?", b"-"  # orders to a maker
_MOST = struct.Struct("<q")  # bytes of an answer
_MOST_MADE = 1 << 26  # bytes of a file that is sent to a maker; to fork costs little beside decoding a longer one

_FFMPEG = {b"\x1aE\xdf\xa3": "matroska", b"#!AMR": "amr", b"0&\xb2u\x8ef\xcf\x11": "asf"}
"""What PyAV decodes: by the first bytes, FFmpeg's name."""
_CALLED = {"matroska": "Matroska", "amr": "AMR", "asf": "Windows Media", "mov": "MP4", "aac": "AAC"}
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
    b"<": "HTML or XML",
}


class ForeignContent:
    """Decode a compressed file in a process of its own; close it when done.

    Attributes:
        num_channels: Channels.
        sample_rate: Frames per second, in Hz.
        num_frames: Frames, T.

    Args:
        way: How it is decoded.
        data: The file.
        name: Its name in messages.

    Raises:
        UnusableAudioError: UNREADABLE, EMPTY, TRUNCATED, CODEC or MALFORMED.
    """

    def __init__(self, way: str, data: bytes, name: str) -> None:
        self._name = name
        self._decoder = _made(way, data) or Companion(_Decoder(way, data))
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
        if said == _TRUNCATED:
            raise UnusableAudioError("TRUNCATED", f"{self._name} ends before its header says so; copy it again.")
        if said == _UNEQUAL:
            message = f"{self._name} changes its rate or its channels midway; export it again, or cut it there."
            raise UnusableAudioError("CODEC", message)
        if not said:
            raise self._unreadable()
        return said

    def _unreadable(self) -> UnusableAudioError:
        return UnusableAudioError(
            "UNREADABLE", f"{self._name} is not audio that can be decoded; convert it to WAV or FLAC."
        )


def open_content(head: bytes, read_at: ReadAt, size: int, name: str) -> ForeignContent:
    """Read the header facts of a compressed file.

    Args:
        head: Its first bytes.
        read_at: Reads the file.
        size: Its length in bytes.
        name: What messages call it.

    Raises:
        UnusableAudioError: CONTAINER, UNREADABLE, EMPTY, TRUNCATED, CODEC, MALFORMED or TOO_LONG.
    """
    way = _way_to_decode(head, name)
    if size > MAX_BYTES:
        raise UnusableAudioError("TOO_LONG", f"{name} is larger than 1 GiB; convert it to WAV.")
    return ForeignContent(way, read_at(0, size), name)


def of_wav(data: bytes, name: str, *, is_mp3: bool) -> ForeignContent:
    """Decode compressed sound of a WAV file.

    That is MP3, or a whole WAV file of another codec.

    Raises:
        UnusableAudioError: UNREADABLE, EMPTY or MALFORMED.
    """
    return ForeignContent("mp3" if is_mp3 else "wav", data, name)


def start_makers(count: int, enclose: Callable[[], object]) -> list[int]:
    """Start processes that make decoders, while this one is small.

    What they make has the walls that were brought until now.

    Args:
        count: How many: each serves one worker at a time. Without one, workers fork decoders themselves.
        enclose: Builds the walls of a maker, which reads code and no recording.

    Returns:
        The descriptors by which they are spoken to.
    """
    _load_libsndfile()
    descriptors: list[int] = []
    for maker in [Companion(_Maker(enclose)) for _ in range(count)]:
        if maker.ask(b"", 0) is not None:
            put_aside(maker)
            descriptors += maker.ends
    return descriptors


def _way_to_decode(head: bytes, name: str) -> str:
    """Return how a file of this beginning is decoded.

    One of `_WAYS`, or FFmpeg's name of it.

    Raises:
        UnusableAudioError: CONTAINER.
    """
    for mark, way in {b"fLaC": "flac", b"OggS": "ogg", b"ID3": "mp3"}.items():
        if head.startswith(mark):
            return way
    is_mpeg = len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0
    if is_mpeg and head[1] & 0x06:
        return "mp3"
    kind = "aac" if is_mpeg else "mov" if head[4:8] == b"ftyp" else None
    kind = kind or next((kind for mark, kind in _FFMPEG.items() if head.startswith(mark)), None)
    if kind is not None:
        _require_ffmpeg(kind, name)
        return kind
    other = next((what for mark, what in _NAMED.items() if head.lstrip().startswith(mark)), None)
    what = f"is {other}" if other else "is not audio that can be decoded"
    raise UnusableAudioError("CONTAINER", f"{name} {what}; convert it to WAV or FLAC.")


def _require_ffmpeg(kind: str, name: str) -> None:
    if find_spec("av") is None:
        message = f"{name} is {_CALLED[kind]}; run `pip install 'ecan-ser[calls]'`, or convert it to WAV or FLAC."
        raise UnusableAudioError("CONTAINER", message)


def _flac_parts(data: bytes) -> "list[_Part]":
    return [_Sound(with_flac_length(one, MOST_FLAC), flac_length(one), flac_length(one)) for one in flac_streams(data)]


def _ogg_parts(data: bytes) -> "list[_Part]":
    return [_Sound(one) for one in ogg_streams(data)]


def _mp3_parts(data: bytes) -> "list[_Part]":
    mp3 = mp3_without_lengths(data)
    return [_Sound(mp3.data, mp3.num_samples, is_endless=True)]


def _wav_parts(data: bytes) -> "list[_Part]":
    return [_Sound(data)]


_WAYS: "Mapping[str, Callable[[bytes], list[_Part]]]" = {
    "flac": _flac_parts,
    "ogg": _ogg_parts,
    "mp3": _mp3_parts,
    "wav": _wav_parts,
}
"""What takes apart a file that libsndfile decodes."""


class _Part(Protocol):
    """Decode one stream; it is opened in the disposable process."""

    def open(self) -> tuple[int, int, int]:
        """Return its channels, frames per second and frames."""

    def read(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Decode frames, [stop - start, channels]; fewer at its end."""


class _TruncatedError(Exception):
    """Report that a stream ends before its header says so."""


class _Sound:
    """Decode a stream by libsndfile.

    Args:
        data: The stream.
        guess: About how many frames it holds; None where libsndfile counts them itself, from the end.
        stated: How many it says that it holds, at least; 0 if it does not say.
        is_endless: Tell libsndfile that the file is longer than it is, so that it guesses no end before the end.
    """

    def __init__(self, data: bytes, guess: int | None = None, stated: int = 0, *, is_endless: bool = False) -> None:
        self._data, self._guess, self._stated, self._is_endless = data, guess, stated, is_endless
        self._sound: Any = None
        self._place = 0

    def open(self) -> tuple[int, int, int]:
        """Return its channels, frames per second and frames."""
        self._reopen()
        num_frames = int(self._sound.frames) if self._guess is None else self._count(self._guess)
        if num_frames < self._stated:
            raise _TruncatedError
        if self._stated or self._guess == 0:
            self._data = with_flac_length(self._data, num_frames)  # libFLAC looks for places by it
            self._reopen()
        return self._sound.channels, self._sound.samplerate, num_frames

    def read(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Decode frames, [stop - start, channels]; fewer at its end."""
        self._move(start)
        samples = self._sound.read(stop - start, dtype="float32", always_2d=True)
        self._place += len(samples)
        return np.asarray(samples)

    def _reopen(self) -> None:
        import soundfile

        file = _Endless(self._data) if self._is_endless else io.BytesIO(self._data)
        self._sound, self._place = soundfile.SoundFile(file), 0
        self._sound.seekable = lambda: False  # or else it looks for its place after every block, and fails at an end

    def _count(self, guess: int) -> int:
        """Count the frames to the end of the stream.

        Only those from shortly before where it should be are decoded.
        """
        for place in (max(guess - _TAIL, 0), 0):
            try:
                self._move(place)
            except RuntimeError:  # there is no such place
                self._reopen()
                continue
            if self._place == place:
                return self._end()
        return 0

    def _end(self) -> int:
        """Go to the end of the stream, or to where it is cut off.

        Returns the place.
        """
        for block in (_PASSED, _LAST):
            try:
                self._pass(MAX_FRAMES, block)
            except RuntimeError:  # it is cut within a block, whose beginning is lost by this
                place = self._place
                self._reopen()
                self._pass(place)
        return self._place

    def _move(self, start: int) -> None:
        """Go to a frame as if everything before it had been decoded."""
        if self._sound.subtype in _ONE_WAY:
            if start < self._place:
                self._reopen()
        elif start != self._place:
            # A decoder that begins in the middle is wrong for some hundred frames.
            self._place = max(start - _RUN_UP, 0)
            self._sound.seek(self._place)
        self._pass(start)

    def _pass(self, start: int, block: int = _PASSED) -> None:
        """Decode to a frame, or to the end."""
        while self._place < start:
            passed = len(self._sound.read(min(start - self._place, block), dtype="float32"))
            if not passed:
                break
            self._place += passed


@cache
def _load_libsndfile() -> None:
    """Load libsndfile once, for all processes that are thrown away.

    It also gets the memory by which it calls back into Python for bytes. That has to be executable, and behind the
    walls no memory becomes so: what is freed here is used again there.
    """
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, np.zeros(8), 8000, format="WAV", subtype="PCM_16")
    together = [soundfile.SoundFile(io.BytesIO(file.getvalue())) for _ in range(_MOST_PARTS)]
    for sound in together:
        sound.close()


class _Endless(io.BytesIO):
    """Hold a file that claims to be a thousand times as long as it is."""

    _is_at_end = False

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to a place."""
        self._is_at_end = whence == os.SEEK_END and offset == 0
        return super().seek(offset, whence)

    def tell(self) -> int:
        """Return the place; at the end, one far behind it."""
        return super().tell() * (1000 if self._is_at_end else 1)


class _Ffmpeg:
    """Decode a stream by FFmpeg, at once and into memory.

    Args:
        data: The file.
        kind: FFmpeg's name of its container; no other is tried.
    """

    def __init__(self, data: bytes, kind: str) -> None:
        self._data, self._kind = data, kind
        self._samples = np.empty((0, 1), np.int16)

    def open(self) -> tuple[int, int, int]:
        """Return its channels, frames per second and frames."""
        import av

        with av.open(io.BytesIO(self._data), "r", format=self._kind, metadata_errors="ignore") as container:
            stream = container.streams.audio[0]
            rate, num_channels = stream.rate, stream.channels
            resampler = av.AudioResampler(format="s16", layout=stream.layout.name, rate=rate)
            blocks: list[Any] = []
            for frame in (part for whole in container.decode(stream) for part in resampler.resample(whole)):
                blocks.append(frame.to_ndarray().reshape(-1, num_channels))
                if len(blocks) * blocks[0].nbytes > MAX_IN_MEMORY:
                    raise MemoryError
        self._samples = np.concatenate(blocks)
        return num_channels, rate, len(self._samples)

    def read(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Return frames, [stop - start, channels]; fewer at its end."""
        return self._samples[start:stop].astype(np.float32) / np.float32(32768)


class _Decoder:
    """Answer questions about a file in a disposable process.

    It answers with the facts of the file, or with samples behind one byte.

    Where the decoder fails the answer is empty: a decoder's message about hostile bytes is of no use.
    """

    def __init__(self, way: str, data: bytes) -> None:
        if way in _WAYS:
            _load_libsndfile()
        else:
            import av  # noqa: F401 - once here, so that not every process that is thrown away loads it
        with suppress(ImportError):
            import resource  # noqa: F401 - likewise
        self._way, self._data = way, data
        self._parts: list[_Part] = []
        self._ends: list[int] = []

    def __call__(self, question: bytes) -> bytes:
        try:
            if not self._ends:
                _mute()
                _limit()
                cage.build(_PIPES)
            _limit_time()
            return self._samples(*_PLACE.unpack(question)) if question else self._facts()
        except _TruncatedError:
            return _TRUNCATED
        except Exception:
            return b""

    def _facts(self) -> bytes:
        self._parts = _WAYS[self._way](self._data) if self._way in _WAYS else [_Ffmpeg(self._data, self._way)]
        facts = [part.open() for part in self._parts]
        if len({(channels, rate) for channels, rate, _ in facts}) > 1:
            return _UNEQUAL
        self._ends = np.cumsum([num_frames for *_, num_frames in facts]).tolist()
        return _FACTS.pack(facts[0][0], facts[0][1], self._ends[-1])

    def _samples(self, start: int, stop: int) -> bytes:
        blocks, begin = [], 0
        for part, end in zip(self._parts, self._ends, strict=True):
            if start < end and stop > begin:
                blocks.append(part.read(max(start - begin, 0), min(stop, end) - begin))
            begin = end
        return b"".join([b".", *(np.ascontiguousarray(block).data for block in blocks)])


class _Maker:
    """Make one decoder after the other, and pass on questions and answers.

    Args:
        enclose: Builds the walls of this process.
    """

    def __init__(self, enclose: Callable[[], object]) -> None:
        self._enclose = enclose
        self._decoder: Companion | None = None

    def __call__(self, order: bytes) -> bytes:
        kind, content = order[:1], order[1:]
        if kind == _MAKE:
            way, _, data = content.partition(b"\n")
            self._decoder = Companion(_Decoder(way.decode(), data))
        elif self._decoder is None:
            self._enclose()
        elif kind == _ASK:
            (most,) = _MOST.unpack_from(content)
            return self._decoder.ask(content[_MOST.size :], most) or b""
        else:
            self._decoder.close()
        return b""


class _Made:
    """Speak with a decoder by way of its maker."""

    def __init__(self, maker: Companion) -> None:
        self._maker = maker

    def ask(self, question: bytes, most: int) -> bytes | None:
        """Return what it answers, of at most so many bytes."""
        return self._maker.ask(_ASK + _MOST.pack(most) + question, most)

    def close(self) -> None:
        """End its process."""
        self._maker.ask(_END, 0)
        put_aside(self._maker)


def _made(way: str, data: bytes) -> _Made | None:
    """Have a decoder made; None if there is nobody to do so."""
    maker = taken() if len(data) <= _MOST_MADE else None
    if maker is None or maker.ask(_MAKE + way.encode() + b"\n" + data, 0) is None:
        return None
    return _Made(maker)


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
