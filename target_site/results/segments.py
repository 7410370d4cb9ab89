"""Write what was heard, stretch by stretch, in three forms.

Other programs read them.

``segments.csv`` is for spreadsheets, ``segments.jsonl`` (one object a line) for programs, ``segments.rttm`` (Rich
Transcription Time Marked) for the tools of speech research, which show it beside the sound.
"""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np

from ecan_core.data.cells import guarded
from ecan_core.data.features import FeatureTable
from ecan_core.utterance import Utterance
from protocol.files import write_atomic

CSV, JSONL, RTTM = SEGMENTS = ("segments.csv", "segments.jsonl", "segments.rttm")
SUMMARY = "summary.json"
CALLS, PARQUET, PAGE = "calls.jsonl", "segments.parquet", "day.html"
PREDICTIONS = (*SEGMENTS, PARQUET, CALLS, SUMMARY, PAGE)
"""What `predict` writes into the folder of a day."""
UNCERTAIN = "uncertain"


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Describe one utterance and what the model makes of it.

    Attributes:
        recording: the file, as it was listed.
        channel: counted from 0; None where the loudest one was taken.
        role: what the speaker is at this site, None where unknown.
        begin_ms: start within the file, in milliseconds.
        end_ms: end within the file, in milliseconds.
        speaker: who speaks, None where unknown.
        label: the most likely class.
        confidence: its score.
        abstained: the model is not sure enough: the label is its best guess, and not to be relied on.
        scores: the score of every class.
    """

    recording: str
    channel: int | None
    role: str | None
    begin_ms: int
    end_ms: int
    speaker: str | None
    label: str
    confidence: float
    abstained: bool
    scores: dict[str, float]


def segments_of(
    table: FeatureTable, scores: np.ndarray, uncertain: np.ndarray, classes: Sequence[str]
) -> list[Segment]:
    """Return the utterances of a table as segments, in its order.

    ``scores`` are ``[N, C]``; ``uncertain`` ``[N]`` marks where the model abstains.
    """
    rows = zip(table.utterances, table.durations_s, scores, uncertain.tolist(), strict=True)
    return [_segment(*row, classes) for row in rows]


def _segment(
    utterance: Utterance, duration_s: float, scores: np.ndarray, abstained: bool, classes: Sequence[str]
) -> Segment:
    begin_s = utterance.start_s or 0.0
    return Segment(
        recording=str(utterance.path),
        channel=utterance.channel,
        role=utterance.role,
        begin_ms=round(begin_s * 1000),
        end_ms=round((begin_s + duration_s) * 1000),
        speaker=utterance.speaker,
        label=classes[int(scores.argmax())],
        confidence=round(float(scores.max()), 4),
        abstained=abstained,
        scores={name: round(float(score), 4) for name, score in zip(classes, scores, strict=True)},
    )


def write_segments(folder: Path, segments: Sequence[Segment], classes: Sequence[str]) -> None:
    """Write all three files, each whole or not at all."""
    for name, text in (
        (CSV, as_csv(segments, classes)),
        (JSONL, as_jsonl(segments)),
        (RTTM, as_rttm(segments)),
    ):
        write_atomic(folder / name, text.encode(errors="surrogateescape"))


def as_csv(segments: Sequence[Segment], classes: Sequence[str]) -> str:
    """Format one row per segment below a row of names.

    One column per class. No name is a formula (`ecan_core.data.cells`).
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["recording", "channel", "role", "begin_ms", "end_ms", "speaker", "label", "confidence", "abstained"]
        + [f"score_{name}" for name in classes]
    )
    for one in segments:
        channel = "" if one.channel is None else one.channel
        place = [guarded(one.recording), channel, guarded(one.role or ""), one.begin_ms, one.end_ms]
        found = [guarded(one.speaker or ""), one.label, f"{one.confidence:.4f}", "yes" if one.abstained else "no"]
        writer.writerow([*place, *found, *(_score(one, name) for name in classes)])
    return text.getvalue()


def _score(segment: Segment, name: str) -> str:
    """Format a score; empty if the model knew no such class."""
    return f"{segment.scores[name]:.4f}" if name in segment.scores else ""


def as_jsonl(segments: Sequence[Segment]) -> str:
    """Format one object per line.

    A name that is not UTF-8 keeps its bytes as escapes, as Python writes them.
    """
    return "".join(json.dumps(vars(one)) + "\n" for one in segments)


def as_rttm(segments: Sequence[Segment]) -> str:
    """Format one line per segment, the class in the speaker's place.

    Where the model abstains, `UNCERTAIN`.

    Fields are separated by spaces, so those and all that is not plain in a file's name are written as in an address
    (``%20``). Channels count from 1, as the form has it; times are in seconds.

    Source: NIST, RT-09 evaluation plan, appendix A.
    """
    lines = []
    for one in segments:
        recording = quote(one.recording.encode(errors="surrogateescape"), safe="/")
        channel = 1 if one.channel is None else one.channel + 1
        begin_s, length_s = one.begin_ms / 1000, (one.end_ms - one.begin_ms) / 1000
        found = f"<NA> <NA> {UNCERTAIN if one.abstained else one.label} {one.confidence:.4f} <NA>"
        lines.append(f"SPEAKER {recording} {channel} {begin_s:.3f} {length_s:.3f} {found}\n")
    return "".join(lines)
