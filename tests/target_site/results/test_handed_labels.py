from dataclasses import asdict
from pathlib import Path

import pytest

from ecan_core.data.forgotten import Forgotten
from ecan_core.errors import UsageError
from ecan_core.utterance import Utterance
from target_site.results.handed_labels import LEARNED, given_to, handed, learned_labels

CLASSES = ("anger", "neutral")
CALL = [
    Utterance(id=f"{number}", path=Path("/calls/a.wav"), channel=1, speaker="ann", start_s=number, end_s=number + 0.5)
    for number in range(6)
]
OTHER = Utterance(id="b", path=Path("/calls/b.wav"), speaker="bob")


def test_a_label_finds_its_utterance_by_recording_channel_and_beginning():
    labels = [handed(CALL[4], "neutral"), handed(OTHER, "anger")]
    given = given_to([*CALL, OTHER], labels, CLASSES)
    assert given is not None
    assert (given.rows.tolist(), given.classes.tolist()) == ([4, 6], [1, 0])


def test_a_path_may_be_written_in_another_way():
    other_way = Utterance(id="c", path=Path("/calls/../calls/b.wav"))
    given = given_to([OTHER], [handed(other_way, "anger")], CLASSES)
    assert given is not None
    assert given.rows.tolist() == [0]


def test_labels_of_other_recordings_are_refused_and_no_labels_are_none():
    with pytest.raises(UsageError, match="no label is of an utterance among these recordings"):
        given_to(CALL, [handed(OTHER, "anger")], CLASSES)
    assert given_to(CALL, [], CLASSES) is None


def test_a_model_keeps_what_it_learned_from_but_for_the_forgotten():
    labels = (handed(CALL[0], "anger"), handed(OTHER, "neutral"))
    provenance = {LEARNED: [asdict(label) for label in labels]}
    assert learned_labels(provenance) == labels
    nobody = Forgotten.begin()
    assert learned_labels(provenance, nobody.named(["ann"], [])) == labels[1:]
    assert learned_labels(provenance, nobody.named([], [Path("/calls/b.wav")])) == labels[:1]
    assert learned_labels({}) == ()
