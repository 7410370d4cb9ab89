"""What of a call is taken for speech, frame by frame, and what that costs.

Calls of two minutes on a telephone's 8 kHz, made of the corpora's utterances (no two conditions share a draw) and of
what `benchmarks.call_sounds` computes. Frames of 10 ms within 0.1 s of an edge of the truth do not count. Times are
CPU times of one thread, of what is done beside measuring levels. Appends one JSON line per condition and seed;
``--table`` writes the document's table.
"""

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from benchmarks.call_sounds import (
    RATE,
    SPEECH_DB,
    Call,
    Sound,
    Truth,
    at_level,
    call_of,
    line_tones,
    music,
    through_mu_law,
)
from benchmarks.record import RESULTS, ROOT, record, write_section
from benchmarks.tables import distinct, markdown, mean, pick, provenance, read_lines
from ecan_core.audio.decode import Recording, decode, resample
from ecan_core.audio.listening import listen
from ecan_core.audio.not_speech import KINDS
from ecan_core.audio.speech import levels_of, others_in, utterances_in
from ecan_core.audio.voice_network import voice_scores
from ecan_core.data.folders import AUDIO_SUFFIXES
from ecan_core.runtime.seeding import one_thread

CORPORA = ("emodb", "ravdess", "nemo")
GOALS = {"clean": 0.95, "mu-law, 20 dB": 0.95, "babble, 10 dB": 0.94, "hold music": 0.95, "tones": 0.95}
COLLAR = 10  # frames
SECONDS = 120.0
DEFAULT_OUT = RESULTS / "speech_activity.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpora", type=Path, default=ROOT.parent / "shared" / "corpora")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--calls", type=int, default=6, help="of each condition and seed")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT)
    parser.add_argument("--table", action="store_true", help="write the table into docs/benchmarks.md")
    arguments = parser.parse_args()
    if arguments.table:
        write_section(ROOT / "docs" / "benchmarks.md", "speech_activity", table(read_lines(arguments.out)))
        return
    one_thread()
    utterances = hear(arguments.corpora)
    for seed in range(arguments.seeds):
        for number, condition in enumerate(GOALS):
            random = np.random.default_rng([seed, number])
            calls = [make(condition, utterances, random) for _ in range(arguments.calls)]
            record(arguments.out, {"condition": condition, "seed": seed} | measure(calls))


def hear(corpora: Path, count: int = 150) -> list[Sound]:
    """Some utterances of each corpus, spread over it."""
    found = []
    for name in CORPORA:
        files = sorted(file for file in (corpora / name).rglob("*") if file.suffix in AUDIO_SUFFIXES)
        found += [resample(decode(file), RATE).samples for file in files[:: len(files) // count]]
    return found


def make(condition: str, utterances: Sequence[Sound], random: np.random.Generator) -> Call:
    """A channel of a call in one of the conditions of `GOALS`."""
    others: list[Sound] = []
    if condition == "hold music":
        others = [music(random.uniform(6, 14), random) for _ in range(8)]
    if condition == "tones":
        others = list(line_tones(random).values())
    call = call_of(utterances, others, random, SECONDS)
    noise: Sound = random.standard_normal(len(call.sound))
    if condition == "clean":
        return call._replace(sound=call.sound + at_level(noise, -75))
    below_db = {"mu-law, 20 dB": 20, "babble, 10 dB": 10}.get(condition, 40)
    noise = babble(utterances, len(noise), random) if "babble" in condition else noise
    return call._replace(sound=through_mu_law(call.sound + at_level(noise, SPEECH_DB - below_db)))


def babble(utterances: Sequence[Sound], length: int, random: np.random.Generator, voices: int = 6) -> Sound:
    """Several who speak at once, without a pause."""
    sound = np.zeros(length)
    for _ in range(voices):
        place = 0
        while place < length:
            one = at_level(utterances[int(random.integers(len(utterances)))], SPEECH_DB)[: length - place]
            sound[place : place + len(one)] += one
            place += len(one) + int(random.uniform(0, 0.5) * RATE)
    return sound


def measure(calls: Sequence[Call]) -> dict[str, Any]:
    """Shares of frames that are right and wrong, the CPU time, and the seconds of what was told to be no speech."""
    counts, others, used_s = np.zeros(3), Counter[str](), 0.0
    voice_scores(np.zeros(RATE, np.float32))  # loads the network
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "call.wav"
        for call in calls:
            soundfile.write(path, call.sound, RATE, subtype="PCM_16")
            found, kinds, seconds = listened(path)
            counts += compare(found, call.truth)
            others.update(kinds)
            used_s += seconds
    right, false, missed = counts
    return {
        "f1": round(2 * right / (2 * right + false + missed), 4),
        "precision": round(right / (right + false), 4),
        "recall": round(right / (right + missed), 4),
        "cpu_s_per_hour": round(used_s * 3600 / (SECONDS * len(calls)), 2),
        "not_speech_s": {kind: round(ms / 1000, 1) for kind, ms in others.most_common()},
    }


def listened(path: Path) -> tuple[Truth, Counter[str], float]:
    """What the product hears: frames in utterances, milliseconds of what is no speech, and CPU seconds of listening."""
    with Recording(path) as recording:
        levels = levels_of(recording)
        began = time.process_time()
        heard = listen(recording, levels)[:, 0]
        used_s = time.process_time() - began
    utterances = utterances_in(levels[:, 0], heard)
    is_speech, kinds = np.zeros(len(heard), bool), Counter[str]()
    for start_s, end_s in utterances:
        is_speech[round(start_s * 100) : round(end_s * 100)] = True
    for (start_s, end_s), kind in others_in(levels[:, 0], heard, utterances):
        kinds[KINDS[kind][0]] += round(1000 * (end_s - start_s))
    return is_speech, kinds, used_s


def compare(found: Truth, truth: Truth) -> np.ndarray:
    """Frames that are rightly speech, wrongly, and missed."""
    counts = np.ones(len(truth), bool)
    for edge in np.flatnonzero(np.diff(truth.astype(np.int8))) + 1:
        counts[max(edge - COLLAR, 0) : edge + COLLAR] = False
    found, truth = found[: len(truth)][counts], truth[counts]
    return np.array([(found & truth).sum(), (found & ~truth).sum(), (~found & truth).sum()])


def table(lines: Sequence[dict[str, Any]]) -> str:
    """One row per condition, mean over the seeds."""
    rows = []
    for condition in distinct(lines, "condition"):
        chosen = pick(lines, condition=condition)
        shares = [f"{mean(chosen, key) / 100:.3f}" for key in ("f1", "precision", "recall")]
        cost = f"{mean(chosen, 'cpu_s_per_hour') / 100:.1f}"
        rows.append([condition, f"{GOALS[condition]:.2f}", *shares, cost])
    head = ["call", "goal", "F1", "precision", "recall", "more CPU s per hour"]
    return markdown(head, rows, words=1) + (
        "\n\nFrames of 10 ms, one channel, mean over the seeds. `python -m benchmarks.speech_activity`, "
        + provenance(lines)
    )


if __name__ == "__main__":
    main()
