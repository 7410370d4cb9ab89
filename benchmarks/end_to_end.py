"""One real pair end to end with nothing cached: time and peak memory of every stage, size of the bundle, help latency.

Prints a JSON object; ``--doc`` puts it as a table between its marks into docs/benchmarks.md.
"""

import argparse
import json
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.classes import CLASSES, without_other_classes
from benchmarks.crossing import hand_over, make_keys, source, target
from benchmarks.record import ROOT, circumstances, write_section

HELP_RUNS = 15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpora", type=Path, default=ROOT.parent / "shared" / "corpora")
    parser.add_argument("--doc", action="store_true", help="write the table into docs/benchmarks.md")
    arguments = parser.parse_args()
    result = {**measure(arguments.corpora), "help": help_latency(), **circumstances()}
    print(json.dumps(result, indent=2))
    if arguments.doc:
        write_section(ROOT / "docs" / "benchmarks.md", "end_to_end", table(result))


def measure(corpora: Path) -> dict[str, Any]:
    """Train on EmoDB, cross, adapt to RAVDESS, evaluate."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        keys = make_keys(work)
        labels = corpora / "ravdess" / "labels.csv"
        classes = CLASSES[frozenset({"emodb", "ravdess"})]
        audio = without_other_classes(work / "audio.csv", labels, classes.split(","))
        started = time.monotonic()
        corpus = f"csv={corpora / 'emodb' / 'labels.csv'}"
        stages = [source(work, "train", "--corpus", corpus, "--classes", classes, "--out", work / "run")]
        stages += hand_over(work, keys, work / "run", work / "model.ecan")
        stages.append(
            target(work, "adapt", "--bundle", work / "model.ecan", "--audio", audio, "--out", work / "out", expect=None)
        )
        stages.append(target(work, "evaluate", "--model", work / "out", "--labels", labels, "--format", "json"))
        return {
            "pair": "emodb-ravdess",
            "total_s": round(time.monotonic() - started, 1),
            "bundle_bytes": (work / "model.ecan").stat().st_size,
            "stages": {s.name: {"wall_s": round(s.wall_s, 2), "peak_mib": round(s.peak_mib)} for s in stages},
        }


def help_latency() -> dict[str, float]:
    """Median time of ``--help`` and of an empty program, side by side, in seconds."""
    scripts = Path(sysconfig.get_path("scripts"))
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "ecan-source --help": [sys.executable, str(scripts / "ecan-source"), "--help"],
        "ecan-target --help": [sys.executable, str(scripts / "ecan-target"), "--help"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(HELP_RUNS):
        for name, command in commands.items():
            started = time.perf_counter()
            subprocess.run(command, capture_output=True, check=True)
            times[name].append(time.perf_counter() - started)
    return {name: round(sorted(values)[HELP_RUNS // 2], 4) for name, values in times.items()}


def table(result: dict[str, Any]) -> str:
    rows = ["| stage | seconds | peak MiB |", "|---|---:|---:|"]
    rows += [f"| {name} | {s['wall_s']:.1f} | {s['peak_mib']} |" for name, s in result["stages"].items()]
    empty = result["help"]["python -c pass"]
    helps = ", ".join(
        f"`{name}` {1000 * value:.0f} ms ({value / empty:.1f} times an empty program)"
        for name, value in result["help"].items()
        if name != "python -c pass"
    )
    return "\n".join(rows) + (
        f"\n\nEmoDB → RAVDESS, nothing cached: {result['total_s']:.0f} s in all; "
        f"bundle {result['bundle_bytes']} bytes. "
        f"{helps}. Commit {result['commit']}, {result['day']}, {result['machine']}."
    )


if __name__ == "__main__":
    main()
