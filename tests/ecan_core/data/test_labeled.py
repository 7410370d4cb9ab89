from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

from ecan_core.data.labeled import Corpus, LabeledUtterance
from ecan_core.utterance import Utterance


def corpus_of(*labels: str) -> Corpus:
    return Corpus(
        name="toy",
        utterances=tuple(
            LabeledUtterance(utterance=Utterance(id=str(i), path=Path(f"{i}.wav")), label=label)
            for i, label in enumerate(labels)
        ),
        left_out={"second copy of a recording": 2},
    )


def test_an_utterance_without_label_has_no_place_for_one() -> None:
    (utterance,) = corpus_of("anger").without_labels()
    assert "label" not in {field.name for field in fields(utterance)}
    assert "anger" not in repr(utterance)


def test_the_labels_of_a_corpus_come_in_the_one_order() -> None:
    assert corpus_of("sadness", "anger", "sadness").labels == ("anger", "sadness")


def test_restricting_keeps_the_order_and_counts_the_others() -> None:
    corpus, left_out = corpus_of("fear", "anger", "calm", "fear", "calm").restrict(["anger", "fear"])
    assert [labeled.utterance.id for labeled in corpus.utterances] == ["0", "1", "3"]
    assert left_out == {"calm": 2}
    assert (corpus.name, corpus.left_out) == ("toy", {"second copy of a recording": 2})


def test_restricting_to_every_label_leaves_nothing_out() -> None:
    corpus = corpus_of("fear", "anger")
    assert corpus.restrict(["anger", "fear", "surprise"]) == (corpus, {})


def test_a_corpus_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        corpus_of("fear").name = "other"  # type: ignore[misc]
