"""Read WAV files by a bounded parser of our own.

A general decoder would read thirty other formats as well.

It reads integers of 8, 16, 24 and 32 bits, floats of 32 and 64 bits, A-law and mu-law, with up to `MAX_CHANNELS`
channels. The samples equal those of libsndfile bit for bit. A header is believed only if it agrees with itself and
with the length of the file; a header that was written before the samples and never closed lets the file itself say
where they end. What is compressed (GSM 6.10, ADPCM, MP3) is found here and decoded by `ecan_core.audio.foreign`.
"""

import functools
import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ecan_core.errors import UnusableAudioError

ReadAt = Callable[[int, int], bytes]
"""Reads so many bytes from a place in a file; fewer at its end."""

MAX_CHANNELS = 16
MAX_SAMPLE_RATE = 768_000  # Hz
MAX_CHUNKS = 64
"""Parts of a file that are looked at; what comes behind them is not."""

_PCM, _FLOAT, _A_LAW, _MU_LAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
_WIDTHS = {_PCM: (1, 2, 3, 4), _FLOAT: (4, 8), _A_LAW: (1,), _MU_LAW: (1,)}  # bytes per sample
_ADPCM, _IMA_ADPCM, _GSM, MP3 = 2, 0x11, 0x31, 0x55
_OTHER_CODECS = {0x161: "Windows Media", 0x45: "G.726", 0x64: "G.726", 0x22: "TrueSpeech", 0xA1: "G.722"}
_BLOCK_BYTES = {_ADPCM: range(16, 1 << 15), _IMA_ADPCM: range(16, 1 << 15), _GSM: range(65, 66)}  # of one block
_MOST_COMPRESSED = {_ADPCM: 2, _IMA_ADPCM: 2, _GSM: 1, MP3: 2}  # channels
_SUBFORMAT_TAIL = bytes.fromhex("000000001000800000aa00389b71")
_LONGEST_FMT = 1024
_KNOWN_PARTS = frozenset({b"LIST", b"id3 ", b"ID3 ", b"bext", b"fact", b"cue ", b"smpl", b"iXML", b"JUNK", b"junk"})
_STREAMED = 0x7FFF0000
"""A writer that cannot go back to its header puts a size from here on, or 0."""


@dataclass(frozen=True, kw_only=True)
class WavFormat:
    """Hold what the header of a WAV file says.

    Attributes:
        codec: Number of the codec.
        num_channels: Channels per frame.
        sample_rate: Frames per second, in Hz.
        width: Bytes per sample.
        start: Where the samples begin, in bytes.
        num_frames: Frames in the file, T.
    """

    codec: int
    num_channels: int
    sample_rate: int
    width: int
    start: int
    num_frames: int

    @property
    def frame_bytes(self) -> int:
        """Return the number of bytes per frame."""
        return self.num_channels * self.width

    def samples(self, data: bytes) -> npt.NDArray[np.float32]:
        """Turn whole frames into samples, [T, channels]; full scale is ±1."""
        return _decoded(data, self.codec, self.width).reshape(-1, self.num_channels)


@dataclass(frozen=True, kw_only=True)
class Compressed:
    """Describe compressed sound in a WAV file.

    Attributes:
        codec: Number of the codec.
        fmt: The description of its samples.
        start: Where they begin, in bytes.
        num_bytes: How many there are.
    """

    codec: int
    fmt: bytes
    start: int
    num_bytes: int

    def closed(self, sound: bytes) -> bytes:
        """Return a WAV file that holds this sound and says so."""
        parts = b"fmt " + struct.pack("<I", len(self.fmt)) + self.fmt + b"data" + struct.pack("<I", len(sound)) + sound
        return b"RIFF" + struct.pack("<I", 4 + len(parts)) + b"WAVE" + parts


def is_wav(head: bytes) -> bool:
    """Return whether the first 12 bytes of a file are those of a WAV file."""
    return head[:4] == b"RIFF" and head[8:12] == b"WAVE"


def read_header(read_at: ReadAt, size: int, name: str) -> WavFormat | Compressed:
    """Read the header of a WAV file.

    Args:
        read_at: Reads the file.
        size: Its length in bytes.
        name: What messages call it.

    Raises:
        UnusableAudioError: MALFORMED, CODEC, TRUNCATED or EMPTY.
    """
    fmt: bytes | None = None
    sound: tuple[int, int] | None = None
    place, riff_size = 12, struct.unpack("<I", read_at(4, 4))[0]
    for _ in range(MAX_CHUNKS):
        head = read_at(place, 8)
        if len(head) < 8:
            break
        kind, length = head[:4], struct.unpack("<I", head[4:])[0]
        place += 8
        if kind == b"data":
            if fmt is None:
                raise _malformed(name, "does not say what its samples are before they come")
            if sound is not None:
                raise _malformed(name, "has samples in two places")
            length = _data_bytes(length, riff_size, place, size, read_at, name)
            sound = place, length
        if kind == b"fmt ":
            if fmt is not None:
                raise _malformed(name, "says twice what its samples are")
            if not 16 <= length <= _LONGEST_FMT:
                raise _malformed(name, "has a description of impossible length")
            fmt = read_at(place, length)
            if len(fmt) < length:
                break
        place += length + length % 2
    if fmt is None or sound is None:
        raise _malformed(name, "has no samples" if fmt else "does not say what its samples are")
    return _format(fmt, *sound, name)


