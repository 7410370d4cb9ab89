"""How fast a core hears: `stats-v1`, whole and part by part, and the public encoders beside it.

Decoding is not counted, nor is the first utterance, which loads what loads late. Times are CPU times of one thread and
the least of several rounds, since other work on a machine can only add to them. Appends one JSON line per kind of
speech; ``--doc`` writes a table of the last run's lines between its marks into docs/benchmarks.md.
"""

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.record import RESULTS, ROOT, latest, record, write_section
from benchmarks.synthetic_speech.synthetic import write_corpus
from benchmarks.tables import markdown
from ecan_core.audio.contours import Contours
from ecan_core.audio.decode import decode, resample
from ecan_core.audio.logmel import SAMPLE_RATE
from ecan_core.audio.statistics import FAMILIES, utterance_statistics
from ecan_core.audio.statistics.tally import Tally
from ecan_core.data.folders import AUDIO_SUFFIXES
from ecan_core.encoders.front_end import load_selfsupervised, load_whisper
from ecan_core.encoders.voices import embed_voices, load_campplus
from ecan_core.runtime.threads import one_thread
from protocol.encoders.registry import CAMPPLUS, ENCODERS, WHISPER, AddedEncoder
from protocol.encoders.store import added, default_folder, place_of

Sound = npt.NDArray[np.float32]

