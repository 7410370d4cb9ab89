"""What is large at a target site: a call of an hour, one of ten hours, ten thousand utterances.

The calls are synthetic: two voices in turn on two channels, 8 kHz, mu-law, with pauses and a little noise. The
utterances are synthetic as well, every one cut, scaled and mixed with noise anew. All through the commands, nothing
cached. Appends one JSON line per case; ``--doc`` writes their table into docs/benchmarks.md.
"""

import argparse
import csv
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from benchmarks.crossing import Stage, hand_over, make_keys, predicted_day, source, target
from benchmarks.record import RESULTS, ROOT, latest, record, write_section
from benchmarks.synthetic_speech.synthetic import write_corpus
from benchmarks.tables import distinct, markdown, read_lines

Sound = npt.NDArray[np.float32]

RATE, CALL_RATE = 16_000, 8_000
HOUR, BOTH, TEN_HOURS = "one hour of a call", "the same, both channels heard", "ten hours of a call"
MANY = "10,000 utterances"
CASES = (HOUR, BOTH, TEN_HOURS, MANY)
AGENT_AND_CALLER, TWO_CALLERS = ("agent", "caller"), ("customer", "caller")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=CASES, action="append", help="default: all")
    parser.add_argument("--doc", action="store_true", help="write the table into docs/benchmarks.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_corpus("harbor", work / "harbor", num_speakers=4, num_per_emotion=4, seed=0)
        write_corpus("valley", work / "valley", num_speakers=8, num_per_emotion=6, seed=1)
        keys, bundle = make_keys(work), work / "model.ecan"
        source(work, "train", "--corpus", f"csv={work / 'harbor' / 'labels.csv'}", "--out", work / "run")
        hand_over(work, keys, work / "run", bundle)
        voices = by_speaker(work / "valley")
        for name in arguments.case or CASES:
            record(RESULTS / "large.jsonl", {"case": name} | MEASURES[name](work, bundle, voices))
    if arguments.doc:
        write_section(ROOT / "docs" / "benchmarks.md", "large", table())


def by_speaker(corpus: Path) -> list[list[Sound]]:
    """The utterances of every speaker of a corpus."""
    found: dict[str, list[Sound]] = {}
    with (corpus / "labels.csv").open(newline="") as rows:
        for row in csv.DictReader(rows):
            found.setdefault(row["speaker"], []).append(soundfile.read(corpus / row["file"], dtype="float32")[0])
    return list(found.values())


def call(hours: int, parties: tuple[str, str], work: Path, bundle: Path, voices: list[list[Sound]]) -> dict[str, Any]:
    """Predict one call between two parties; an agent's channel is discarded."""
    model, recording, rules = work / "adapted", work / f"{hours}-hours.wav", work / "site.yaml"
    rules.write_text(f"purpose: service\nsubjects: caller\nchannels: [{', '.join(parties)}]\n")
    if not model.exists():
        audio = work / "valley" / "labels.csv"
        target(work, "adapt", "--bundle", bundle, "--audio", audio, "--out", model, expect=None)
    write_call(recording, hours, voices[:2])
    out = work / f"{hours}-hours-{parties[0]}"
    stage = target(
        work,
        *("predict", "--model", model, "--audio", recording, "--config", rules),
        *("--cache", out / "cache", "--out", out),
    )
    with (predicted_day(out) / "segments.csv").open(newline="") as rows:
        begins = [int(row["begin_ms"]) for row in csv.DictReader(rows)]
    recording.unlink()
    return figures("predict", stage) | {"utterances": len(begins), "in_order": begins == sorted(begins)}


def write_call(path: Path, hours: int, voices: list[list[Sound]]) -> None:
    """Write a call: an hour of turns, again for every further hour."""
    draw = np.random.default_rng(0)
    told = [[soxr.resample(sound, RATE, CALL_RATE) for sound in sounds] for sounds in voices]
    call = draw.normal(0, 5e-4, (3600 * CALL_RATE, 2)).astype(np.float32)
    place, turn = CALL_RATE, 0
    while place < len(call) - 20 * CALL_RATE:
        for _ in range(draw.integers(1, 6)):
            sound = 0.5 * told[turn][draw.integers(len(told[turn]))]
            call[place : place + len(sound), turn] += sound
            call[place : place + len(sound), 1 - turn] += 0.02 * sound
            place += len(sound) + round(CALL_RATE * draw.uniform(0.1, 0.7))
        place += round(CALL_RATE * draw.uniform(0.2, 1.0))
        turn = 1 - turn
    with soundfile.SoundFile(path, "w", CALL_RATE, 2, subtype="ULAW") as file:
        for _ in range(hours):
            file.write(call)


def many(work: Path, bundle: Path, voices: list[list[Sound]]) -> dict[str, Any]:
    """Adapt to ten thousand utterances, from audio to report."""
    audio = work / "many"
    audio.mkdir()
    for number, sound in enumerate(varied(voices, 10_000)):
        soundfile.write(audio / f"{number:05}.wav", sound, RATE, subtype="PCM_16")
    stage = target(work, "adapt", "--bundle", bundle, "--audio", audio, "--out", work / "of-many", expect=None)
    return figures("adapt", stage) | {"utterances": 10_000, "in_order": True}


def varied(voices: list[list[Sound]], count: int) -> Iterator[Sound]:
    """So many utterances of 1 to 3 s that are all different."""
    draw = np.random.default_rng(1)
    for number in range(count):
        sounds = voices[number % len(voices)]
        sound = sounds[draw.integers(len(sounds))]
        length = round(RATE * draw.uniform(1.0, 3.0))
        first = draw.integers(max(len(sound) - length, 1))
        piece = draw.uniform(0.3, 0.9) * sound[first : first + length]
        yield (piece + 1e-3 * draw.normal(size=len(piece))).astype(np.float32)


def figures(command: str, stage: Stage) -> dict[str, Any]:
    """What a command cost."""
    return {
        "command": command,
        "wall_s": round(stage.wall_s, 1),
        "cpu_s": round(stage.cpu_s, 1),
        "peak_mib": round(stage.peak_mib),
        "exit": stage.code,
    }


MEASURES: dict[str, Callable[[Path, Path, list[list[Sound]]], dict[str, Any]]] = {
    HOUR: lambda *how: call(1, AGENT_AND_CALLER, *how),
    BOTH: lambda *how: call(1, TWO_CALLERS, *how),
    TEN_HOURS: lambda *how: call(10, AGENT_AND_CALLER, *how),
    MANY: many,
}


def table() -> str:
    """The last line of each case that was measured as a table."""
    measured = {line["case"] for line in read_lines(RESULTS / "large.jsonl")}
    lines = [latest("large", case=name) for name in CASES if name in measured]
    rows = [
        [
            line["case"],
            f"`{line['command']}`",
            f"{line['utterances']:,}",
            f"{line['wall_s']:.1f}",
            f"{line['cpu_s']:.1f}",
            f"{line['peak_mib']}",
        ]
        for line in lines
    ]
    commits = ", ".join(distinct(lines, "commit"))
    made = f"Commit {commits}; {lines[0]['day']}, {lines[0]['machine']}."
    head = ["what", "command", "utterances", "s", "CPU s", "peak MiB"]
    meaning = "Wall time, computing time of all processes, and the most memory that they held at once."
    return markdown(head, rows, words=2) + f"\n\n{meaning} {made}"


if __name__ == "__main__":
    main()
