import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ecan_core.data.features import FeatureTable
from ecan_core.utterance import Utterance
from target_site.results.segments import as_csv, as_jsonl, as_rttm, segments_of, write_segments

CLASSES = ("anger", "neutral", "sadness")
STRANGE = 'calls/two words\u00e9 \udcff,"quoted".wav'
UTTERANCES = (
    Utterance(id="a", path=Path("calls/a.wav"), speaker="ward 7", channel=1, start_s=2.5, end_s=4.0),
    Utterance(id="b", path=Path(STRANGE)),
)
UNSURE = np.array([False, True])
SCORES = np.array([[0.7, 0.2, 0.1], [0.15, 0.25, 0.6]], dtype=np.float32)


@pytest.fixture
def segments():
    table = FeatureTable(
        utterances=UTTERANCES, features=(np.zeros(1), np.zeros(1)), durations_s=(1.5, 3.25), refusals=()
    )
    return list(segments_of(table, SCORES, UNSURE, CLASSES))


def test_a_segment_lies_where_it_was_heard(segments):
    assert [(one.recording, one.channel, one.begin_ms, one.end_ms) for one in segments] == [
        ("calls/a.wav", 1, 2500, 4000),
        (STRANGE, None, 0, 3250),
    ]
    assert [(one.label, one.confidence, one.speaker) for one in segments] == [
        ("anger", 0.7, "ward 7"),
        ("sadness", 0.6, None),
    ]


def test_csv_is_read_back_as_it_was_written(segments):
    rows = list(csv.DictReader(io.StringIO(as_csv(segments, CLASSES))))
    assert [row["recording"] for row in rows] == ["calls/a.wav", STRANGE]
    assert [row["channel"] for row in rows] == ["1", ""]
    assert [float(rows[0][f"score_{name}"]) for name in CLASSES] == pytest.approx([0.7, 0.2, 0.1])


def test_json_lines_hold_every_field(segments):
    lines = [json.loads(line) for line in as_jsonl(segments).splitlines()]
    assert lines == [vars(one) for one in segments]


def test_rttm_has_ten_fields_whatever_the_file_is_called(segments):
    first, second = (line.split(" ") for line in as_rttm(segments).splitlines())
    assert first == ["SPEAKER", "calls/a.wav", "2", "2.500", "1.500", "<NA>", "<NA>", "anger", "0.7000", "<NA>"]
    assert second[1:5] == ["calls/two%20words%C3%A9%20%FF%2C%22quoted%22.wav", "1", "0.000", "3.250"]
    assert len(second) == 10


def test_where_the_model_abstains_every_form_says_so(segments):
    assert [one.abstained for one in segments] == [False, True]
    assert [row["abstained"] for row in csv.DictReader(io.StringIO(as_csv(segments, CLASSES)))] == ["no", "yes"]
    assert [line.split(" ")[7] for line in as_rttm(segments).splitlines()] == ["anger", "uncertain"]


def test_a_name_that_is_not_text_keeps_its_bytes_on_the_disk(segments, tmp_path):
    write_segments(tmp_path, segments, CLASSES)
    assert b"\xff" in (tmp_path / "segments.csv").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"segments.csv", "segments.jsonl", "segments.rttm"}


def test_a_name_that_is_a_formula_is_shown_as_text_in_a_spreadsheet(segments):
    formula = "=cmd|' C calc'!A0.wav"
    (row,) = csv.DictReader(io.StringIO(as_csv([replace(segments[0], recording=formula, speaker="@SUM(A1)")], CLASSES)))
    assert (row["recording"], row["speaker"]) == (f"'{formula}", "'@SUM(A1)")
