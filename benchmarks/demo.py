"""`make demo`: both sites on this machine, from labelled speech to a report, over mutual TLS on loopback.

Without corpora it makes two *synthetic* ones, which differ in voices, pitch, formants, channel and noise. With
``--source RECIPE=PATH --target labels.csv`` it uses real ones. The target's labels are opened by the last command
alone, to measure.
"""

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.crossing import Stage, StageFailedError, hand_over, make_keys, predicted_day, source, target
from protocol.encoders.store import default_folder, listed

ROOT = Path(__file__).resolve().parents[1]
FETCH_S = 300
"""How long pip may take for 150 MB."""


def main() -> None:
    arguments = parse()
    console = Console(stderr=True, highlight=False)
    started = time.monotonic()
    work = arguments.out.resolve()
    if work.exists():
        shutil.rmtree(work)
    work.mkdir(parents=True)
    try:
        run(work, arguments, console)
    except StageFailedError as failure:
        console.print(f"[red]the demo stopped:[/] {failure}")
        sys.exit(1)
    console.print(f"done in {time.monotonic() - started:.0f} s")


def run(work: Path, arguments: argparse.Namespace, console: Console) -> None:
    corpus, labels = arguments.source, arguments.target
    if corpus is None or labels is None:
        console.rule("two synthetic corpora (no real speech)")
        corpus, labels = f"csv={synthesize(work, 'harbor')}", synthesize(work, "valley")
    bundle, adapted = work / "model.ecan", work / "adapted"

    if arguments.fetch_encoders:
        console.rule("public encoders, for both sites")
        console.print(fetch_encoders())
    console.rule("source site: train, then export once")
    keys = make_keys(work)
    console.print(f"source fingerprint {keys.fingerprint}")
    classes = ("--classes", arguments.classes) if arguments.classes else ()
    stages = [
        source(work, "train", "--corpus", corpus, "--normalize", arguments.normalize, *classes, "--out", work / "run")
    ]
    tell(console, stages[0])

    console.rule("target site: receive and verify, over gRPC with mutual TLS")
    stages += hand_over(work, keys, work / "run", bundle)
    for stage in stages[1:]:
        tell(console, stage)
    refused = source(
        work,
        *("export", "--model", work / "run", "--keys", keys.source),
        *("--request", bundle.with_suffix(".request"), "--listen", "127.0.0.1:0"),
        expect=11,
    )
    console.print(f"a second export of the same grant is refused (exit {refused.code}): {refused.stderr.strip()}")

    console.rule("target site: adapt, predict, evaluate; the network is not used")
    stages.append(target(work, "adapt", "--bundle", bundle, "--audio", labels, "--out", adapted, expect=None))
    tell(console, stages[-1])
    if stages[-1].code not in (0, 14):
        raise StageFailedError(stages[-1].stderr)
    stages.append(target(work, "predict", "--model", adapted, "--audio", labels, "--out", work / "predictions"))
    stages.append(target(work, "evaluate", "--model", adapted, "--labels", labels, "--format", "json"))
    console.print(results(stages[-1]))
    console.print(timings(stages))
    for name, path in (
        ("bundle", bundle),
        ("report", adapted / "report.html"),
        ("predictions", predicted_day(work / "predictions") / "day.html"),
    ):
        console.print(f"{name:<12} {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run both sites on this machine.")
    parser.add_argument("--source", metavar="RECIPE=PATH", help="labelled corpus of the source site")
    parser.add_argument("--target", metavar="LABELS.CSV", help="target site's recordings; labels only to measure")
    parser.add_argument("--classes", metavar="A,B,C")
    parser.add_argument("--normalize", default="speaker", choices=["none", "corpus", "speaker"])
    parser.add_argument("--fetch-encoders", action="store_true", help="have pip fetch the public encoders first")
    parser.add_argument("--out", type=Path, default=Path("demo-out"))
    return parser.parse_args()


def fetch_encoders() -> str:
    """Have pip fetch what is not here; whatever becomes of it, the demo goes on, and this says how."""
    missing = [row.encoder.id for row in listed(default_folder()) if row.state != "here"]
    if not missing:
        return "they are here"
    command = [sys.executable, "-c", "from source_site.cli import main; main()", "encoder", "fetch", *missing]
    try:
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=FETCH_S, check=False)
    except subprocess.TimeoutExpired:
        return f"they did not come in {FETCH_S} s: the model reads stats-v1, which recognizes less"
    return run.stderr.strip() + ("" if run.returncode == 0 else "\nWithout them the model reads stats-v1.")


def synthesize(work: Path, name: str) -> Path:
    """Make one synthetic corpus; returns its labels.csv."""
    folder = work / name
    subprocess.run(
        [sys.executable, "-m", "benchmarks.synthetic_speech.synthetic", "--name", name, "--out", str(folder)],
        check=True,
        cwd=ROOT,
    )
    return folder / "labels.csv"


def tell(console: Console, stage: Stage) -> None:
    for line in stage.stderr.strip().splitlines():
        console.print(f"  [dim]{stage.name}:[/] {line}", soft_wrap=True)


def results(evaluated: Stage) -> Table:
    figures = evaluated.json()
    table = Table(title=f"UAR on {figures['n']} target utterances, {len(figures['classes'])} classes")
    for column in ("model", "UAR", "95 % interval"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for name, row in (("as received", figures["before"]), ("adapted", figures)):
        low, high = row["uar_interval"]
        table.add_row(name, f"{100 * row['uar']:.1f} %", f"{100 * low:.1f} - {100 * high:.1f}")
    return table


def timings(stages: list[Stage]) -> Table:
    table = Table(title="stages")
    for column in ("command", "seconds", "peak MiB"):
        table.add_column(column, justify="left" if column == "command" else "right")
    for stage in stages:
        table.add_row(stage.name, f"{stage.wall_s:.1f}", f"{stage.peak_mib:.0f}")
    return table


if __name__ == "__main__":
    main()
