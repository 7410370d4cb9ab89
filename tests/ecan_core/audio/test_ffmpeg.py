"""Recordings in formats that only FFmpeg decodes, through PyAV, where that is installed."""

import io

import numpy as np
import pytest

from ecan_core.audio import foreign
from ecan_core.audio.decode import Recording
from ecan_core.errors import UnusableAudioError
from tests.ecan_core.audio.sounds import syllables

av = pytest.importorskip("av")

RATE = 16_000
FORMATS = {
    "call.m4a": ("aac", "ipod"),
    "call.mp4": ("aac", "mp4"),
    "call.aac": ("aac", "adts"),
    "call.mka": ("aac", "matroska"),
    "call.webm": ("libopus", "webm"),
    "call.m4a.wav": ("aac", "ipod"),
}


def written(codec: str, container: str, num_channels: int = 2, seconds: float = 6.0) -> bytes:
    rate = 48_000 if codec == "libopus" else RATE
    sound = np.repeat(np.tile(syllables(seconds=2.0), int(seconds / 2)), rate // RATE)
    interleaved = np.repeat((sound * 32767).astype("<i2"), num_channels)[None]
    content, layout = io.BytesIO(), ("mono", "stereo")[num_channels - 1]
    with av.open(content, "w", format=container) as file:
        stream = file.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(interleaved, format="s16", layout=layout)
        frame.sample_rate = rate
        resampler = av.AudioResampler(stream.format, layout, rate, stream.codec_context.frame_size or None)
        for part in [*resampler.resample(frame), *resampler.resample(None), None]:
            file.mux(stream.encode(part))
    return content.getvalue()


@pytest.mark.parametrize("name", FORMATS)
def test_a_recording_is_heard_whole_and_in_pieces(tmp_path, name):
    (tmp_path / name).write_bytes(written(*FORMATS[name]))
    with Recording(tmp_path / name) as recording:
        assert recording.num_channels == 2
        assert recording.num_frames / recording.sample_rate == pytest.approx(6, abs=0.15)
        sound = recording.frames(0, recording.num_frames)
        np.testing.assert_array_equal(recording.frames(40_000, 41_000), sound[40_000:41_000])
        np.testing.assert_array_equal(recording.frames(100, 900), sound[100:900])
    assert 0.1 < np.abs(sound).max() <= 1.3


def test_without_the_decoder_the_sentence_names_the_extra(tmp_path, monkeypatch):
    (tmp_path / "a.m4a").write_bytes(written("aac", "ipod"))
    monkeypatch.setattr(foreign, "find_spec", lambda name: None)
    with pytest.raises(UnusableAudioError, match=r"is MP4; run `pip install 'ecan-ser\[calls\]'`") as refused:
        Recording(tmp_path / "a.m4a")
    assert refused.value.reason == "CONTAINER"


def test_no_file_but_the_recording_is_opened(tmp_path):
    """A playlist that names another file is no recording, whatever its name."""
    (tmp_path / "other.aac").write_bytes(written("aac", "adts"))
    for content in (b"#EXTM3U\n#EXTINF:10,\nother.aac\n", b"ffconcat version 1.0\nfile other.aac\n"):
        (tmp_path / "list.m4a").write_bytes(content)
        with pytest.raises(UnusableAudioError) as refused:
            Recording(tmp_path / "list.m4a")
        assert refused.value.reason == "CONTAINER"


@pytest.mark.parametrize("cut", [20, 200, 5_000])
def test_what_is_damaged_costs_no_more_than_itself(tmp_path, cut):
    data = bytearray(written("aac", "ipod"))
    data[-cut:] = bytes(cut)
    (tmp_path / "a.m4a").write_bytes(data)
    assert reason_of(tmp_path / "a.m4a") in ("", "UNREADABLE")


def reason_of(path) -> str:
    """Why a recording is refused, or nothing."""
    try:
        Recording(path).close()
    except UnusableAudioError as refused:
        return refused.reason
    return ""


def test_more_than_fits_in_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(foreign, "MAX_IN_MEMORY", 10_000)
    (tmp_path / "a.m4a").write_bytes(written("aac", "ipod"))
    with pytest.raises(UnusableAudioError):
        Recording(tmp_path / "a.m4a")
