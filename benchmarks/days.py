"""A year of nights into one folder of predictions: what the last one costs beside the first.

A call centre makes 200 calls a day. The first and the last night hear 200 real files (synthetic speech of 1 to 3 s) by
the command; the 364 nights between them are written as the command writes them, with 30 utterances a call, but without
hearing: their files are a few bytes long and are listed each night, as if nobody ever cleared the folder. Eight shards
at once are timed against one run. Drift is tried on a year of days that stay as they are and on one that changes in its
middle, with calls and days that differ from each other. Appends JSON lines; ``--doc`` writes their table into
docs/benchmarks.md.
"""

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from benchmarks.crossing import Stage, target
from benchmarks.large import RATE, by_speaker, varied
from benchmarks.record import RESULTS, ROOT, latest, record, write_section
from benchmarks.synthetic_speech.synthetic import write_corpus
from benchmarks.tables import markdown
from target_site.report.days import commit
from target_site.results.calls import Call
from target_site.results.days import Content
from target_site.results.drift import WEEK_DAYS, WEEKS_BEFORE, find_drift, find_weekly_drift
from target_site.results.index import INDEX
from target_site.results.runs import Run, run_folder, write_run
from target_site.results.segments import Segment
from target_site.results.shards import WHOLE, place_of_path
from tests.support.models import save_untrained

