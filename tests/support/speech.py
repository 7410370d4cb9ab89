"""Small synthetic corpora on disk."""

import subprocess
import sys
from pathlib import Path


def synthesize(folder: Path, name: str, *, speakers: int = 4, utterances: int = 3, seed: int = 0) -> Path:
    """Write a synthetic corpus; returns its labels.csv."""
    subprocess.run(
        [
            *(sys.executable, "-m", "ecan_core.corpora.synthetic", "--name", name, "--out", str(folder)),
            *("--speakers", str(speakers), "--utterances-per-emotion", str(utterances), "--seed", str(seed)),
        ],
        check=True,
        capture_output=True,
    )
    return folder / "labels.csv"
