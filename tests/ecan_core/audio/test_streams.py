"""Recordings whose headers are wrong about their length, or know none: they are heard to their end."""

import io
import struct

import numpy as np
import pytest
import soundfile

from ecan_core.audio.decode import Recording
from ecan_core.audio.streams import (
    flac_length,
    flac_streams,
    mp3_without_lengths,
    ogg_streams,
    with_flac_length,
)
from ecan_core.errors import UnusableAudioError
from tests.ecan_core.audio.sounds import syllables

RATE = 16_000
SECONDS = 12
SOUND = np.tile(syllables(seconds=4.0), 3)
STEREO = np.stack([SOUND, SOUND[::-1]], axis=1)


def encoded(kind: str, subtype: str, sound: np.ndarray = STEREO, rate: int = RATE) -> bytes:
    content = io.BytesIO()
    soundfile.write(content, sound, rate, format=kind, subtype=subtype)
    return content.getvalue()


WAV, FLAC = encoded("WAV", "PCM_16"), encoded("FLAC", "PCM_16")
MP3, VORBIS, OPUS = encoded("MP3", "MPEG_LAYER_III"), encoded("OGG", "VORBIS"), encoded("OGG", "OPUS")


def sizes(riff: int, data: int, sound: bytes = WAV[44:]) -> bytes:
    """A WAV file that says so."""
    return WAV[:4] + struct.pack("<I", riff) + WAV[8:40] + struct.pack("<I", data) + sound


def without_tag(data: bytes) -> bytes:
    """An MP3 file without the frame that states how many follow."""
    return data.replace(b"Info", bytes(4)).replace(b"Xing", bytes(4))


def in_wav(mp3: bytes) -> bytes:
    fmt = struct.pack("<HHIIHHHHIHHH", 0x55, 2, RATE, 8000, 1, 0, 12, 1, 2, 144, 1, 0)
    parts = b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt + b"data" + struct.pack("<I", len(mp3)) + mp3
    return b"RIFF" + struct.pack("<I", len(parts)) + parts


def stating(num_frames: int) -> bytes:
    """An MP3 file whose first frame states this many."""
    place = MP3.index(b"Info") if b"Info" in MP3[:100] else MP3.index(b"Xing")
    return MP3[: place + 8] + struct.pack(">I", num_frames) + MP3[place + 12 :]


HEARD = {
    "wav-of-a-pipe-with-two-zeros.wav": (sizes(0, 0), 1),
    "wav-never-closed.wav": (sizes(36, 0), 1),
    "wav-never-closed-with-ones.wav": (sizes(36, 0xFFFFFFFF), 1),
    "wav-of-a-pipe.wav": (sizes(0xFFFFFFFF, 0xFFFFFFFF), 1),
    "wav-closed-halfway.wav": (sizes(36 + 96_000, 96_000), 1),
    "wav-gsm.wav": (encoded("WAV", "GSM610", SOUND, 8_000), 2),
    "wav-ima-adpcm.wav": (encoded("WAV", "IMA_ADPCM"), 1),
    "wav-ms-adpcm.wav": (encoded("WAV", "MS_ADPCM"), 1),
    "wav-mp3.wav": (in_wav(without_tag(MP3)), 1),
    "flac-of-unknown-length.flac": (with_flac_length(FLAC, 0), 1),
    "flac-too-short-a-length.flac": (with_flac_length(FLAC, 4000), 1),
    "flac-joined.flac": (FLAC * 2, 2),
    "flac-of-a-killed-recorder.flac": (with_flac_length(FLAC, 0)[:-300], 0.98),
    "ogg-vorbis-chained.ogg": (VORBIS * 3, 3),
    "ogg-opus-chained.ogg": (OPUS * 2, 2),
    "mp3-without-a-tag.mp3": (without_tag(MP3), 1),
    "mp3-joined.mp3": (MP3 * 2, 2),
    "mp3-joined-without-tags.mp3": (without_tag(MP3) * 3, 3),
    "mp3-with-zero-frames.mp3": (stating(0), 1),
    "mp3-with-too-few-frames.mp3": (stating(20), 1),
    "mp3-with-too-many-frames.mp3": (stating(10**6), 1),
    "mp3-behind-a-name.mp3": (b"ID3\4\0\0\0\0\1\0" + bytes(128) + without_tag(MP3), 1),
}


@pytest.mark.parametrize("name", HEARD)
def test_a_recording_is_heard_to_its_end_whatever_its_header_says(tmp_path, name):
    data, times = HEARD[name]
    (tmp_path / name).write_bytes(data)
    with Recording(tmp_path / name) as recording:
        length_s = recording.num_frames / recording.sample_rate
        sound = recording.frames(0, recording.num_frames)
        middle = recording.num_frames // 2
        np.testing.assert_allclose(recording.frames(middle, middle + 500), sound[middle : middle + 500], atol=2e-6)
    assert length_s == pytest.approx(SECONDS * times, rel=0.02)
    assert np.abs(sound[-recording.sample_rate // 2 :]).max() > 0.01


def test_parts_of_different_rates_are_refused_with_the_reason(tmp_path):
    (tmp_path / "a.ogg").write_bytes(VORBIS + encoded("OGG", "VORBIS", STEREO, 8_000))
    with pytest.raises(UnusableAudioError, match="changes its rate") as refused:
        Recording(tmp_path / "a.ogg")
    assert refused.value.reason == "CODEC"


def test_what_ends_before_it_says_so_is_refused(tmp_path):
    for name, data in (("a.flac", FLAC[:-2000]), ("a.wav", WAV[:-2000])):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UnusableAudioError) as refused:
            Recording(tmp_path / name)
        assert refused.value.reason == "TRUNCATED"


def test_a_part_behind_the_samples_is_none_of_them(tmp_path):
    (tmp_path / "a.wav").write_bytes(WAV + b"LIST" + struct.pack("<I", 4) + b"INFO")
    with Recording(tmp_path / "a.wav") as recording:
        assert recording.num_frames == len(STEREO)


def test_an_mp3_file_that_states_the_truth_is_left_as_it_is():
    assert mp3_without_lengths(MP3).data == MP3
    assert mp3_without_lengths(stating(7)).data != stating(7)


def test_streams_are_cut_apart_where_they_begin():
    assert flac_streams(FLAC * 3) == [FLAC] * 3
    assert ogg_streams(VORBIS + OPUS) == [VORBIS, OPUS]
    assert flac_length(FLAC) == len(STEREO)
    assert flac_length(with_flac_length(FLAC, 2**36 - 1)) == 2**36 - 1


@pytest.mark.parametrize("take", [mp3_without_lengths, ogg_streams, lambda data: flac_streams(b"fLaC" + data)])
def test_random_bytes_are_taken_apart_without_a_crash(take):
    random = np.random.default_rng(0)
    for start in (b"", b"OggS", b"\xff\xfb\x90", b"ID3"):
        for _ in range(200):
            take(start + random.bytes(int(random.integers(0, 300))))
