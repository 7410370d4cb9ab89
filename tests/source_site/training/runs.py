"""A trained run for tests: random weights of the real shapes, in no time."""

from pathlib import Path

from source_site.training.run_folder import RunFacts, save_run
from tests.protocol.samples import random_model

FACTS = RunFacts(
    arch="mlp-stats-v1",
    frontend="stats-v1",
    normalization="speaker",
    classes=("anger", "happiness", "neutral", "sadness"),
    num_utterances=400,
    num_speakers=10,
    hours=0.4,
    uar_source=0.803,
    uar_float=0.805,
    seed=0,
)


def write_run(folder: Path, *, seed: int = 0, facts: RunFacts = FACTS) -> Path:
    folder.mkdir()
    save_run(folder, random_model(seed=seed), facts)
    return folder
