"""WAV files by the parser of our own, beside libsndfile."""

import io
import struct

import numpy as np
import pytest
import soundfile

from ecan_core.audio import wav
from ecan_core.audio.decode import Recording, decode
from ecan_core.errors import UnusableAudioError

SUBTYPES = ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAW", "ULAW")
NOISE = np.clip(np.random.default_rng(0).normal(0, 0.4, (5001, 2)), -1, 0.9999)


def written(samples, subtype="PCM_16", container="WAV", rate=8_000) -> bytes:
    content = io.BytesIO()
    soundfile.write(content, samples, rate, subtype=subtype, format=container)
    return content.getvalue()


def header(data: bytes) -> wav.WavFormat:
    return wav.read_header(lambda place, length: data[place : place + length], len(data), "a.wav")


def chunk(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def fmt(codec=1, channels=1, rate=8_000, width=2, bits=None, tail=b"") -> bytes:
    bits = 8 * width if bits is None else bits
    frame = channels * width
    return chunk(b"fmt ", struct.pack("<HHIIHH", codec, channels, rate, rate * frame & 0xFFFFFFFF, frame, bits) + tail)


def riff(*chunks: bytes) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


SOUND = chunk(b"data", bytes(range(200)) * 2)


@pytest.mark.parametrize("container", ["WAV", "WAVEX"])
@pytest.mark.parametrize("subtype", SUBTYPES)
@pytest.mark.parametrize("num_channels", [1, 2])
def test_samples_are_those_of_libsndfile_bit_for_bit(tmp_path, subtype, container, num_channels):
    data = written(NOISE[:, :num_channels], subtype, container)
    expected, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    (tmp_path / "a.wav").write_bytes(data)
    with Recording(tmp_path / "a.wav") as recording:
        assert (recording.num_frames, recording.num_channels) == (len(NOISE), num_channels)
        assert recording.sample_rate == rate
        np.testing.assert_array_equal(recording.frames(0, recording.num_frames), expected)
        np.testing.assert_array_equal(recording.frames(1000, 1234), expected[1000:1234])


@pytest.mark.parametrize("subtype", ["ALAW", "ULAW"])
def test_every_code_of_the_telephone_is_that_of_libsndfile(subtype):
    data = bytearray(written(np.zeros(256), subtype))
    place = data.index(b"data") + 8
    data[place : place + 256] = bytes(range(256))
    expected, _ = soundfile.read(io.BytesIO(bytes(data)), dtype="float32")
    np.testing.assert_array_equal(header(bytes(data)).samples(bytes(range(256)))[:, 0], expected)


def test_other_parts_of_the_file_are_passed_over():
    data = riff(chunk(b"LIST", b"INFOIART\x0b\0\0\0Erika Musk\0\0"), fmt(), chunk(b"fact", b"1234"), SOUND, b"id3 junk")
    assert header(data).num_frames == 200


@pytest.mark.parametrize("sizes", [(0xFFFFFFFF, 0xFFFFFFFF), (0x7FFFF024, 0x7FFFF000), (0, 0)])
def test_a_streamed_file_is_read_to_its_end(sizes):
    data = bytearray(riff(fmt(), SOUND))
    data[4:8], data[40:44] = (struct.pack("<I", size) for size in sizes)
    assert header(bytes(data)).num_frames == 200


REFUSED = {
    "A01-riff-only": (riff(), "MALFORMED"),
    "A02-no-data": (riff(fmt()), "MALFORMED"),
    "A02-no-frames": (riff(fmt(), chunk(b"data", b"")), "EMPTY"),
    "A02-half-a-frame": (riff(fmt(), chunk(b"data", b"\0")), "EMPTY"),
    "A03-size-of-a-stream": (riff(fmt(), b"data\xff\xff\xff\x7e" + bytes(3000)), "TRUNCATED"),
    "A04-cut": (riff(fmt(), SOUND)[:-100], "TRUNCATED"),
    "A05-no-channels": (riff(fmt(channels=0), SOUND), "MALFORMED"),
    "A05-17-channels": (riff(fmt(channels=17), SOUND), "MALFORMED"),
    "A05-65535-channels": (riff(fmt(channels=65535, width=1), SOUND), "MALFORMED"),
    "A06-rate-0": (riff(fmt(rate=0), SOUND), "MALFORMED"),
    "A06-rate-huge": (riff(fmt(rate=0xFFFFFFFF), SOUND), "MALFORMED"),
    "A07-bits-0": (riff(fmt(bits=0), SOUND), "MALFORMED"),
    "A07-bits-12": (riff(fmt(bits=12), SOUND), "MALFORMED"),
    "A07-bits-255": (riff(fmt(bits=255), SOUND), "MALFORMED"),
    "A07-frames": (riff(fmt(width=2, bits=8), SOUND), "MALFORMED"),
    "A07-width-0": (riff(fmt(width=0, bits=16), SOUND), "MALFORMED"),
    "A09-ima-adpcm": (riff(fmt(codec=0x11, width=1), SOUND), "MALFORMED"),
    "A09-ms-adpcm": (riff(fmt(codec=2, width=1), SOUND), "MALFORMED"),
    "A09-gsm": (riff(fmt(codec=0x31, width=1), SOUND), "MALFORMED"),
    "A09-g726": (riff(fmt(codec=0x45, width=1), SOUND), "CODEC"),
    "A10-extensible-cut": (riff(fmt(codec=0xFFFE), SOUND), "CODEC"),
    "A10-extensible-other": (riff(fmt(codec=0xFFFE, tail=b"\x16\0\x10\0" + bytes(20)), SOUND), "CODEC"),
    "A11-two-descriptions": (riff(fmt(), fmt(), SOUND), "MALFORMED"),
    "A11-two-sounds": (riff(fmt(), SOUND, SOUND), "MALFORMED"),
    "A11-data-first": (riff(SOUND, fmt()), "MALFORMED"),
    "A12-100000-parts": (riff(*[chunk(b"junk", b"")] * 100_000, fmt(), SOUND), "MALFORMED"),
    "description-of-4-bytes": (riff(chunk(b"fmt ", b"\1\0\1\0"), SOUND), "MALFORMED"),
    "description-of-1-GiB": (riff(b"fmt \0\0\0\x40", SOUND), "MALFORMED"),
    "cut-in-the-description": (riff(fmt())[:22], "MALFORMED"),
}


@pytest.mark.parametrize(("data", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_header_that_contradicts_itself_is_refused(tmp_path, data, reason):
    (tmp_path / "a.wav").write_bytes(data)
    with pytest.raises(UnusableAudioError) as refused:
        decode(tmp_path / "a.wav")
    assert refused.value.reason == reason


def test_a_header_of_random_bytes_is_refused_or_read_but_never_crashes():
    draw = np.random.default_rng(0)
    good = riff(fmt(), SOUND)
    for _ in range(3000):
        data = bytearray(good)
        for place in draw.integers(12, 48, draw.integers(1, 4)):
            data[place] = draw.integers(256)
        try:
            found = header(bytes(data))
        except UnusableAudioError:
            continue
        assert 0 < found.num_frames * found.frame_bytes <= len(data) - found.start
