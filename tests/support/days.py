"""Find what `predict` wrote, and write the like without hearing anything."""

from pathlib import Path

from target_site.report.days import commit
from target_site.results.calls import Call
from target_site.results.days import Content, Day, latest_day
from target_site.results.runs import Run, run_folder, write_run
from target_site.results.segments import Segment
from target_site.results.shards import Shard, place_of_path

CLASSES = ("anger", "joy")
CONTAINMENT = {"level": 3, "walls": "all of them", "accepted": None, "attempts": 0, "ways_out": {}}
UTTERANCE_MS = 2000


def day_in(out: Path) -> Path:
    """The folder of the last day of a folder of predictions."""
    day = latest_day(out)
    assert day is not None, f"nothing was predicted into {out}"
    return day.folder


def a_call(recording: str, anger: int = 1, joy: int = 0, uncertain: int = 0, **changes) -> Call:
    """A call with so many utterances of each kind."""
    utterances = anger + joy + uncertain
    facts = {
        "recording": recording,
        "place": place_of_path(Path(recording)),
        "size_bytes": 1000,
        "mtime_ns": 1_700_000_000_000_000_000,
        "sha256": place_of_path(Path(recording)) * 2,
        "listed": "00" * 8,
        "supersedes": None,
        "utterances": utterances,
        "abstained": uncertain,
        "predicted": {"anger": anger, "joy": joy},
        "confidence": 0.7 if utterances else None,
        "speech_ms": UTTERANCE_MS * utterances,
        "clipped": 0,
        "refused": [],
        "is_lost": False,
    }
    return Call(**facts | changes)


def segments_of(call: Call, speaker: str | None = None) -> list[Segment]:
    """Utterances that fit a call."""
    told = [(name, False) for name in CLASSES for _ in range(call.predicted[name])] + [("joy", True)] * call.abstained
    return [
        Segment(
            recording=call.recording,
            channel=None,
            role=None,
            begin_ms=UTTERANCE_MS * number,
            end_ms=UTTERANCE_MS * (number + 1),
            speaker=speaker,
            label=label,
            confidence=0.7,
            abstained=abstained,
            scores={name: 0.7 if name == label else 0.3 for name in CLASSES},
        )
        for number, (label, abstained) in enumerate(told)
    ]


def a_run(day: int, *calls: Call, speakers: dict[str, str] | None = None, **changes) -> Run:
    """What a run over these calls hands over."""
    segments = [one for call in calls for one in segments_of(call, (speakers or {}).get(call.recording))]
    facts = {
        "day": day,
        "calls": calls,
        "segments": tuple(segments),
        "classes": CLASSES,
        "model_sha256": "ab" * 32,
        "least_confidence": dict.fromkeys(CLASSES, 0.5),
        "containment": CONTAINMENT,
        "forgotten": 0,
    }
    return Run(content=Content(**facts | changes))


def hand_over(out: Path, run: Run, shard: Shard | None = None) -> Path:
    """Leave a run as a contained process does; returns its folder."""
    folder = run_folder(out, shard or Shard())
    folder.mkdir(parents=True, exist_ok=True)
    write_run(folder, run)
    return folder


def predicted(out: Path, run: Run, **words) -> Day | None:
    """Make a run part of its day, as `predict` does."""
    return commit(out, hand_over(out, run), **words)
