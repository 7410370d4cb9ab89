"""What it costs to decode a recording in a process of its own, forked from a large process or by a small one.

Every way is measured in a process that holds what a contained one holds when it hears: torch. Times are CPU times, the
kernel's part included, of that process and all that it forked; WAV, which is read in the process itself, is there to
compare. Appends one JSON line per way; ``--doc`` writes the table of the last run into docs/benchmarks.md.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import soundfile

from benchmarks.record import RESULTS, ROOT, latest, record, write_section
from benchmarks.synthetic_speech.synthetic import write_corpus
from benchmarks.tables import markdown

WAYS = {
    "WAV, in the process": ("wav", False),
    "FLAC, forked from it": ("flac", False),
    "FLAC, forked by a maker": ("flac", True),
}
PARTS = ("user_ms", "system_ms")
HEAR = """
import resource, sys
from functools import partial
from pathlib import Path
from ecan_core.audio.decode import decode
from ecan_core.audio.foreign import start_makers
from ecan_core.runtime.cage import bring
from ecan_core.runtime.workers import taken
from protocol.containment.walls import Tripwire, enclose_maker
from protocol.sandbox.confine import confine_to_computing

folder, has_maker = Path(sys.argv[1]), sys.argv[2] == "True"
bring(confine_to_computing)
if has_maker:
    start_makers(1, partial(enclose_maker, Tripwire()))
import target_site.containment.orders
files = sorted(folder.iterdir())
def used():
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime for one in both), sum(one.ru_stime for one in both)
decode(files[0])
began = used()
for file in files:
    decode(file)
while (maker := taken()) is not None:
    maker.close()
print(*(1000 * (end - begin) / len(files) for begin, end in zip(began, used())))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=int, default=160)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS / "decoding.jsonl")
    parser.add_argument("--doc", action="store_true", help="write the table into docs/benchmarks.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        seconds = write_recordings(Path(name), arguments.recordings)
        for way, (kind, has_maker) in WAYS.items():
            times = min((hear(Path(name, kind), has_maker) for _ in range(arguments.rounds)), key=sum)
            record(arguments.out, {"way": way, "seconds_each": seconds} | dict(zip(PARTS, times, strict=True)))
    if arguments.doc:
        write_section(ROOT / "docs" / "benchmarks.md", "decoding", table())


def write_recordings(folder: Path, count: int) -> float:
    """Write the same speech as WAV and as FLAC; returns the mean length in seconds."""
    write_corpus("harbor", folder / "speech", num_speakers=4, num_per_emotion=-(-count // 16), seed=0)
    total_s = 0.0
    for kind in ("wav", "flac"):
        (folder / kind).mkdir()
    for number, file in enumerate(sorted((folder / "speech").rglob("*.wav"))[:count]):
        sound, rate = soundfile.read(file)
        for kind in ("wav", "flac"):
            soundfile.write(folder / kind / f"{number}.{kind}", sound, rate)
        total_s += len(sound) / rate
    return round(total_s / count, 1)


def hear(folder: Path, has_maker: bool) -> tuple[float, float]:
    """CPU milliseconds of a recording, of the programs and of the kernel."""
    said = subprocess.run(
        [sys.executable, "-c", HEAR, folder, str(has_maker)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    user_ms, system_ms = (round(float(word), 2) for word in said.stdout.split())
    return user_ms, system_ms


def table() -> str:
    """One row per way."""
    lines = [latest("decoding", way=way) for way in WAYS]
    rows = [
        [line["way"], *(f"{line[part]:.1f}" for part in PARTS), f"{sum(line[part] for part in PARTS):.1f}"]
        for line in lines
    ]
    return markdown(["recording", "CPU ms of programs", "of the kernel", "together"], rows, words=1) + (
        f"\n\nPer recording of {lines[0]['seconds_each']} s, opened once, the least of the rounds. "
        f"`python -m benchmarks.decoding`, commit {lines[0]['commit']}, {lines[0]['day']}, {lines[0]['machine']}."
    )


if __name__ == "__main__":
    main()