def _data_bytes(length: int, riff_size: int, place: int, size: int, read_at: ReadAt, name: str) -> int:
    """Return the number of bytes of samples.

    A header that was written before the samples may leave it open, or say how many there were at that time.

    Args:
        length: What the header says.
        riff_size: What it says of the whole file.
        place: Where the samples begin.
        size: Length of the file.
        read_at: Reads the file.
        name: What messages call it.
    """
    there = size - place
    is_open = length >= _STREAMED or (length == 0 and riff_size + 8 <= place)
    if is_open or (length < there and not _is_followed(read_at, place + length + length % 2, size)):
        return there
    if length <= there:
        return length
    raise UnusableAudioError("TRUNCATED", f"{name} ends before its header says so; copy it again.")


def _is_followed(read_at: ReadAt, place: int, size: int) -> bool:
    """Return whether another part of a WAV file, or the end, is at a place.

    Otherwise the samples go on there.
    """
    head = read_at(place, 8)
    if len(head) < 8 or head[:4] in _KNOWN_PARTS:
        return True
    is_name = head[:4].isascii() and head[:4].decode().isprintable()
    return is_name and place + 8 + int.from_bytes(head[4:], "little") <= size


def _format(fmt: bytes, start: int, num_bytes: int, name: str) -> WavFormat | Compressed:
    codec, num_channels, sample_rate, _, frame_bytes, bits = struct.unpack("<HHIIHH", fmt[:16])
    if codec == _EXTENSIBLE:
        if len(fmt) < 40 or fmt[26:40] != _SUBFORMAT_TAIL:
            raise UnusableAudioError("CODEC", f"{name} holds samples of an unknown kind; export it as PCM.")
        codec = struct.unpack("<H", fmt[24:26])[0]
    if codec in _MOST_COMPRESSED:
        return _compressed(codec, fmt, start, num_bytes, name)
    if codec not in _WIDTHS:
        what = _OTHER_CODECS.get(codec, f"codec {codec}")
        raise UnusableAudioError("CODEC", f"{name} is compressed by {what}, which is not decoded; export it as PCM.")
    if not 1 <= num_channels <= MAX_CHANNELS:
        raise _malformed(name, f"has {num_channels} channels")
    if not 1 <= sample_rate <= MAX_SAMPLE_RATE:
        raise _malformed(name, f"has {sample_rate} samples per second")
    width, odd = divmod(frame_bytes, num_channels)
    if odd or width not in _WIDTHS[codec] or (bits + 7) // 8 != width or bits % 8:
        raise _malformed(name, f"has {bits} bits per sample in frames of {frame_bytes} bytes")
    num_frames = num_bytes // frame_bytes
    if num_frames == 0:
        raise UnusableAudioError("EMPTY", f"{name} holds no sound; record or copy it again.")
    return WavFormat(
        codec=codec,
        num_channels=num_channels,
        sample_rate=sample_rate,
        width=width,
        start=start,
        num_frames=num_frames,
    )


def _compressed(codec: int, fmt: bytes, start: int, num_bytes: int, name: str) -> Compressed:
    """Check the description of compressed sound before a decoder sees it."""
    _, num_channels, sample_rate, _, block_bytes, _ = struct.unpack("<HHIIHH", fmt[:16])
    if not 1 <= num_channels <= _MOST_COMPRESSED[codec]:
        raise _malformed(name, f"has {num_channels} channels")
    if not 1 <= sample_rate <= MAX_SAMPLE_RATE:
        raise _malformed(name, f"has {sample_rate} samples per second")
    if codec in _BLOCK_BYTES and block_bytes not in _BLOCK_BYTES[codec]:
        raise _malformed(name, f"has blocks of {block_bytes} bytes")
    if num_bytes == 0:
        raise UnusableAudioError("EMPTY", f"{name} holds no sound; record or copy it again.")
    return Compressed(codec=codec, fmt=fmt, start=start, num_bytes=num_bytes)


def _malformed(name: str, what: str) -> UnusableAudioError:
    return UnusableAudioError("MALFORMED", f"{name} {what}: it is damaged or no recording; export it again.")


def _decoded(data: bytes, codec: int, width: int) -> npt.NDArray[np.float32]:
    if codec == _FLOAT:
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused for that
            return np.frombuffer(data, f"<f{width}").astype(np.float32)
    if codec != _PCM:
        return _law(codec)[np.frombuffer(data, np.uint8)]
    if width == 1:
        return (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / np.float32(128)
    if width == 3:
        raw = np.frombuffer(data, np.uint8).reshape(-1, 3)
        whole = np.zeros((len(raw), 4), np.uint8)
        whole[:, 1:] = raw
        return whole.view("<i4")[:, 0].astype(np.float32) * np.float32(2.0**-31)
    return np.frombuffer(data, f"<i{width}").astype(np.float32) * np.float32(2.0 ** (1 - 8 * width))


@functools.cache
def _law(codec: int) -> npt.NDArray[np.float32]:
    """Return the samples for the 256 codes of A-law or mu-law.

    See ITU-T G.711.
    """
    codes = np.arange(256)
    if codec == _MU_LAW:
        codes = ~codes & 0xFF
        exponent, mantissa = codes >> 4 & 7, codes & 15
        size = (((mantissa << 3) + 0x84) << exponent) - 0x84
        is_negative = codes & 0x80 != 0
    else:
        codes = codes ^ 0x55
        exponent, mantissa = codes >> 4 & 7, codes & 15
        size = np.where(exponent == 0, (mantissa << 4) + 8, ((mantissa << 4) + 0x108) << np.maximum(exponent - 1, 0))
        is_negative = codes & 0x80 == 0
    return (np.where(is_negative, -size, size) / 32768).astype(np.float32)
