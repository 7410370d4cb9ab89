import json

import numpy as np
import pytest

from benchmarks import ablation, arena, tasks
from benchmarks.arena import (
    PRODUCT,
    Answers,
    Job,
    LabeledSpeech,
    Outcome,
    classes_of,
    committee_epochs,
    figures,
    find_corpora,
    keep,
)
from benchmarks.classes import CLASSES
from ecan_core.adaptation import site as rounds
from ecan_core.audio.frontend import FRONT_ENDS
from ecan_core.labels import check_classes
from ecan_core.normalization.voices import MIN_GUESSES


def speech(name="here", num=24, classes=("anger", "fear", "sadness"), seed=0):
    rng = np.random.default_rng(seed)
    labels = tuple(classes[row % len(classes)] for row in range(num))
    centers = np.random.default_rng(9).normal(size=(len(classes), FRONT_ENDS["stats-v1"].dim))
    features = [rng.normal(size=centers.shape[1]) + 2.0 * centers[classes.index(label)] for label in labels]
    return LabeledSpeech(
        name=name,
        features=tuple(values.astype(np.float32) for values in features),
        speakers=tuple(f"{name} {row % 4}" for row in range(num)),
        labels=labels,
    )


def job(normalization, num=24, classes=("anger", "fear", "sadness")):
    return Job(
        source=speech("here", classes=classes),
        target=speech("there", num, classes, seed=1),
        classes=classes,
        normalization=normalization,
        seed=0,
        epochs=1,
    )


def test_an_adaptation_is_given_nothing_that_holds_a_label():
    site, answers = speech().split(("anger", "fear", "sadness"))
    assert site._fields == ("features", "speakers", "heard")
    asked = [name for name in dir(answers) if not name.startswith("_")]
    assert asked == ["accuracy", "among", "calibration_error", "of", "uar"]


def test_answers_average_over_the_classes_that_occur():
    answers = Answers(np.array([0, 0, 1]), 3)
    assert answers.uar(np.eye(3)[[0, 2, 1]]) == 0.75


def test_the_oracle_may_choose_the_received_model_and_any_epoch():
    right, wrong = np.eye(2)[[0, 1]], np.eye(2)[[1, 0]]
    answers = Answers(np.array([0, 1]), 2)
    assert figures(Outcome(right, wrong, (wrong,), [wrong], 0.0), answers, None)["uar_oracle"] == 1.0
    assert figures(Outcome(wrong, wrong, (wrong,), [right, wrong], 0.0), answers, None)["uar_oracle"] == 1.0
    assert figures(Outcome(wrong, wrong, (wrong,), [wrong], 0.0), answers, None)["uar_oracle"] == 0.0


def test_what_the_verdict_puts_back_scores_as_it_was_received():
    received = np.eye(2)[[0, 1, 0, 1]]
    collapsed = np.eye(2)[[0, 0, 0, 0]]
    panel = Outcome(received, received, (received, received), [], 0.0)
    row = figures(Outcome(received, collapsed, (collapsed,), [], 0.0), Answers(np.array([0, 1, 0, 1]), 2), panel)
    assert (row["verdict"], row["uar"], row["uar_selected"]) == ("reverted", 0.5, 1.0)


def test_the_panel_is_judged_by_its_members_and_others_by_the_panel():
    source, right = np.eye(2)[[0, 0, 0, 1]], np.eye(2)[[0, 1, 0, 1]]
    panel = Outcome(source, right, (right, right), [], 0.0)
    assert keep(panel, panel).gain == keep(Outcome(source, right, (right,), [], 0.0), panel).gain == 25.0
    assert keep(panel, None).gain == 0.0


def test_a_committee_has_one_score_per_epoch_and_round():
    heard = [np.full((2, 3), 100.0 * round_ + 10.0 * member + epoch) for round_, member, epoch in np.ndindex(2, 3, 4)]
    epochs = committee_epochs(heard, 3, 4)
    assert [scores[0, 0] for scores in epochs] == [10.0, 11.0, 12.0, 13.0, 110.0, 111.0, 112.0, 113.0]
    assert committee_epochs([], 3, 0) == []


def test_stated_class_sets_are_in_order_and_of_known_words():
    for words in CLASSES.values():
        assert tuple(words.split(",")) == check_classes(words.split(","))


def test_other_pairs_take_the_classes_that_they_share():
    assert classes_of(speech(), speech("there", classes=("fear", "neutral", "sadness"))) == ("fear", "sadness")


def test_corpora_are_lists_or_folders_named_after_a_layout(tmp_path):
    for name in ("mine", "emodb", "notes"):
        (tmp_path / name).mkdir()
    (tmp_path / "mine" / "labels.csv").write_text("path,label,speaker\na.wav,anger,x\nb.wav,fear,x\n")
    (tmp_path / "emodb" / "03a01Fa.wav").touch()
    found = find_corpora(tmp_path)
    assert list(found) == ["emodb", "mine"]
    assert [corpus.name for corpus in found.values()] == ["emodb", "mine"]


@pytest.mark.parametrize("normalization", ["speaker", "corpus"])
def test_every_method_is_run_and_no_adaptation_stands_for_voices_too(normalization, monkeypatch):
    find_voices, found = rounds.find_voices, []
    monkeypatch.setattr(rounds, "find_voices", lambda *given, **named: found.append(1) or find_voices(*given, **named))
    lines = tasks.run_job(job(normalization, num=MIN_GUESSES, classes=("anger", "fear")), tasks.ALL_METHODS)
    rows = [line for line in lines if not tasks.is_labelled(line)]
    assert len(lines) - len(rows) == (2 if normalization == "corpus" else 1)
    run = [(row["normalization"], row["method"]) for row in rows]
    expected = {(normalization, method) for method in (*tasks.ALL_METHODS, PRODUCT)}
    if normalization == "corpus":
        expected |= {("voice", method) for method in (*tasks.VOICE_METHODS, "none", PRODUCT)}
    assert sorted(run) == sorted(expected)
    assert len(found) == (len(tasks.VOICE_METHODS) + 2 if normalization == "corpus" else 0)
    json.dumps(rows)


def test_variants_that_are_the_same_settings_are_run_once(monkeypatch):
    seen = []

    def count(*arguments, settings, **others):
        seen.append(settings)
        scores = np.eye(3)[[0] * 24]
        return Outcome(scores, scores, (scores, scores), [], 0.0)

    monkeypatch.setattr(ablation, "adapt_to", count)
    rows = ablation.run_job(job("corpus"))
    assert [row["variant"] for row in rows] == [PRODUCT, *ablation.variants()]
    assert len(seen) == 1 + len(set(seen)) < len(rows)
    assert ablation.table([row | {"commit": "a", "day": "b", "machine": "c"} for row in rows]).count("\n| ") > len(rows)


def test_jobs_write_their_rows_in_order(tmp_path):
    arena.run_jobs(echo, [3, 1, 2], tmp_path / "out.jsonl", 2)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["number"] for row in rows] == [3, 1, 2]
    assert {"commit", "machine"} <= rows[0].keys()


def echo(number):
    return [{"number": number, "pair": "a-b"}]