SYNTHETIC, LONG = "synthetic", "synthetic, 20 s each"
CORPORA = ("emodb", "ravdess", "nemo")
CURVES = ("centered", "power", "decibels", "energy_db", "log_mel", "cepstra", "prosody", "semitones")
"""Curves that several families read, each timed by itself before the families."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpora", type=Path, default=ROOT.parent / "shared" / "corpora")
    parser.add_argument("--utterances", type=int, default=100, help="of each kind of speech")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--encoders", type=Path, default=default_folder(), help="folder of public encoders")
    parser.add_argument("--out", type=Path, default=RESULTS / "frontend.jsonl")
    parser.add_argument("--doc", action="store_true", help="write the table into docs/benchmarks.md")
    arguments = parser.parse_args()
    for name, sounds in speech(arguments.corpora, arguments.utterances):
        row = {"speech": name} | measure(sounds, arguments.rounds)
        record(arguments.out, row | measure_encoders(sounds, arguments.encoders, arguments.rounds))
    if arguments.doc:
        write_section(ROOT / "docs" / "benchmarks.md", "frontend", table())


def speech(corpora: Path, count: int) -> Iterator[tuple[str, list[Sound]]]:
    """Sounds of every kind of speech that is at hand, by its name."""
    with tempfile.TemporaryDirectory() as folder:
        write_corpus("harbor", Path(folder), num_speakers=4, num_per_emotion=-(-count // 16), seed=0)
        synthetic = hear(Path(folder), count)
    yield SYNTHETIC, synthetic
    joined = np.concatenate(synthetic)
    yield LONG, np.split(joined, range(20 * SAMPLE_RATE, len(joined), 20 * SAMPLE_RATE))[:-1]
    for name in CORPORA:
        if (corpora / name).is_dir():
            yield name, hear(corpora / name, count)


def hear(folder: Path, count: int) -> list[Sound]:
    """Some recordings of a folder, spread over it."""
    files = sorted(file for file in folder.rglob("*") if file.suffix in AUDIO_SUFFIXES)
    return [resample(decode(file), SAMPLE_RATE).samples for file in files[:: max(1, len(files) // count)][:count]]


def measure(sounds: Sequence[Sound], rounds: int) -> dict[str, Any]:
    """Times the whole front end and its parts, the latter in milliseconds of a second of speech."""
    duration_s = sum(map(len, sounds)) / SAMPLE_RATE
    utterance_statistics(sounds[0])
    whole_s = min(seconds(lambda: [utterance_statistics(sound) for sound in sounds]) for _ in range(rounds))
    by_round = [time_parts(sounds) for _ in range(rounds)]
    least = {part: min(times[part] for times in by_round) for part in by_round[0]}
    return {
        "utterances": len(sounds),
        "seconds": round(duration_s, 1),
        "times_real_time": round(duration_s / whole_s),
        "ms_per_utterance": round(1000 * whole_s / len(sounds), 2),
        "ms_per_second": {part: round(1000 * least_s / duration_s, 3) for part, least_s in least.items()},
    }


def measure_encoders(sounds: Sequence[Sound], folder: Path, rounds: int) -> dict[str, Any]:
    """Times each encoder at hand, in CPU seconds that an hour of speech takes."""
    works: dict[str, Callable[[], object]] = {}
    if (path := place_of(folder, WHISPER)).exists():
        whisper = load_whisper(path, WHISPER.sha256)
        works[WHISPER.id] = lambda: [whisper.embed([sound]) for sound in sounds]
    if (path := place_of(folder, CAMPPLUS)).exists():
        speaker = load_campplus(path, CAMPPLUS.sha256)
        works[CAMPPLUS.id] = lambda: embed_voices(speaker, sounds)
    for added_here in added(folder):
        if added_here.width:
            encoder = load_selfsupervised(place_of(folder, AddedEncoder(sha256=added_here.sha256)), added_here.sha256)
            works[added_here.name] = lambda encoder=encoder: [encoder.embed(sound) for sound in sounds]  # type: ignore[misc]
    hours = sum(map(len, sounds)) / SAMPLE_RATE / 3600
    with one_thread():
        times = {name: min(seconds(work) for _ in range(rounds)) for name, work in works.items()}
    return {"encoder_s_per_hour": {name: round(least_s / hours, 1) for name, least_s in times.items()}}


def time_parts(sounds: Sequence[Sound]) -> dict[str, float]:
    """CPU seconds that each curve and each family takes over all sounds."""
    times: dict[str, float] = defaultdict(float)
    for sound in sounds:
        contours, tally = Contours(sound), Tally()
        for curve in CURVES:
            times[curve] += seconds(partial(getattr, contours, curve))
        for family in FAMILIES:
            name = f"{family.__module__.rpartition('.')[2]}.{family.__name__}"
            times[name] += seconds(partial(family, contours, tally))
        times["tally"] += seconds(partial(getattr, tally, "values"))
    return times


def seconds(work: Callable[[], object]) -> float:
    """CPU time of a piece of work, in seconds."""
    began = time.process_time()
    work()
    return time.process_time() - began


def table() -> str:
    """Speed by speech, and the parts of the front end."""
    names = [name for name in (SYNTHETIC, LONG, *CORPORA) if has_line(name)]
    lines = [latest("frontend", speech=name) for name in names]
    speeds = [
        [
            line["speech"],
            f"{line['utterances']}",
            f"{line['seconds'] / line['utterances']:.1f}",
            f"{line['ms_per_utterance']:.1f}",
            f"{line['times_real_time']}",
            f"{3600 / line['times_real_time']:.1f}",
            *(f"{line['encoder_s_per_hour'].get(name, '-')}" for name in ENCODERS),
        ]
        for line in lines
    ]
    parts = [[part, *(f"{line['ms_per_second'][part]:.2f}" for line in lines)] for part in lines[0]["ms_per_second"]]
    head = ["speech", "utterances", "seconds each", "CPU ms each", "times real time"]
    head += [f"CPU s per hour, {name}" for name in ("stats-v1", *ENCODERS)]
    return "\n\n".join(
        [
            markdown(head, speeds, words=1),
            markdown(["CPU ms per second of speech", *names], parts, words=1),
            "One core, without decoding; the parts are those of `stats-v1`, and what an encoder takes comes on top. "
            f"Commit {lines[0]['commit']}, {lines[0]['day']}, "
            f"{lines[0]['machine']}.",
        ]
    )


def has_line(name: str) -> bool:
    """Whether that kind of speech was ever measured here."""
    return f'"speech": "{name}"' in (RESULTS / "frontend.jsonl").read_text()


if __name__ == "__main__":
    main()
