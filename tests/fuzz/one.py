"""Fuzz one target: ``python -m tests.fuzz.one TARGET SECONDS``. With atheris guided by coverage, else by chance."""

import importlib.util
import random
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    name, seconds = sys.argv[1], float(sys.argv[2])
    if importlib.util.find_spec("atheris"):
        _guided(name, seconds)
    else:
        _by_chance(name, seconds)


def _guided(name: str, seconds: float) -> None:
    import atheris

    with atheris.instrument_imports(include=["protocol", "tests.vectors.reader"]):
        from tests.fuzz import targets

        seeds = targets.TARGETS[name].seeds()
        for seed in seeds:  # this imports what the target needs, so that it is instrumented too
            assert targets.run(name, seed), f"a seed of {name} is refused"

    folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
    (folder / "seeds").mkdir()
    for index, seed in enumerate(seeds):
        (folder / "seeds" / str(index)).write_bytes(seed)
    longest = max(targets.MAX_BYTES, *(2 * len(seed) for seed in seeds))
    options = [f"-max_total_time={int(seconds)}", f"-max_len={longest}", "-timeout=10", "-rss_limit_mb=1024"]
    options += [f"-artifact_prefix={folder}/", "-print_final_stats=1", "-verbosity=1"]

    def check(data: bytes) -> None:
        targets.run(name, data)

    atheris.Setup([sys.argv[0], *options, str(folder / "seeds")], check)
    atheris.Fuzz()


def _by_chance(name: str, seconds: float) -> None:
    from tests.fuzz import targets

    rng, runs = random.Random(0), 0
    pool = targets.TARGETS[name].seeds()
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        data = bytearray(rng.choice(pool))
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(len(data) + 1)
            data[place : place + rng.randint(0, 4)] = rng.randbytes(rng.randint(0, 4))
        targets.run(name, bytes(data))
        runs += 1
    print(f"Done {runs} runs in {seconds:.0f} second(s)", file=sys.stderr)


if __name__ == "__main__":
    main()
