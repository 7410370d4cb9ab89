"""A receipt says enough to make the same model again, and a replay says what was not the same."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from tests.support import cli

pytestmark = pytest.mark.journey


@pytest.fixture
def model(adapted, tmp_path) -> Path:
    return shutil.copytree(adapted, tmp_path / "model")


def replay(crossing, model: Path, audio: Path) -> cli.Result:
    cache = ("--cache", crossing.work / "cache" / "target")
    return cli.target(
        *("replay", "--model", model, "--bundle", crossing.bundle, "--audio", audio, *cache, "--format", "json")
    )


def test_a_model_is_made_again_byte_for_byte_and_stays_as_it_is(crossing, model):
    before = {path.name: path.read_bytes() for path in model.iterdir() if path.suffix in (".json", ".safetensors")}
    result = replay(crossing, model, crossing.target_labels)
    assert result.code == 0, result.stderr
    assert result.json() == {"different": [], "circumstances": [], "recordings": []}
    assert {name: (model / name).read_bytes() for name in before} == before
    assert not list(model.glob(".replay*"))


def test_a_replay_says_what_was_not_the_same(crossing, model, tmp_path):
    facts = json.loads((model / "adapted.json").read_text())
    facts["provenance"]["versions"]["torch"] = "0.1"
    facts["provenance"]["threads"] = 7
    (model / "adapted.json").write_text(json.dumps(facts))
    with crossing.target_labels.open(newline="") as file:
        rows = list(csv.DictReader(file))
    fewer = tmp_path / "fewer.csv"
    with fewer.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(row | {"file": crossing.target_labels.parent / row["file"]} for row in rows[1:])
    result = replay(crossing, model, fewer)
    assert result.code == 11
    said = result.refusal()
    assert "weights.safetensors" in said
    assert "torch was 0.1" in said
    assert "it had 7 threads" in said
    assert "1 utterances are gone and 0 are new" in said
    assert ".wav" not in said
    assert result.json()["recordings"] == [str(crossing.target_labels.parent / rows[0]["file"])]
    assert "[REPRO]" in said
    assert json.loads((model / "audit.jsonl").read_text().splitlines()[-1])["event"] == "replay"


def test_another_bundle_is_refused(crossing, model):
    facts = json.loads((model / "adapted.json").read_text())
    facts["provenance"]["bundle_sha256"] = "0" * 64
    (model / "adapted.json").write_text(json.dumps(facts))
    result = replay(crossing, model, crossing.target_labels)
    assert result.code == 2
    assert "not adapted from" in result.refusal()
