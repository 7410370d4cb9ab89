"""Decode audio files into samples; no other module does.

A recording with two channels is never averaged: two spaced microphones lose level and comb each other's
spectrum, and the two channels of a call are two people. One channel is taken: the named one, or else the loudest.

WAV files are read by `ecan_core.audio.wav`, piece by piece, however long they are. What is compressed is decoded in a
process that is thrown away (`ecan_core.audio.foreign`). Everything else is refused by name.
"""

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ecan_core.audio import foreign, wav
from ecan_core.audio.waveform import Waveform
from ecan_core.errors import UnusableAudioError
from ecan_core.runtime.closing import Closing

Samples = npt.NDArray[np.float32]

REASONS = (
    "NOT_FOUND",
    "NOT_REGULAR",
    "UNREADABLE",
    "EMPTY",
    "MALFORMED",
    "TRUNCATED",
    "CONTAINER",
    "CODEC",
    "NO_SUCH_CHANNEL",
    "NO_SUCH_SEGMENT",
    "LOW_RATE",
    "TOO_SHORT",
    "TOO_LONG",
    "NON_FINITE",
    "SILENT",
    "NO_SPEECH",
    *("LINE_TONE", "KEYS", "FAX", "TONE", "HUM", "NOISE", "MUSIC"),  # `ecan_core.audio.not_speech`
    "MIXED",
    "NO_ROLE",
    "BLEED",
    "COPY",
    "CHANGED",
    "LOST",
)

MIN_DURATION_S = 0.1
MAX_DURATION_S = 120.0  # costs about half a gigabyte of memory
MIN_SAMPLE_RATE = 8_000  # Hz
SILENCE_PEAK = 1e-4  # of full scale, -80 dB
MAX_PEAK = 1e6  # of full scale; squares of larger samples overflow further on
BLOCK_SAMPLES = 1 << 22
"""Of all channels, as many as are in memory at once: 16 MiB."""
_HEAD_BYTES = 64
_BLOCK_BYTES = 1 << 20


class Identity(NamedTuple):
    """Hold what tells a file from any other and from a changed version.

    The last of these facts cannot be set back, as the time of modification can.

    Nobody can set back the last of them, as can be done to the time of modification.
    """

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int


class Content(Protocol):
    """Describe the sound in a file.

    Attributes:
        num_channels: Channels.
        sample_rate: Frames per second, in Hz.
        num_frames: Frames, T.
    """

    @property
    def num_channels(self) -> int: ...
    @property
    def sample_rate(self) -> int: ...
    @property
    def num_frames(self) -> int: ...

    def read(self, start: int, stop: int) -> Samples:
        """Read frames ``start`` to ``stop`` (not included).

        The result is [stop - start, channels]; fewer where the file ends before.
        """

    def close(self) -> None:
        """Release what it holds."""