DAYS, CALLS, UTTERANCES, SHARDS = 365, 200, 30, 8
CLASSES = ("anger", "fear")
USUAL, CHANGED = (0.25, 0.45, 0.3), (0.35, 0.35, 0.3)
"""Shares of the two classes and of what is uncertain."""
ALIKE_CALLS, ALIKE_DAYS = 4.0, 200.0
"""Concentration of the shares of a call around those of its day, and of a day around the usual ones."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=DAYS)
    parser.add_argument("--run", action="store_true", help="measure; half an hour")
    parser.add_argument("--doc", action="store_true", help="write the table into docs/benchmarks.md")
    arguments = parser.parse_args()
    if arguments.run:
        with tempfile.TemporaryDirectory() as folder:
            for row in chain(nights(Path(folder), arguments.days), shards(Path(folder)), drifts()):
                record(RESULTS / "days.jsonl", row)
    if arguments.doc:
        write_section(ROOT / "docs" / "benchmarks.md", "days", table())


def nights(work: Path, num_days: int) -> Iterator[dict[str, Any]]:
    """The first night, the last one of a year, and one that finds nothing new."""
    model, calls, out = save_untrained(work / "model"), work / "calls", work / "out"
    sounds = speech(work)
    today = int(time.time()) // 86_400
    speak(calls / "first", sounds)
    yield {"what": "first"} | figures(predict(work, model, calls, out))
    shutil.rmtree(out)
    shutil.rmtree(calls / "first")
    seconds = [fill(calls, out, today - num_days + number) for number in range(1, num_days)]
    yield {"what": "written", "days": len(seconds), "early_s": mean(seconds[28:56]), "late_s": mean(seconds[-28:])}
    speak(calls / "last", sounds)
    yield {"what": "last", "days": num_days} | figures(predict(work, model, calls, out)) | sizes(out)
    yield {"what": "nothing new"} | figures(predict(work, model, calls, out))
    shutil.rmtree(out)
    shutil.rmtree(calls)


def speech(work: Path) -> list[list[Any]]:
    write_corpus("valley", work / "valley", num_speakers=8, num_per_emotion=6, seed=1)
    return by_speaker(work / "valley")


def speak(folder: Path, sounds: list[list[Any]]) -> None:
    """Record the calls of a night."""
    folder.mkdir(parents=True)
    for number, sound in enumerate(varied(sounds, CALLS)):
        soundfile.write(folder / f"{number:03}.wav", sound, RATE, subtype="PCM_16")


def predict(work: Path, model: Path, calls: Path, out: Path, *more: object) -> Stage:
    words = ("predict", "--model", model, "--audio", calls, "--out", out, "--quiet", "--format", "json", *more)
    return target(work, *words)


def figures(stage: Stage) -> dict[str, Any]:
    """What a night cost."""
    counts = {name: stage.json()[name] for name in ("recordings", "known")}
    cost = {"wall_s": stage.wall_s, "cpu_s": stage.cpu_s, "peak_mib": stage.peak_mib}
    return counts | {name: round(value, 2) for name, value in cost.items()}


def fill(calls: Path, out: Path, day: int) -> float:
    """Write a day as the command does, without hearing; returns how long that took, in seconds."""
    draw = np.random.default_rng(day)
    folder = calls / f"{day}"
    folder.mkdir()
    made = [a_call(folder / f"{number:03}.wav", draw) for number in range(CALLS)]
    segments = [one for call in made for one in utterances(call, draw)]
    begun = time.monotonic()
    content = Content(
        day=day,
        calls=tuple(made),
        segments=tuple(segments),
        classes=CLASSES,
        model_sha256="00" * 32,
        least_confidence=dict.fromkeys(CLASSES, 0.5),
        containment={"level": 3, "walls": "simulated", "accepted": None, "attempts": 0, "ways_out": {}},
        forgotten=0,
    )
    run = run_folder(out, WHOLE)
    run.mkdir(parents=True, exist_ok=True)
    write_run(run, Run(content=content))
    commit(out, run)
    return time.monotonic() - begun


def a_call(path: Path, draw: np.random.Generator) -> Call:
    """A call whose file is a few bytes long."""
    path.write_bytes(str(path).encode())
    status, told = path.stat(), draw.multinomial(UTTERANCES, USUAL).tolist()
    return Call(
        recording=str(path),
        place=place_of_path(path),
        size_bytes=status.st_size,
        mtime_ns=status.st_mtime_ns,
        sha256=sha256(path.read_bytes()).hexdigest(),
        listed=sha256(b"[[null, null, null, null]]").hexdigest()[:16],
        supersedes=None,
        utterances=UTTERANCES,
        abstained=told[-1],
        predicted=dict(zip(CLASSES, told[:-1], strict=True)),
        confidence=0.7,
        speech_ms=3000 * UTTERANCES,
        clipped=0,
        refused=[],
        is_lost=False,
    )


def utterances(call: Call, draw: np.random.Generator) -> list[Segment]:
    scores = draw.dirichlet((2.0, 2.0), UTTERANCES).round(4).tolist()
    return [
        Segment(
            recording=call.recording,
            channel=1,
            role="caller",
            begin_ms=7000 * number,
            end_ms=7000 * number + 3000,
            speaker=None,
            label=CLASSES[int(second > first)],
            confidence=max(first, second),
            abstained=number < call.abstained,
            scores=dict(zip(CLASSES, (first, second), strict=True)),
        )
        for number, (first, second) in enumerate(scores)
    ]


def mean(seconds: list[float]) -> float:
    return round(sum(seconds) / max(len(seconds), 1), 3)


def sizes(out: Path) -> dict[str, float]:
    """What lies on the disk, in MiB."""
    days = sum(path.stat().st_size for path in out.glob("2*/*"))
    return {"days_mib": round(days / 2**20, 1), "index_mib": round((out / INDEX).stat().st_size / 2**20, 2)}


def shards(work: Path) -> Iterator[dict[str, Any]]:
    """Eight shards at once and one run over the same recordings, four nights long."""
    model, calls = save_untrained(work / "model-of-shards"), work / "list"
    for number in range(4):
        speak(calls / f"{number}", speech(work / f"{number}"))
    begun = time.monotonic()
    yield {"what": "one run"} | figures(predict(work, model, calls, work / "one"))
    alone_s, begun = time.monotonic() - begun, time.monotonic()
    with ThreadPoolExecutor(SHARDS) as pool:
        shares = [("--shard", f"{number}/{SHARDS}") for number in range(1, SHARDS + 1)]
        stages = list(pool.map(lambda share: predict(work, model, calls, work / "eight", *share), shares))
    together_s = time.monotonic() - begun
    today = max(path.name for path in (work / "one").glob("2*"))
    same = [(work / name / today / "segments.jsonl").read_bytes() for name in ("one", "eight")]
    cpu_s = round(sum(stage.cpu_s for stage in stages), 1)
    yield {
        "what": "shards",
        "shards": SHARDS,
        "wall_s": round(together_s, 1),
        "cpu_s": cpu_s,
        "ratio": round(alone_s / together_s, 2),
        "is_equal": same[0] == same[1],
        "cores": os.cpu_count(),
    }


def drifts() -> Iterator[dict[str, Any]]:
    """How many of a year's days are called drift, and how soon a change is found."""
    for name, later in (("stays", USUAL), ("changes", CHANGED)):
        draw = np.random.default_rng(0)
        days: dict[int, np.ndarray] = {}
        found, advised = [], []
        for day in range(DAYS):
            days[day] = simulated(draw, USUAL if day < DAYS // 2 else later)
            before = {number: days[number] for number in range(max(0, day - WEEK_DAYS * WEEKS_BEFORE), day)}
            drift, week = find_drift(days[day], before, CLASSES), find_weekly_drift(days, day, CLASSES)
            found += [day] * (drift is not None and drift.is_drift)
            advised += [day] * (week is not None and week.is_drift)
        after = [day - DAYS // 2 + 1 for day in advised if day >= DAYS // 2]
        soon = after[0] if after else None
        yield {"what": name, "drift_days": len(found), "advised": len(advised), "found_after": soon}


def simulated(draw: np.random.Generator, shares: tuple[float, ...]) -> np.ndarray:
    """The calls of a day ``[calls, C + 1]``, alike among themselves."""
    of_day = draw.dirichlet(ALIKE_DAYS * np.array(shares))
    of_calls = draw.standard_gamma(ALIKE_CALLS * of_day, (CALLS, len(shares)))
    return draw.multinomial(draw.poisson(UTTERANCES, CALLS), of_calls / of_calls.sum(axis=1, keepdims=True))


def table() -> str:
    first, last, idle = (latest("days", what=what) for what in ("first", "last", "nothing new"))
    written, one, eight = (latest("days", what=what) for what in ("written", "one run", "shards"))
    stays, changes = latest("days", what="stays"), latest("days", what="changes")
    rows = [
        night("the first night", first),
        night(f"night {last['days']}", last),
        night("nothing new", idle),
        night("the recordings of four nights at once", one),
        night(f"the same by {eight['shards']} shards", one | eight | {"peak_mib": None}),
    ]
    equal = "equal to the byte" if eight["is_equal"] else "DIFFERENT"
    said = [
        f"After {last['days']} nights of {CALLS} calls with {UTTERANCES} utterances each, the days take "
        f"{last['days_mib']:.0f} MiB and the index {last['index_mib']:.1f} MiB. Writing a day takes "
        f"{written['early_s']:.2f} s in the second month and {written['late_s']:.2f} s in the last.",
        f"The rows of {eight['shards']} shards and of one run are {equal}; one run takes {eight['ratio']:.2f} times as "
        f"long on {eight['cores']} cores, which it keeps busy by itself.",
        f"Of {DAYS} days that stay as they are {stays['drift_days']} are called drift, and another adaptation is "
        f"advised on {stays['advised']} of them. Where a tenth of the utterances goes from one class to another, it is "
        f"advised on day {changes['found_after']} after the change.",
        f"Commit {last['commit']}, {last['day']}, {last['machine']}.",
    ]
    head = ["night", "new recordings", "known", "s", "CPU s", "peak MiB"]
    return "\n\n".join([markdown(head, rows, words=1), "\n".join(said)])


def night(name: str, row: dict[str, Any]) -> list[str]:
    peak = "" if row["peak_mib"] is None else f"{row['peak_mib']:.0f}"
    cost = [f"{row['wall_s']:.1f}", f"{row['cpu_s']:.1f}", peak]
    return [name, f"{row['recordings']:,}", f"{row['known']:,}", *cost]


if __name__ == "__main__":
    main()
