"""From predictions to a sheet, to labels, to figures."""

import csv
import json

import pytest

from tests.support import cli

pytestmark = pytest.mark.journey


def test_a_sheet_that_a_person_filled_in_is_measured(crossing, adapted, tmp_path):
    cache = ("--cache", crossing.work / "cache" / "target")
    predicting = ("predict", "--model", adapted, "--audio", crossing.target_labels, "--out", tmp_path / "out")
    assert cli.target(*predicting, *cache).code == 0
    sheet = tmp_path / "sheet.csv"
    drawing = ("sheet", "--model", adapted, "--predictions", tmp_path / "out", "--out", sheet, "--count", 20)
    assert cli.target(*drawing).code == 0
    evaluating = ("evaluate", "--model", adapted, "--labels", sheet, *cache, "--format")

    with crossing.target_labels.open(newline="") as file:
        labels = {str(crossing.target_labels.parent / row["file"]): row["label"] for row in csv.DictReader(file)}
    with sheet.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows[:-1]:
        row["label"] = labels[row["file"]]
    write(sheet, rows)
    refused = cli.target(*evaluating, "json")
    assert refused.code == 2
    assert "line 21 has no label" in refused.refusal()

    rows[-1]["label"] = labels[rows[-1]["file"]]
    write(sheet, rows)
    result = cli.target(*evaluating, "json")
    assert result.code == 0, result.stderr
    figures = result.json()
    assert figures["n"] == 20
    low, high = figures["uar_interval"]
    assert low <= figures["uar"] <= high
    assert figures["risk"]["1"] == pytest.approx(1 - figures["war"])
    text = cli.target(*evaluating, "text").stdout
    assert "errors among the most confident" in text
    assert cli.target("log", "verify", "--folder", adapted).code == 0

    told = tmp_path / "told"
    adapting = ("adapt", "--bundle", crossing.bundle, "--audio", crossing.target_labels, *cache)
    result = cli.target(*adapting, "--labels", sheet, "--out", told)
    assert result.code == 0, result.stderr
    assert "labels to learn from" in result.stderr
    learned = json.loads((told / "adapted.json").read_text())["provenance"]["learned_labels"]
    figures = cli.target("evaluate", "--model", told, "--labels", sheet, *cache, "--format", "json").json()
    assert figures["n"] == 20 - len(learned) > 0
    again = ("replay", "--model", told, "--bundle", crossing.bundle, "--audio", crossing.target_labels, *cache)
    assert cli.target(*again).code == 0
    refused = cli.target(*adapting, "--method", "none", "--labels", sheet, "--out", tmp_path / "none")
    assert refused.code == 2
    assert "learns from no labels" in refused.refusal()


def test_a_sheet_that_a_german_spreadsheet_saved_with_german_labels_gives_the_same_figures(crossing, adapted, tmp_path):
    cache = ("--cache", crossing.work / "cache" / "target", "--format", "json")
    words = {"anger": "Ärger", "fear": "Angst", "happiness": "Freude", "neutral": "sachlich", "sadness": "TRAUER"}
    with crossing.target_labels.open(newline="") as file:
        rows = [row | {"file": str(crossing.target_labels.parent / row["file"])} for row in csv.DictReader(file)][::3]
    write(tmp_path / "plain.csv", [row | {"start": "0.1", "end": "0.75"} for row in rows])
    german = [row | {"start": "0,1", "end": "0,75", "label": words[row["label"]]} for row in rows]
    write(tmp_path / "german.csv", german, delimiter=";")
    plain = cli.target("evaluate", "--model", adapted, "--labels", tmp_path / "plain.csv", *cache)
    assert "not read" not in plain.stderr  # `evaluate` reads the column that `adapt` and `predict` leave alone
    assert plain.code == 0, plain.stderr
    evaluating = ("evaluate", "--model", adapted, "--labels", tmp_path / "german.csv", *cache)
    refused = cli.target(*evaluating)
    assert refused.code == 2
    assert "'sachlich'" in refused.refusal()
    told = cli.target(*evaluating, "--relabel", "sachlich=neutral").json()
    assert told == plain.json() | {"containment": told["containment"], "relabel": {"sachlich": "neutral"}}


def write(sheet, rows, **form) -> None:
    with sheet.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], **form)
        writer.writeheader()
        writer.writerows(rows)
