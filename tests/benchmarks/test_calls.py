from dataclasses import replace

import numpy as np
import pytest

from benchmarks import calls
from benchmarks.arena import LabeledSpeech, Outcome
from benchmarks.calls import UNKNOWN, CallJob, conditions, true_classes, words_and_truth

CLASSES = ("anger", "neutral")


@pytest.fixture
def job():
    labels = ("anger", "neutral", "boredom") * 40
    every = LabeledSpeech(
        name="b", features=tuple(np.full(2, row) for row in range(120)), speakers=("x",) * 120, labels=labels
    )
    known = every.restrict(CLASSES)
    return CallJob(
        source=replace(known, name="a"),
        target=known,
        classes=CLASSES,
        normalization="corpus",
        seed=0,
        called=replace(every, features=tuple(row + 1000 for row in every.features)),
    )


def test_each_condition_has_what_the_one_before_had(job):
    found = dict(conditions(job))
    assert list(found) == ["as it is", "over the line", "and most of it neutral", "and other moods"]
    assert [min(row[0] for row in target.features) >= 1000 for target in found.values()] == [False, True, True, True]
    uneven, open_set = found["and most of it neutral"], found["and other moods"]
    assert (uneven.labels.count("neutral"), uneven.labels.count("anger")) == (40, 4)
    assert open_set.labels[:44] == uneven.labels
    assert open_set.labels[44:] == ("boredom",) * 11


def test_a_corpus_without_other_moods_has_no_such_condition(job):
    closed = replace(job, called=job.called.restrict(CLASSES))
    assert [name for name, _ in conditions(closed)] == ["as it is", "over the line", "and most of it neutral"]


def outcome(source, adapted):
    return Outcome(source, adapted, (adapted, adapted), [], 0.0)


def test_an_answer_to_another_mood_is_wrong_and_does_not_count_as_recall(job):
    true = true_classes(job.called.take(range(3)), CLASSES)
    assert true.tolist() == [0, 1, UNKNOWN]
    sure = np.array([[0.99, 0.01], [0.01, 0.99], [0.99, 0.01]])
    told = words_and_truth(outcome(sure, sure), true, (0.0, 1.0))
    assert (told["uar_source"], told["uar"], told["gain"]) == (1.0, 1.0, 0.0)
    assert told["right"] == pytest.approx(2 / 3)


def test_the_table_counts_how_often_an_improvement_was_one():
    line = {"pair": "a-b", "normalization": "corpus", "seed": 0, "method": "product", "condition": "as it is"}
    line |= {"uar_source": 0.5, "uar": 0.6, "gain": 0.1, "gain_estimated": 0.04, "verdict": "improved", "off": 0.08}
    line |= {"answered": 0.5, "right": 0.6, "right_of_answered": None, "commit": "a", "day": "b", "machine": "c"}
    lines = [line, line | {"uar": 0.45, "gain": -0.05, "right_of_answered": 0.7}]
    assert "| as it is | 50.0 | 52.5 | +2.5 | +4.0 | 7.5 | 2 of 2 | 1 of 2 | 8.0 | 50.0 | 60.0 | 70.0 |" in (
        calls.table(lines)
    )