class Recording(Closing):
    """Open an audio file; use it as a context manager.

    Opening reads the header alone.

    Args:
        path: The file; devices, pipes and folders are refused.

    Raises:
        UnusableAudioError: NOT_FOUND, NOT_REGULAR, UNREADABLE, EMPTY, MALFORMED, TRUNCATED, CONTAINER, CODEC or
            LOW_RATE.
    """

    def __init__(self, path: Path) -> None:
        self._name = str(path)
        self._descriptor = _open(path)
        try:
            if not self.identity.size:
                raise UnusableAudioError("EMPTY", f"{path} has no content; record or copy it again.")
            self._content = self._open_content()
        except BaseException:
            os.close(self._descriptor)
            raise
        try:
            _check_rate(self.sample_rate, self._name)
        except BaseException:
            self.close()
            raise

    @property
    def identity(self) -> Identity:
        """Return the identity of the file as it is now."""
        return _identity(self._descriptor)

    @property
    def num_channels(self) -> int:
        """Return the number of channels."""
        return self._content.num_channels

    @property
    def sample_rate(self) -> int:
        """Return the number of frames per second, in Hz."""
        return self._content.sample_rate

    @property
    def num_frames(self) -> int:
        """Return the number of frames, T."""
        return self._content.num_frames

    def frames(self, start: int, stop: int) -> Samples:
        """Read frames ``start`` to ``stop`` (not included).

        The result is [stop - start, channels].

        Raises:
            UnusableAudioError: TRUNCATED or UNREADABLE.
        """
        samples = self._content.read(start, stop)
        if len(samples) < stop - start:
            raise UnusableAudioError("TRUNCATED", f"{self._name} ends before its header says so; copy it again.")
        return samples

    def segment(
        self, *, channel: int | None = None, start_s: float | None = None, end_s: float | None = None
    ) -> Waveform:
        """Decode one channel of a segment at the file's own rate.

        Args:
            channel: Channel counted from 0; None takes the one with the most energy within the segment.
            start_s: Start of the segment in seconds; None is the beginning.
            end_s: End of the segment in seconds; None is the end of the file.

        Raises:
            UnusableAudioError: With one of `REASONS`.
        """
        name, rate = self._name, self.sample_rate
        start = 0 if start_s is None else _position(start_s, rate, self.num_frames)
        stop = self.num_frames if end_s is None else _position(end_s, rate, self.num_frames)
        if not 0 <= start < stop:
            message = f"{name} has no sound from {start_s} s to {end_s} s; correct start and end."
            raise UnusableAudioError("NO_SUCH_SEGMENT", message)
        _check_duration((stop - start) / rate, name)
        channel = self._loudest(start, stop) if channel is None else self._checked(channel)
        mono = np.concatenate([block[:, channel].copy() for block in self._blocks(start, stop)])
        if np.abs(mono - mono.mean()).max() < SILENCE_PEAK:
            raise UnusableAudioError("SILENT", f"{name} holds no sound; check the microphone or the channel.")
        return Waveform(samples=mono, sample_rate=rate)

    def close(self) -> None:
        """Close the file."""
        self._content.close()
        os.close(self._descriptor)

    def _blocks(self, start: int, stop: int) -> Iterator[Samples]:
        """Yield the frames of a segment piece by piece.

        Memory thus does not grow with the number of channels.
        """
        step = BLOCK_SAMPLES // self.num_channels
        for first in range(start, stop, step):
            block = self.frames(first, min(first + step, stop))
            _check_scale(block, self._name)
            yield block

    def _loudest(self, start: int, stop: int) -> int:
        """Return the channel with the most energy in a segment.

        A constant offset does not count as sound.
        """
        if self.num_channels == 1:
            return 0
        offset = self.frames(start, start + 1).astype(np.float64)
        total = np.zeros(self.num_channels)
        squares = np.zeros(self.num_channels)
        for block in self._blocks(start, stop):
            apart = block - offset
            total += apart.sum(axis=0)
            squares += np.einsum("tc,tc->c", apart, apart)
        return int((squares - total**2 / (stop - start)).argmax())

    def _checked(self, channel: int) -> int:
        if not 0 <= channel < self.num_channels:
            count = self.num_channels
            message = f"{self._name} has {count} channel(s), counted from 0; channel {channel} does not exist."
            raise UnusableAudioError("NO_SUCH_CHANNEL", message)
        return channel

    def _open_content(self) -> Content:
        head = self._read_at(0, _HEAD_BYTES)
        if wav.is_wav(head):
            header = wav.read_header(self._read_at, self.identity.size, self._name)
            if isinstance(header, wav.Compressed):
                return self._open_compressed(header)
            return _WavContent(header, self._descriptor)
        return foreign.open_content(head, self._read_at, self.identity.size, self._name)

    def _open_compressed(self, header: wav.Compressed) -> Content:
        if header.num_bytes > foreign.MAX_BYTES:
            raise UnusableAudioError("TOO_LONG", f"{self._name} is larger than 1 GiB; export it as PCM.")
        sound = self._read_at(header.start, header.num_bytes)
        is_mp3 = header.codec == wav.MP3
        return foreign.of_wav(sound if is_mp3 else header.closed(sound), self._name, is_mp3=is_mp3)

    def _read_at(self, place: int, length: int) -> bytes:
        try:
            return _pread(self._descriptor, place, length)
        except OSError as error:
            raise _unreadable(self._name) from error


def hashed(path: Path) -> tuple[Identity, str]:
    """Return the identity of a file and the SHA-256 of its bytes.

    The hash is hexadecimal. The content is not parsed.

    Raises:
        UnusableAudioError: NOT_FOUND, NOT_REGULAR or UNREADABLE.
    """
    descriptor = _open(path)
    try:
        digest, place = sha256(), 0
        while block := os.pread(descriptor, _BLOCK_BYTES, place):
            digest.update(block)
            place += len(block)
        return _identity(descriptor), digest.hexdigest()
    except OSError as error:
        raise _unreadable(str(path)) from error
    finally:
        os.close(descriptor)


