"""Hold the labels that an operator hands to an adaptation.

An adaptation finds no label by itself: it is told these, and only these.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ecan_core.adaptation.given import GivenLabels
from ecan_core.data.forgotten import NOBODY, Forgotten
from ecan_core.data.unlabeled import whole_path
from ecan_core.errors import UsageError
from ecan_core.settings.parse import parse_settings
from ecan_core.utterance import Utterance

Place = tuple[str, int | None, int]
"""Recording, channel, and where the utterance begins in milliseconds."""
LEARNED = "learned_labels"
"""Where the provenance of a model keeps the labels that it learned from."""


@dataclass(frozen=True, kw_only=True)
class HandedLabel:
    """Name the emotion of one utterance.

    Attributes:
        recording: the file, from the root on.
        channel: counted from 0; None where the loudest one was taken.
        begin_ms: start within the file, in milliseconds.
        speaker: who speaks, None where unknown.
        emotion: a class of the model.
    """

    recording: str
    channel: int | None
    begin_ms: int
    speaker: str | None
    emotion: str

    @property
    def place(self) -> Place:
        """Return where the utterance is."""
        return self.recording, self.channel, self.begin_ms


def place_of(utterance: Utterance) -> Place:
    """Return where an utterance is."""
    return whole_path(utterance.path), utterance.channel, round(1000 * (utterance.start_s or 0.0))


def handed(utterance: Utterance, emotion: str) -> HandedLabel:
    """Return the label of an utterance that a list names."""
    recording, channel, begin_ms = place_of(utterance)
    return HandedLabel(
        recording=recording, channel=channel, begin_ms=begin_ms, speaker=utterance.speaker, emotion=emotion
    )


def given_to(
    utterances: Sequence[Utterance], labels: Iterable[HandedLabel], classes: Sequence[str]
) -> GivenLabels | None:
    """Find the utterances that labels are for.

    Args:
        utterances: the target corpus, N.
        labels: of some of them.
        classes: of the model.

    Returns:
        Rows of the corpus with their classes; None if nothing was handed.

    Raises:
        UsageError: there are labels, and none of them is of an utterance of the corpus.
    """
    emotion_of = {label.place: label.emotion for label in labels}
    if not emotion_of:
        return None
    rows = [row for row, utterance in enumerate(utterances) if place_of(utterance) in emotion_of]
    if not rows:
        raise UsageError(
            "no label is of an utterance among these recordings; give --audio the recordings that were predicted "
            "before the sheet was drawn"
        )
    found = [classes.index(emotion_of[place_of(utterances[row])]) for row in rows]
    return GivenLabels(rows=np.array(rows), classes=np.array(found))


def learned_labels(provenance: Mapping[str, Any], left_out: Forgotten = NOBODY) -> tuple[HandedLabel, ...]:
    """Return the labels that a model learned from.

    Args:
        provenance: of the model.
        left_out: whose utterances do not count.
    """
    kept = provenance.get(LEARNED, [])
    labels = (parse_settings(HandedLabel, label, "the provenance") for label in kept)
    return tuple(label for label in labels if not left_out.covers(Path(label.recording), label.speaker))
