"""Fuzz all targets or those that are named, FUZZ_SECONDS each (60), two at a time: ``make fuzz``."""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from tests.fuzz.targets import TARGETS

SECONDS = int(os.environ.get("FUZZ_SECONDS", "60"))


def fuzz(name: str) -> bool:
    """Fuzz one target in a process of its own and say what came of it."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.one", name, str(SECONDS)],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=3 * SECONDS + 120,
        check=False,
    )
    runs = re.search(r"Done (\d+) runs", done.stderr)
    coverage = re.findall(r"cov: (\d+)", done.stderr)
    reached = f", {coverage[-1]} places reached" if coverage else ""
    count = f"{int(runs[1]):,} runs" if runs else "no count"
    verdict = "no finding" if done.returncode == 0 else f"FINDING\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    print(f"{name:<26} {count:>16}{reached}: {verdict}", flush=True)
    return done.returncode == 0


def main() -> int:
    names = sys.argv[1:] or list(TARGETS)
    print(f"fuzzing {len(names)} targets for {SECONDS} s each", flush=True)
    with ThreadPoolExecutor(2) as pool:
        clean = list(pool.map(fuzz, names))
    return 0 if all(clean) else 1


if __name__ == "__main__":
    sys.exit(main())
