"""Draw a fair sheet for a person to label.

The draw is from predictions, and ``evaluate --labels`` reads the sheet.

The predictions are put in order by class and confidence and drawn at equal distances from a random start. So every
class and every degree of confidence has its share, every utterance has the same chance, and the figures of the sheet
need no weights. The sheet does not show what was predicted, and its lines are shuffled.

Source: Cochran, Sampling Techniques, 1977, chapter 8 (systematic sampling).
Differs: nothing.
"""

import csv
import io
import random
from collections.abc import Sequence
from pathlib import Path

from ecan_core.data.cells import guarded
from ecan_core.data.unlabeled import whole_path
from ecan_core.errors import UsageError
from protocol.files import write_atomic
from target_site.results.segments import Segment

COLUMNS = ("file", "channel", "start", "end", "speaker", "label")


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
