"""Real speech, where the corpora lie beside the project: the product is of some use, and repeats itself."""

from pathlib import Path

import pytest

from tests.support import cli

CORPORA = Path(__file__).resolve().parents[3] / "shared" / "corpora"
pytestmark = [
    pytest.mark.corpus,
    pytest.mark.skipif(not CORPORA.is_dir(), reason="the real corpora are not beside the project (../shared/corpora)"),
]
CLASSES = "anger,fear,happiness,neutral,sadness"


def test_a_model_of_german_speech_adapts_to_english_speech(tmp_path):
    """EmoDB to RAVDESS by the product's defaults; chance is 20 %. Labels are opened by the last command alone."""
    keys = cli.source("keys", "init", "--out", tmp_path / "source-keys")
    trained = cli.source(
        *("train", "--corpus", f"emodb={CORPORA / 'emodb'}", "--classes", CLASSES, "--out", tmp_path / "run")
    )
    assert "left out" in trained.stderr
    assert trained.code == 0, trained.stderr
    cli.target("request", "--keys", tmp_path / "keys", "--out", tmp_path / "site.request")
    cli.source(
        *("export", "--model", tmp_path / "run", "--keys", tmp_path / "source-keys"),
        *("--request", tmp_path / "site.request", "--file", tmp_path / "carried.ecan"),
    )
    received = cli.target(
        *("receive", "--keys", tmp_path / "keys", "--from", tmp_path / "carried.ecan"),
        *("--trust", keys.stdout.strip(), "--out", tmp_path / "model.ecan"),
    )
    assert received.code == 0, received.stderr
    assert cli.approve(tmp_path / "model.ecan", tmp_path / "keys").code == 0
    assert (tmp_path / "model.ecan").stat().st_size < 300_000

    listing, labels = tmp_path / "audio.csv", tmp_path / "labels.csv"
    rows = (CORPORA / "ravdess" / "labels.csv").read_text().splitlines()[1:]
    chosen = [row.split(",") for row in rows if row.split(",")[1] in CLASSES.split(",")][::2]
    listing.write_text("file,speaker\n" + "".join(f"{CORPORA / 'ravdess' / r[0]},{r[2]}\n" for r in chosen))
    labels.write_text("file,label,speaker\n" + "".join(f"{CORPORA / 'ravdess' / r[0]},{r[1]},{r[2]}\n" for r in chosen))
    adapted = cli.target(
        "adapt", "--bundle", tmp_path / "model.ecan", "--audio", listing, "--out", tmp_path / "adapted"
    )
    assert adapted.code in (0, 14), adapted.stderr
    figures = cli.target(
        *("evaluate", "--model", tmp_path / "adapted", "--labels", labels),
        *("--cache", tmp_path / "adapted" / "features.cache", "--format", "json"),
    ).json()
    assert figures["n"] == len(chosen)
    assert figures["before"]["uar"] > 0.45
    assert figures["uar"] > 0.45
