"""Real speech, where the corpora lie beside the project: the product is of some use, and repeats itself."""

from pathlib import Path

import pytest

from tests.support import cli
from tests.support.crossing import carry, new_source

CORPORA = Path(__file__).resolve().parents[3] / "shared" / "corpora"
pytestmark = [
    pytest.mark.corpus,
    pytest.mark.skipif(not CORPORA.is_dir(), reason="the real corpora are not beside the project (../shared/corpora)"),
]
CLASSES = "anger,fear,happiness,neutral,sadness"


def test_a_model_of_german_speech_adapts_to_english_speech(tmp_path):
    """EmoDB to RAVDESS by the product's defaults; chance is 20 %. Labels are opened by the last command alone."""
    trust = new_source(tmp_path / "source-keys")
    trained = cli.source(
        *("train", "--corpus", f"emodb={CORPORA / 'emodb'}", "--classes", CLASSES, "--out", tmp_path / "run")
    )
    assert "left out" in trained.stderr
    assert trained.code == 0, trained.stderr
    bundle = carry(tmp_path / "run", tmp_path / "source-keys", tmp_path / "keys", tmp_path, trust=trust).bundle
    assert bundle.stat().st_size < 300_000

    listing, labels = tmp_path / "audio.csv", tmp_path / "labels.csv"
    rows = (CORPORA / "ravdess" / "labels.csv").read_text().splitlines()[1:]
    chosen = [row.split(",") for row in rows if row.split(",")[1] in CLASSES.split(",")][::2]
    listing.write_text("file,speaker\n" + "".join(f"{CORPORA / 'ravdess' / r[0]},{r[2]}\n" for r in chosen))
    labels.write_text("file,label,speaker\n" + "".join(f"{CORPORA / 'ravdess' / r[0]},{r[1]},{r[2]}\n" for r in chosen))
    adapted = cli.target("adapt", "--bundle", bundle, "--audio", listing, "--out", tmp_path / "adapted")
    assert adapted.code in (0, 14), adapted.stderr
    figures = cli.target(
        *("evaluate", "--model", tmp_path / "adapted", "--labels", labels, "--format", "json"),
    ).json()
    assert figures["n"] == len(chosen)
    assert figures["before"]["uar"] > 0.45
    assert figures["uar"] > 0.45
