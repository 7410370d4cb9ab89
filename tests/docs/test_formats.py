"""The table of formats says what the decoders do."""

import io
from pathlib import Path
from typing import NamedTuple

import pytest
import soundfile

from ecan_core.audio.decode import Recording
from ecan_core.data.folders import AUDIO_SUFFIXES, OTHER_SUFFIXES
from tests.ecan_core.audio.sounds import syllables
from tests.ecan_core.audio.test_streams import MP3, in_wav


class Format(NamedTuple):
    """A format of recordings: its name, how such files are usually named, and what decodes it."""

    name: str
    suffixes: str
    read_by: str


OURS, LIBSNDFILE, FFMPEG = "a parser of our own", "libsndfile", "FFmpeg, with `ecan-ser[calls]`"
FORMATS = (
    Format("WAV, PCM of 8, 16, 24, 32 bits", ".wav", OURS),
    Format("WAV, floats of 32, 64 bits", ".wav", OURS),
    Format("WAV, A-law, mu-law (G.711)", ".wav", OURS),
    Format("WAV, GSM 6.10", ".wav", LIBSNDFILE),
    Format("WAV, IMA and Microsoft ADPCM", ".wav", LIBSNDFILE),
    Format("WAV, MP3", ".wav", LIBSNDFILE),
    Format("FLAC", ".flac", LIBSNDFILE),
    Format("Ogg Vorbis, Ogg Opus", ".ogg .oga .opus", LIBSNDFILE),
    Format("MP3", ".mp3", LIBSNDFILE),
    Format("MP4 with AAC", ".m4a .mp4 .3gp", FFMPEG),
    Format("AAC (ADTS)", ".aac", FFMPEG),
    Format("Matroska, WebM", ".mka .webm .mkv", FFMPEG),
    Format("AMR", ".amr", FFMPEG),
    Format("Windows Media", ".wma", FFMPEG),
)
REFUSED = "AIFF, AU, CAF, RF64, Wave64, G.726 and everything else"


def table() -> str:
    """The table of the documents, in Markdown."""
    rows = [f"| {one.name} | `{one.suffixes}` | {one.read_by} |" for one in FORMATS]
    return "\n".join(
        ["| format | usual names | decoded by |", "|---|---|---|", *rows, f"| {REFUSED} | | refused by name |"]
    )


ROOT = Path(__file__).resolve().parents[2]
VOICE = syllables(seconds=2.0)
WRITTEN = {
    "WAV, PCM of 8, 16, 24, 32 bits": [("WAV", kind) for kind in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32")],
    "WAV, floats of 32, 64 bits": [("WAV", "FLOAT"), ("WAV", "DOUBLE")],
    "WAV, A-law, mu-law (G.711)": [("WAV", "ALAW"), ("WAV", "ULAW")],
    "WAV, GSM 6.10": [("WAV", "GSM610")],
    "WAV, IMA and Microsoft ADPCM": [("WAV", "IMA_ADPCM"), ("WAV", "MS_ADPCM")],
    "FLAC": [("FLAC", "PCM_16"), ("FLAC", "PCM_24")],
    "Ogg Vorbis, Ogg Opus": [("OGG", "VORBIS"), ("OGG", "OPUS")],
    "MP3": [("MP3", "MPEG_LAYER_III")],
}


def encoded(kind: str, subtype: str) -> bytes:
    content = io.BytesIO()
    soundfile.write(content, VOICE, 16_000, format=kind, subtype=subtype)
    return content.getvalue()


def test_the_document_holds_the_table():
    assert table() in (ROOT / "docs" / "operations.md").read_text()


def test_every_format_that_is_always_read_is_tried_here():
    always = {one.name for one in FORMATS if one.read_by != FFMPEG}
    assert always == {*WRITTEN, "WAV, MP3"}


@pytest.mark.parametrize("name", WRITTEN)
def test_a_format_of_the_table_is_read(tmp_path, name):
    ours = next(one for one in FORMATS if one.name == name).read_by == OURS
    for number, way in enumerate(WRITTEN[name]):
        path = tmp_path / str(number)
        path.write_bytes(encoded(*way))
        with Recording(path) as recording:
            assert recording.num_frames / recording.sample_rate == pytest.approx(2, abs=0.2)
            assert (type(recording._content).__name__ == "_WavContent") == ours


def test_mp3_in_wav_is_read(tmp_path):
    (tmp_path / "a.wav").write_bytes(in_wav(MP3))
    with Recording(tmp_path / "a.wav") as recording:
        assert recording.num_frames > 0


def test_files_of_every_format_are_listed():
    suffixes = {suffix for one in FORMATS for suffix in one.suffixes.split()}
    assert suffixes <= AUDIO_SUFFIXES | OTHER_SUFFIXES
