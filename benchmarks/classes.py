"""Which classes a task has, and a target list of their utterances.

Loads nothing heavy: a process that is started from here inherits little, and its peak memory is its own.
"""

from pathlib import Path

CLASSES = {
    frozenset({"emodb", "nemo"}): "anger,fear,happiness,neutral,sadness",
    frozenset({"emodb", "ravdess"}): "anger,fear,happiness,neutral,sadness",
    frozenset({"ravdess", "nemo"}): "anger,fear,happiness,neutral,sadness,surprise",
    # The paper's twelve tasks, as far as they are known: method section 3.
    frozenset({"emodb", "enterface"}): "anger,disgust,fear,happiness,sadness",
    frozenset({"emodb", "casia"}): "anger,fear,happiness,neutral,sadness",
    frozenset({"enterface", "casia"}): "anger,fear,happiness,sadness,surprise",
    frozenset({"emovo", "emodb"}): "anger,disgust,fear,happiness,neutral,sadness",
    frozenset({"emovo", "enterface"}): "anger,disgust,fear,happiness,sadness,surprise",
    frozenset({"emovo", "casia"}): "anger,fear,happiness,neutral,sadness,surprise",
}
"""Class sets by pair of corpora; any other pair takes the classes that it shares."""


def without_other_classes(listing: Path, labels: Path, classes: list[str]) -> Path:
    """A target list of the utterances whose class the pair shares, **without** their labels.

    The task is closed-set, as in the literature: which utterances take part is part of the task.
    """
    header, *lines = labels.read_text().splitlines()
    columns = header.split(",")
    path, label, speaker = (columns.index(name) for name in ("path", "label", "speaker"))
    rows = ["file,speaker"]
    for fields in (line.split(",") for line in lines):
        if fields[label] in classes:
            rows.append(f"{labels.parent.resolve() / fields[path]},{fields[speaker]}")
    listing.write_text("\n".join(rows) + "\n")
    return listing
