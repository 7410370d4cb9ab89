"""Draw a fair sheet for a person to label, and read it again.

The draw is from predictions. ``evaluate --labels`` measures by the sheet, and ``adapt --labels`` learns from most of
it: every fifth label of each class is held back, so that ``evaluate`` has something to measure by.

The predictions are put in order by class and confidence and drawn at equal distances from a random start. So every
class and every degree of confidence has its share, every utterance has the same chance, and the figures of the sheet
need no weights. The sheet does not show what was predicted, and its lines are shuffled.

Source: Cochran, Sampling Techniques, 1977, chapter 8 (systematic sampling).
Differs: nothing.
"""

import csv
import io
import random
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from ecan_core.corpora import read_corpus
from ecan_core.data.cells import guarded
from ecan_core.data.unlabeled import whole_path
from ecan_core.errors import UsageError
from protocol.files import write_atomic
from target_site.results.handed_labels import HandedLabel, handed
from target_site.results.segments import Segment

COLUMNS = ("file", "channel", "start", "end", "speaker", "label")
HELD_BACK = 5
"""One of so many labels of each class is not learned from."""


class FilledSheet(NamedTuple):
    """Hold what a person wrote into a sheet.

    Attributes:
        learned: the labels to learn from.
        num_held_back: how many are kept for ``evaluate``.
        num_other: how many are no class of the model.
    """

    learned: tuple[HandedLabel, ...]
    num_held_back: int
    num_other: int


def read_sheet(path: Path, classes: Sequence[str], relabel: Mapping[str, str] | None = None) -> FilledSheet:
    """Read the labels of a sheet and hold some of them back.

    Which ones follows from the names of the recordings, so that the same are held back each time.

    Args:
        path: the sheet, with a label in every line.
        classes: of the model.
        relabel: what labels count as (`ecan_core.labels.parse_relabel`).

    Raises:
        UsageError: a line has no clear meaning, or no label is left to learn from.
        AudioError: nothing is labelled.
    """
    corpus, others = read_corpus("csv", path, relabel).restrict(classes)
    labels = [handed(item.utterance, item.label) for item in corpus.utterances]
    learned: list[HandedLabel] = []
    for emotion in classes:
        its = sorted((label for label in labels if label.emotion == emotion), key=_by_chance)
        learned += its[len(its) // HELD_BACK :]
    if not learned:
        raise UsageError(f"{path} has no label that this model knows ({', '.join(classes)}); fill in its column label")
    return FilledSheet(tuple(learned), len(labels) - len(learned), sum(others.values()))


def _by_chance(label: HandedLabel) -> str:
    """Return a digest of where the utterance is, to sort by."""
    return sha256(repr(label.place).encode(errors="surrogateescape")).hexdigest()


def draw(segments: Sequence[Segment], classes: Sequence[str], count: int, seed: int) -> list[Segment]:
    """Draw utterances, the same ones for the same seed.

    The order of the predictions does not matter.

    Raises:
        UsageError: there are fewer than ``count``, or a model with other classes predicted them.
    """
    if any(tuple(one.scores) != tuple(classes) for one in segments):
        raise UsageError("the predictions are of a model with other classes; predict with this --model first")
    if count > len(segments):
        raise UsageError(f"only {len(segments)} utterances were predicted; give a --count of at most that")
    chance = random.Random(seed)
    in_order = sorted(segments, key=lambda one: (one.label, one.confidence, one.recording, one.begin_ms, str(one)))
    start, distance = chance.random(), len(in_order) / count
    drawn = [in_order[int((start + index) * distance)] for index in range(count)]
    chance.shuffle(drawn)
    return drawn


def write_sheet(path: Path, segments: Sequence[Segment]) -> None:
    """Write a list with an empty column ``label``.

    Raises:
        UsageError: there is a file already, in which somebody may have labelled.
        FileError: it cannot be written.
    """
    if path.exists():
        raise UsageError(f"{path} is there already, perhaps with labels; name a new file")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in segments:
        channel = "" if one.channel is None else one.channel
        times = (f"{one.begin_ms / 1000:.3f}", f"{one.end_ms / 1000:.3f}")
        recording = guarded(str(whole_path(Path(one.recording))))
        writer.writerow([recording, channel, *times, guarded(one.speaker or ""), ""])
    write_atomic(path, text.getvalue().encode(errors="surrogateescape"))
