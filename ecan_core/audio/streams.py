"""Take compressed files apart and take false lengths from them.

A file may be several streams, one after the other: MP3 and FLAC files that were joined, Ogg files that were chained.
Each is decoded to its end. Lengths are written before the sound, by programs that could not know it, or were cut off.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

_FLAC = b"fLaC\x00\x00\x00\x22"
"""How a FLAC stream begins: its name, and a description of 34 bytes."""
_FLAC_LENGTH = 21  # where the 36 bits of the length are, behind 4 others
MOST_FLAC = (1 << 36) - 1

_BIT_RATES = {
    3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}  # kilobits per second of layer III, by version 1 and the later ones
_SAMPLE_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_TAGS = (b"Xing", b"Info", b"VBRI")
_TAG_WITHIN = 64  # bytes
_NUM_FRAMES = 1  # flag of a tag that states how many frames follow


class Mp3(NamedTuple):
    """Hold an MP3 file without false lengths.

    Attributes:
        data: The file.
        num_samples: Samples per channel that its frames hold.
    """

    data: bytes
    num_samples: int


def flac_streams(data: bytes) -> list[bytes]:
    """Cut a FLAC file into its streams."""
    first = data.index(b"fLaC") if b"fLaC" in data[:4] else 0
    starts = [first]
    while (start := data.find(_FLAC, starts[-1] + len(_FLAC))) >= 0:
        starts.append(start)
    return [data[start:end] for start, end in zip(starts, [*starts[1:], len(data)], strict=True)]


def flac_length(stream: bytes) -> int:
    """Return how many samples a FLAC stream states that it holds.

    0 if it does not know.
    """
    if not stream.startswith(_FLAC) or len(stream) < _FLAC_LENGTH + 5:
        return 0
    (low,) = struct.unpack(">I", stream[_FLAC_LENGTH + 1 : _FLAC_LENGTH + 5])
    return (stream[_FLAC_LENGTH] & 0x0F) << 32 | int(low)


def with_flac_length(stream: bytes, num_samples: int) -> bytes:
    """Return a FLAC stream that states another length."""
    if not stream.startswith(_FLAC) or len(stream) < _FLAC_LENGTH + 5:
        return stream
    high = stream[_FLAC_LENGTH] & 0xF0 | num_samples >> 32
    return stream[:_FLAC_LENGTH] + bytes([high]) + struct.pack(">I", num_samples & 0xFFFFFFFF) + stream[26:]


def ogg_streams(data: bytes) -> list[bytes]:
    """Cut an Ogg file where streams begin after others.

    Source: RFC 3533, sections 4 and 6.
    """
    starts, was_first = [0], True
    for place, is_first in _ogg_pages(data):
        if is_first and not was_first:
            starts.append(place)
        was_first = is_first
    return [data[start:end] for start, end in zip(starts, [*starts[1:], len(data)], strict=True)]


def _ogg_pages(data: bytes) -> Iterator[tuple[int, bool]]:
    """Yield where pages are, and whether each is the first of a stream."""
    place = data.find(b"OggS")
    while 0 <= place <= len(data) - 27:
        num_segments = data[place + 26]
        yield place, bool(data[place + 5] & 2)
        length = 27 + num_segments + sum(data[place + 27 : place + 27 + num_segments])
        place = data.find(b"OggS", place + length)


def mp3_without_lengths(data: bytes) -> Mp3:
    """Return an MP3 file in which no frame states a false length.

    One that states the true one is left as it is: it also says how much silence the encoder put before the sound.

    Source: ISO/IEC 11172-3, 2.4.1.3; the tags of Xing, LAME and Fraunhofer.
    """
    num_frames, num_samples, tags = 0, 0, []
    for place, samples in _mp3_frames(data):
        num_frames, num_samples = num_frames + 1, num_samples + samples
        near = data[place : place + _TAG_WITHIN]
        tags += [place + near.index(tag) for tag in _TAGS if tag in near]
    if len(tags) == 1 and abs(_stated(data, tags[0]) - num_frames + 1) <= 1:
        return Mp3(data, num_samples)
    cleaned = bytearray(data)
    for tag in tags:
        cleaned[tag : tag + 4] = bytes(4)
    return Mp3(bytes(cleaned), num_samples)


def _stated(data: bytes, tag: int) -> int:
    """Return how many frames a tag says that there are; 0 if it does not."""
    fields = data[tag : tag + 12]
    if len(fields) < 12 or fields[:4] == b"VBRI":
        return 0
    flags, num_frames = struct.unpack(">II", fields[4:])
    return int(num_frames) if flags & _NUM_FRAMES else 0


def _mp3_frames(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield where frames are, and how many samples each holds."""
    place = _behind_id3(data)
    while 0 <= place <= len(data) - 4:
        frame = _mp3_frame(data, place)
        if frame is None:
            place = data.find(b"\xff", place + 1)
            continue
        length, samples = frame
        yield place, samples
        place += length


def _behind_id3(data: bytes) -> int:
    if data[:3] != b"ID3" or len(data) < 10:
        return 0
    size = 0
    for byte in data[6:10]:
        size = size << 7 | byte & 0x7F
    return 10 + size


def _mp3_frame(data: bytes, place: int) -> tuple[int, int] | None:
    """Return the length of a frame in bytes and in samples.

    None if there is no frame.
    """
    first, second, third = data[place : place + 3]
    version, layer, rate_index, bit_index = second >> 3 & 3, second >> 1 & 3, third >> 2 & 3, third >> 4
    is_frame = first == 0xFF and second & 0xE0 == 0xE0 and version != 1 and layer == 1
    if not is_frame or rate_index == 3 or bit_index in (0, 15):
        return None
    bit_rate = 1000 * _BIT_RATES[3 if version == 3 else 2][bit_index]
    samples = 1152 if version == 3 else 576
    return samples // 8 * bit_rate // _SAMPLE_RATES[version][rate_index] + (third >> 1 & 1), samples
