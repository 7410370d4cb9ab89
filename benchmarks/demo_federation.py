"""`make demo-federation`: a coordinator and three source sites on this machine, to a signed and sealed bundle.

Every site has a node of its own with a key of its own; they reach the coordinator's SuperLink over TLS on loopback.
With ``--corpora`` the sites have one real corpus each, else synthetic ones.
"""

import argparse
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

PROGRAMS = Path(sys.executable).parent
REAL = ("emodb", "ravdess", "nemo")
SYNTHETIC = ("harbor", "valley", "harbor")


def main() -> None:
    arguments = parse()
    work, began = arguments.out.resolve(), time.monotonic()
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    corpora = [arguments.corpora / name / "labels.csv" for name in REAL] if arguments.corpora else []
    if not corpora or not all(path.is_file() for path in corpora):
        say("three synthetic corpora (no real speech)")
        corpora = [synthesize(work / f"corpus{number}", name, number) for number, name in enumerate(SYNTHETIC)]
    (work / "plan.yaml").write_text(f"rounds: {arguments.rounds}\n")
    bundle = federate(work, corpora, secure=arguments.secure, epsilon=arguments.private)
    say(f"{bundle} is signed by one key and sealed to one site, after {time.monotonic() - began:.0f} s")


def federate(work: Path, corpora: Sequence[Path], *, secure: bool, epsilon: float | None) -> Path:
    """Train at all sites and export what comes of it."""
    address = f"127.0.0.1:{free_port()}"
    source("federate", "keys", "--host", "127.0.0.1", "--out", work / "coordinator", "--quiet")
    joins = [join_words(work, address, number, corpora) for number in range(len(corpora))]
    for join in joins:
        source(*join, "--quiet")  # without a key, it makes one and needs no other site's
    insisting = [*(["--secure"] if secure else []), *(["--max-epsilon", epsilon] if epsilon else [])]
    joining = [[*words, *peers(work, number, len(corpora)), *insisting] for number, words in enumerate(joins)]
    nodes = [word for number in range(len(corpora)) for word in ("--node", work / f"site{number}" / "node.pub")]
    asking = [*(["--secure"] if secure else []), *(["--private", epsilon] if epsilon else [])]
    plan = ("--config", work / "plan.yaml", *asking)
    words = ("--keys", work / "coordinator", "--listen", address, *nodes, *plan, "--out", work / "run")
    with ExitStack() as processes:
        coordinator = processes.enter_context(started(None, "federate", "serve", *words))
        wait_for(work / "run.flower" / "superlink.log", coordinator)
        for number, labels in enumerate(corpora):
            log = work / f"site{number}.log"
            processes.enter_context(started(log, *joining[number]))
            say(f"site {number} has {labels.parent.name} and joins {address}; its log is {log}")
        if coordinator.wait():
            sys.exit(1)
    source("keys", "init", "--out", work / "keys")
    run("ecan-target", "request", "--keys", work / "target", "--out", work / "site.request")
    bundle = work / "model.sealed"
    source(
        *("export", "--model", work / "run", "--keys", work / "keys", "--request", work / "site.request"),
        *("--file", bundle),
    )
    return bundle


def join_words(work: Path, address: str, number: int, corpora: Sequence[Path]) -> list[object]:
    """The command by which a site joins."""
    own, ca = work / f"site{number}", work / "coordinator" / "ca.crt"
    words = ["federate", "join", "--to", address, "--ca", ca, "--site", f"csv={corpora[number]}"]
    return [*words, "--key", own / "node.key", "--home", own / "home"]


def peers(work: Path, number: int, count: int) -> list[object]:
    """The other sites' node keys, which their operators have given to this one's."""
    others = [work / f"site{other}" / "node.pub" for other in range(count) if other != number]
    return [word for node in others for word in ("--peer", node)]


def source(*words: object) -> None:
    run("ecan-source", *words)


def run(program: str, *words: object) -> None:
    if subprocess.run([PROGRAMS / program, *map(str, words)], check=False).returncode:
        sys.exit(1)


@contextmanager
def started(log: Path | None, *words: object) -> Iterator[subprocess.Popen[bytes]]:
    """A command as long as the block lasts; without a log it speaks to whoever runs the demo."""
    with nullcontext() if log is None else log.open("wb") as stream:
        process = subprocess.Popen([PROGRAMS / "ecan-source", *map(str, words)], stdout=stream, stderr=stream)
        try:
            yield process
        finally:
            process.terminate()
            process.wait()


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until a process has written a file."""
    while not path.exists():
        if process.poll() is not None:
            sys.exit(1)
        time.sleep(0.5)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def synthesize(folder: Path, name: str, seed: int) -> Path:
    """Make one synthetic corpus; returns its labels.csv."""
    words = ("--name", name, "--out", folder, "--speakers", "4", "--utterances-per-emotion", "3", "--seed", seed)
    subprocess.run([sys.executable, "-m", "benchmarks.synthetic_speech.synthetic", *map(str, words)], check=True)
    return folder / "labels.csv"


def say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpora", type=Path, help="folder with " + ", ".join(REAL))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--secure", action="store_true", help="with masked sums; twice the messages")
    parser.add_argument("--private", type=float, metavar="EPSILON", help="with differential privacy")
    parser.add_argument("--out", type=Path, default=Path("demo-federation-out"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
