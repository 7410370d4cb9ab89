"""The only place where audio files become samples.

A recording with two channels is never averaged: two spaced microphones lose level and comb each other's
spectrum, and the two channels of a call are two people. One channel is taken, the named one or the loudest one.
"""

import io
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ecan_core.audio.waveform import Waveform
from ecan_core.errors import AudioRefused

if TYPE_CHECKING:
    from soundfile import SoundFile

Samples = npt.NDArray[np.float32]

REASONS = (
    "NOT_FOUND",
    "UNREADABLE",
    "EMPTY",
    "TRUNCATED",
    "NO_SUCH_CHANNEL",
    "NO_SUCH_SEGMENT",
    "LOW_RATE",
    "TOO_SHORT",
    "TOO_LONG",
    "NON_FINITE",
    "SILENT",
)

MIN_DURATION_S = 0.1
MAX_DURATION_S = 120.0  # costs about half a gigabyte of memory
MIN_SAMPLE_RATE = 8_000  # Hz
SILENCE_PEAK = 1e-4  # of full scale, -80 dB
MAX_PEAK = 1e6  # of full scale; squares of larger samples overflow further on
MAX_FILE_BYTES = 2**30


def read_bytes(path: Path) -> bytes:
    """Reads a whole audio file.

    Args:
        path: The file; devices, pipes and folders are refused.

    Raises:
        AudioRefused: NOT_FOUND, UNREADABLE, TOO_LONG or EMPTY.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise AudioRefused("UNREADABLE", f"{path} is not a regular file; name an audio file.")
        if status.st_size > MAX_FILE_BYTES:
            raise AudioRefused("TOO_LONG", f"{path} is larger than 1 GiB; split it into shorter files.")
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise AudioRefused("NOT_FOUND", f"{path} does not exist; check the path in the listing.") from error
    except OSError as error:
        raise AudioRefused("UNREADABLE", f"{path} cannot be read; check its name and permissions.") from error
    if not data:
        raise AudioRefused("EMPTY", f"{path} has no content; record or copy it again.")
    return data


def decode(
    path: Path, *, channel: int | None = None, start_s: float | None = None, end_s: float | None = None
) -> Waveform:
    """Decodes one channel of an audio file at the file's own rate.

    Args:
        path: The audio file.
        channel: Channel counted from 0; None takes the one with the most energy within the segment.
        start_s: Start of the segment in seconds; None is the beginning.
        end_s: End of the segment in seconds; None is the end of the file.

    Returns:
        The segment of that channel.

    Raises:
        AudioRefused: With one of `REASONS`.
    """
    return decode_bytes(read_bytes(path), str(path), channel=channel, start_s=start_s, end_s=end_s)


def decode_bytes(
    data: bytes,
    name: str,
    *,
    channel: int | None = None,
    start_s: float | None = None,
    end_s: float | None = None,
) -> Waveform:
    """Decodes the content of an audio file, see `decode`.

    Args:
        data: The whole file.
        name: What messages call it.
        channel: As in `decode`.
        start_s: As in `decode`.
        end_s: As in `decode`.

    Returns:
        The segment of one channel.

    Raises:
        AudioRefused: With one of `REASONS`.
    """
    samples, sample_rate = _read_segment(data, name, start_s, end_s)
    _check_duration(len(samples) / sample_rate, name)
    if not np.isfinite(samples).all():
        raise AudioRefused("NON_FINITE", f"{name} holds values that are not numbers; export it again.")
    if np.abs(samples).max() > MAX_PEAK:
        message = f"{name} holds values far beyond full scale; export it again with a full scale of 1."
        raise AudioRefused("NON_FINITE", message)
    mono = _choose_channel(samples, channel, name)
    if np.abs(mono - mono.mean()).max() < SILENCE_PEAK:
        raise AudioRefused("SILENT", f"{name} holds no sound; check the microphone or the channel.")
    return Waveform(samples=mono, sample_rate=sample_rate)


def resample(waveform: Waveform, sample_rate: int) -> Waveform:
    """Converts a waveform to another rate.

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


def _read_segment(data: bytes, name: str, start_s: float | None, end_s: float | None) -> tuple[Samples, int]:
    """Reads all channels of a segment, [T, channels], and the sample rate."""
    import soundfile

    unreadable = f"{name} is not audio that can be decoded; convert it to WAV or FLAC."
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as sound:
            _check_header(sound, name)
            rate = sound.samplerate
            start = 0 if start_s is None else _position(start_s, rate, sound.frames)
            stop = sound.frames if end_s is None else _position(end_s, rate, sound.frames)
            if not 0 <= start < stop:
                message = f"{name} has no sound from {start_s} s to {end_s} s; correct start and end."
                raise AudioRefused("NO_SUCH_SEGMENT", message)
            _check_duration((stop - start) / rate, name)
            sound.seek(start)
            samples = sound.read(stop - start, dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        raise AudioRefused("UNREADABLE", unreadable) from error
    if len(samples) < stop - start:
        raise _truncated(name)
    return samples, rate


def _position(time_s: float, rate: int, num_frames: int) -> int:
    """Turns a time into a frame; before the file is -1, and behind it is its end, however far."""
    return round(min(max(time_s * rate, -1.0), num_frames))


def _check_header(sound: "SoundFile", name: str) -> None:
    # libsndfile reads what is left of a cut WAV without a word, but notes the missing bytes in its log.
    # Streams of unknown length carry a size close to 2**32 and are whole.
    sizes = re.search(r"^data : (\d+) \(should be (\d+)\)", sound.extra_info, re.MULTILINE)
    if sizes and int(sizes[2]) < int(sizes[1]) < 0x7FFFFFFF:
        raise _truncated(name)
    if sound.frames == 0:
        raise AudioRefused("EMPTY", f"{name} holds no sound; record or copy it again.")
    if sound.samplerate < MIN_SAMPLE_RATE:
        message = f"{name} has only {sound.samplerate} samples per second; use {MIN_SAMPLE_RATE} or more."
        raise AudioRefused("LOW_RATE", message)


def _truncated(name: str) -> AudioRefused:
    return AudioRefused("TRUNCATED", f"{name} ends before its header says so; copy it again.")


def _check_duration(duration_s: float, name: str) -> None:
    if duration_s < MIN_DURATION_S:
        message = f"{name} is shorter than {MIN_DURATION_S} s; leave it out or give a longer segment."
        raise AudioRefused("TOO_SHORT", message)
    if duration_s > MAX_DURATION_S:
        message = f"{name} is longer than {MAX_DURATION_S:.0f} s; list its utterances by start and end."
        raise AudioRefused("TOO_LONG", message)


def _choose_channel(samples: Samples, channel: int | None, name: str) -> Samples:
    """Takes one channel, [T], out of [T, channels]."""
    count = samples.shape[1]
    if channel is None:
        # Variance, not energy: a constant offset is not sound.
        channel = int(samples.var(axis=0, dtype=np.float64).argmax())
    if not 0 <= channel < count:
        message = f"{name} has {count} channel(s), counted from 0; channel {channel} does not exist."
        raise AudioRefused("NO_SUCH_CHANNEL", message)
    return np.ascontiguousarray(samples[:, channel])
