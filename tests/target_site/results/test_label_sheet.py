import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from ecan_core.errors import UsageError
from target_site.results.label_sheet import COLUMNS, HELD_BACK, draw, read_sheet, write_sheet
from target_site.results.segments import Segment

CLASSES = ("anger", "neutral")


def segment(number: int, label: str, confidence: float) -> Segment:
    scores = {name: confidence if name == label else 1 - confidence for name in CLASSES}
    return Segment(
        recording=f"calls/{number}.wav",
        channel=None if number % 2 else 1,
        role=None,
        begin_ms=500,
        end_ms=2250,
        speaker=None if number % 3 else "=cmd",
        label=label,
        confidence=confidence,
        abstained=False,
        scores=scores,
    )


@pytest.fixture
def segments() -> list[Segment]:
    """300 of anger and 100 of neutral, each half sure and half unsure."""
    return [segment(i, CLASSES[i >= 300], 0.6 if i % 2 else 0.9) for i in range(400)]


def test_every_class_and_every_confidence_has_its_share(segments):
    for seed in range(5):
        drawn = draw(segments, CLASSES, 40, seed)
        assert len({one.recording for one in drawn}) == 40
        shares = Counter((one.label, one.confidence) for one in drawn)
        expected = {("anger", 0.6): 15, ("anger", 0.9): 15, ("neutral", 0.6): 5, ("neutral", 0.9): 5}
        assert all(abs(shares[key] - number) <= 1 for key, number in expected.items())


def test_the_seed_alone_decides(segments):
    once = draw(segments, CLASSES, 40, 7)
    assert draw(segments[::-1], CLASSES, 40, 7) == once != draw(segments, CLASSES, 40, 8)


def test_every_utterance_has_the_same_chance(segments):
    few = segments[:7] + segments[300:303]
    times = Counter(one.recording for seed in range(2000) for one in draw(few, CLASSES, 4, seed))
    assert np.abs(np.array([times[one.recording] for one in few]) / 2000 - 0.4).max() < 0.05


def test_all_can_be_drawn_and_no_more(segments):
    assert {one.recording for one in draw(segments, CLASSES, 400, 0)} == {one.recording for one in segments}
    with pytest.raises(UsageError, match="only 400"):
        draw(segments, CLASSES, 401, 0)
    with pytest.raises(UsageError, match="other classes"):
        draw(segments, ("anger", "sadness"), 4, 0)


def test_a_sheet_shows_no_prediction_and_is_never_written_over(segments, tmp_path):
    sheet = tmp_path / "sheet.csv"
    write_sheet(sheet, segments[:4])
    with sheet.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert rows[0] | {"file": ""} == {
        "file": "",
        "channel": "1",
        "start": "0.500",
        "end": "2.250",
        "speaker": "'=cmd",
        "label": "",
    }
    assert Path(rows[1]["file"]).is_absolute()
    assert "anger" not in sheet.read_text()
    sheet.write_text("labelled")
    with pytest.raises(UsageError, match="there already"):
        write_sheet(sheet, segments)
    assert sheet.read_text() == "labelled"


def filled(path: Path, labels: list[str]) -> Path:
    """A sheet with these labels, one recording each."""
    lines = [f"{number}.wav,1,0.500,2.250,,{label}" for number, label in enumerate(labels)]
    path.write_text("\n".join([",".join(COLUMNS), *lines]) + "\n")
    return path


def test_one_label_in_five_of_each_class_is_held_back(tmp_path):
    sheet = filled(tmp_path / "sheet.csv", ["anger"] * 20 + ["neutral"] * 10)
    read = read_sheet(sheet, CLASSES)
    assert Counter(label.emotion for label in read.learned) == {"anger": 16, "neutral": 8}
    assert (read.num_held_back, read.num_other) == (30 // HELD_BACK, 0)
    assert {label.begin_ms for label in read.learned} == {500}
    assert {label.channel for label in read.learned} == {1}


def test_the_same_labels_are_held_back_in_whatever_order_they_stand(tmp_path):
    sheet = filled(tmp_path / "sheet.csv", ["anger", "neutral"] * 10)
    head, *lines = sheet.read_text().splitlines()
    turned = tmp_path / "turned.csv"
    turned.write_text("\n".join([head, *lines[::-1]]))
    assert set(read_sheet(sheet, CLASSES).learned) == set(read_sheet(turned, CLASSES).learned)


def test_labels_of_other_classes_are_counted_and_a_sheet_without_any_other_is_refused(tmp_path):
    read = read_sheet(filled(tmp_path / "sheet.csv", ["anger", "fear"]), CLASSES)
    assert ([label.emotion for label in read.learned], read.num_other) == (["anger"], 1)
    with pytest.raises(UsageError, match="no label that this model knows"):
        read_sheet(filled(tmp_path / "other.csv", ["fear"]), CLASSES)
