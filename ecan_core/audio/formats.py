"""List the formats of recordings that are read, for the documents."""

from typing import NamedTuple


class Format(NamedTuple):
    """Describe a format of recordings.

    Attributes:
        name: What it is called.
        suffixes: How such files are usually named; their content decides.
        read_by: What decodes it.
    """

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
    """Return the table of the documents, in Markdown."""
    rows = [f"| {one.name} | `{one.suffixes}` | {one.read_by} |" for one in FORMATS]
    return "\n".join(
        ["| format | usual names | decoded by |", "|---|---|---|", *rows, f"| {REFUSED} | | refused by name |"]
    )
