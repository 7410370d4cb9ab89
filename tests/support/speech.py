"""Small synthetic corpora on disk."""

from pathlib import Path

from benchmarks.synthetic_speech.synthetic import write_corpus


def synthesize(folder: Path, name: str, *, speakers: int = 4, utterances: int = 3, seed: int = 0) -> Path:
    """Write a synthetic corpus; returns its labels.csv."""
    return write_corpus(name, folder, num_speakers=speakers, num_per_emotion=utterances, seed=seed)