def decode(
    path: Path, *, channel: int | None = None, start_s: float | None = None, end_s: float | None = None
) -> Waveform:
    """Decode one channel of an audio file at the file's own rate.

    See `Recording.segment`.
    """
    with Recording(path) as recording:
        return recording.segment(channel=channel, start_s=start_s, end_s=end_s)


def resample(waveform: Waveform, sample_rate: int) -> Waveform:
    """Convert a waveform to another rate.

    Args:
        waveform: Sound at any rate.
        sample_rate: The wanted rate in Hz.

    Returns:
        The same sound at that rate.
    """
    if waveform.sample_rate == sample_rate:
        return waveform
    import soxr

    samples = soxr.resample(waveform.samples, waveform.sample_rate, sample_rate, quality="HQ")
    return Waveform(samples=samples.astype(np.float32), sample_rate=sample_rate)


@dataclass(frozen=True)
class _WavContent:
    """Hold the sound in a WAV file."""

    header: wav.WavFormat
    descriptor: int
    num_channels: int = field(init=False)
    sample_rate: int = field(init=False)
    num_frames: int = field(init=False)

    def __post_init__(self) -> None:
        for name in ("num_channels", "sample_rate", "num_frames"):
            object.__setattr__(self, name, getattr(self.header, name))

    def read(self, start: int, stop: int) -> Samples:
        width = self.header.frame_bytes
        data = _pread(self.descriptor, self.header.start + start * width, (stop - start) * width)
        return self.header.samples(data[: len(data) - len(data) % width])

    def close(self) -> None:
        """Do nothing: the descriptor belongs to somebody else."""


def _open(path: Path) -> int:
    try:
        # Without O_NONBLOCK, opening a pipe would wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UnusableAudioError("NOT_FOUND", f"{path} does not exist; check the path in the listing.") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        if getattr(error, "errno", None) in (errno.ELOOP, errno.ENXIO) or _is_other(path):
            raise UnusableAudioError(
                "NOT_REGULAR", f"{path} is a link or a device that leads nowhere; name the audio file itself."
            ) from error
        raise _unreadable(str(path)) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnusableAudioError("NOT_REGULAR", f"{path} is not a regular file; name an audio file.")
    return descriptor


def _identity(descriptor: int) -> Identity:
    status = os.fstat(descriptor)
    return Identity(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _is_other(path: Path) -> bool:
    """Return whether something other than a file is there.

    A link that cannot be followed counts.
    """
    try:
        return path.is_symlink() or (path.exists() and not path.is_file())
    except (OSError, ValueError):
        return False


def _pread(descriptor: int, place: int, length: int) -> bytes:
    """Read so many bytes; fewer only at the end of the file."""
    blocks = []
    while length > 0 and (block := os.pread(descriptor, min(length, 1 << 30), place)):
        blocks.append(block)
        place, length = place + len(block), length - len(block)
    return b"".join(blocks)


def _unreadable(name: str) -> UnusableAudioError:
    return UnusableAudioError("UNREADABLE", f"{name} cannot be read; check its name and permissions.")


def _position(time_s: float, rate: int, num_frames: int) -> int:
    """Turn a time into a frame number.

    A time before the file gives -1; a time behind it gives its end, however far it lies.
    """
    return round(min(max(time_s * rate, -1.0), num_frames))


def _check_rate(rate: int, name: str) -> None:
    if rate < MIN_SAMPLE_RATE:
        raise UnusableAudioError(
            "LOW_RATE", f"{name} has only {rate} samples per second; use {MIN_SAMPLE_RATE} or more."
        )


def _check_duration(duration_s: float, name: str) -> None:
    if duration_s < MIN_DURATION_S:
        message = f"{name} is shorter than {MIN_DURATION_S} s; leave it out or give a longer segment."
        raise UnusableAudioError("TOO_SHORT", message)
    if duration_s > MAX_DURATION_S:
        message = f"{name} is longer than {MAX_DURATION_S:.0f} s; list its utterances by start and end."
        raise UnusableAudioError("TOO_LONG", message)


def _check_scale(samples: Samples, name: str) -> None:
    peak = np.maximum(samples.max(), -samples.min())
    if not np.isfinite(peak):
        raise UnusableAudioError("NON_FINITE", f"{name} holds values that are not numbers; export it again.")
    if peak > MAX_PEAK:
        message = f"{name} holds values far beyond full scale; export it again with a full scale of 1."
        raise UnusableAudioError("NON_FINITE", message)
