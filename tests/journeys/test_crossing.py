"""The whole way with real processes: from labelled speech at one site to predictions at another."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.crossing import hand_over, make_keys, source, target
from tests.support import cli
from tests.support.crossing import carry, succeeded
from tests.support.days import day_in
from tests.support.speech import synthesize

pytestmark = pytest.mark.journey

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def served(crossing, tmp_path_factory):
    """A crossing over mutual TLS between two processes; returns its folder."""
    work = tmp_path_factory.mktemp("served")
    keys = make_keys(work)
    hand_over(work, keys, crossing.run, work / "model.ecan")
    return work


def test_a_model_crosses_once_over_mutual_tls(served):
    assert (served / "model.ecan").stat().st_size < 300_000
    listing = json.loads(target(served, "inspect", "--bundle", served / "model.ecan", "--format", "json").stdout)
    assert listing["signature_holds"]
    assert sum(row["bytes"] for row in listing["rows"]) == (served / "model.ecan").stat().st_size


def test_the_same_grant_is_not_served_again(served, crossing):
    again = source(
        served,
        *("export", "--model", crossing.run, "--keys", served / "source-keys"),
        *("--request", served / "model.request", "--listen", "127.0.0.1:0"),
        expect=11,
    )
    assert "new request" in again.stderr


def test_the_ledger_tells_what_was_exported(served):
    listed = json.loads(source(served, "ledger", "list", "--keys", served / "source-keys", "--format", "json").stdout)
    assert [(entry["release"], entry["state"]) for entry in listed] == [(1, "CLOSED")]


def test_adapting_predicting_and_evaluating_agree_with_each_other(crossing, adapted, tmp_path):
    common = ("--model", adapted, "--cache", crossing.work / "cache" / "target")
    predicted = cli.target("predict", *common, "--audio", crossing.target_labels, "--out", tmp_path)
    assert predicted.code == 0, predicted.stderr
    evaluated = cli.target("evaluate", *common, "--labels", crossing.target_labels, "--format", "json")
    figures = evaluated.json()

    folder = crossing.target_labels.parent
    truth = {str(folder / row["file"]): row["label"] for row in read_rows(crossing.target_labels)}
    rows = read_rows(day_in(tmp_path) / "segments.csv")
    hits = [truth[row["recording"]] == row["label"] for row in rows]
    assert figures["n"] == len(rows) == 60
    assert figures["war"] == pytest.approx(sum(hits) / len(hits))
    assert sum(map(sum, figures["confusion"])) == 60
    low, high = figures["uar_interval"]
    assert low <= figures["uar"] <= high
    assert all(float(row["end_ms"]) > float(row["begin_ms"]) == 0 for row in rows)
    # What adapt wrote of its own audio is what predict says of the same audio.
    assert sorted(read_lines(adapted)) == sorted(read_lines(day_in(tmp_path)))


def test_voices_that_nobody_named_are_heard_again_in_the_same_recordings(crossing, tmp_path):
    labels = synthesize(tmp_path / "valley", "valley", utterances=6, seed=1)
    recordings = labels.with_name("recordings.csv")
    recordings.write_text("".join(f"{name}\n" for name in ["file", *(row["file"] for row in read_rows(labels))]))
    adaptation = target(
        *(tmp_path, "adapt", "--bundle", crossing.bundle, "--audio", recordings, "--out", tmp_path / "adapted"),
        *("--keys", crossing.target_keys),
    )
    assert "normalized by voice" in adaptation.stderr
    provenance = json.loads((tmp_path / "adapted" / "adapted.json").read_text())["provenance"]
    assert (provenance["normalization"], provenance["members"]) == ("voice", 3)
    target(
        *(tmp_path, "predict", "--model", tmp_path / "adapted", "--audio", recordings, "--out", tmp_path / "predicted"),
        *("--keys", crossing.target_keys),
    )
    at_once, later = (read_lines(folder) for folder in (tmp_path / "adapted", day_in(tmp_path / "predicted")))
    assert len(later) == 121
    assert sorted(later) == sorted(at_once)


def test_the_report_is_one_page_without_references_to_the_network(adapted):
    page = (adapted / "report.html").read_text()
    assert page.lower().startswith("<!doctype html>")
    for forbidden in ('src="http', 'href="http', "<script src", "@import"):
        assert forbidden not in page


def test_an_adapted_model_holds_no_row_per_utterance(adapted):
    from safetensors.numpy import load_file

    for name in ("weights", "source", "normalizer"):
        for key, tensor in load_file(adapted / f"{name}.safetensors").items():
            assert 60 not in tensor.shape, f"{name}: {key} has a dimension of the corpus's size"


def read_lines(folder: Path) -> list[str]:
    return (folder / "segments.csv").read_text().splitlines()


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def adapt_words(crossing, out: Path, cache: Path) -> list[object]:
    return [
        *("adapt", "--bundle", crossing.bundle, "--audio", crossing.target_labels),
        *("--seed", "3", "--cache", cache, "--out", out),
    ]


@pytest.mark.parametrize("command", ["train", "adapt", "receive"])
def test_a_full_disk_is_said_and_leaves_nothing_half_written(crossing, tmp_path, command):
    full = tmp_path / "full"
    full.mkdir()
    words = {
        "train": ["ecan-source", "train", "--corpus", f"csv={crossing.source_labels}", "--out", full / "out"],
        "adapt": ["ecan-target", *adapt_words(crossing, full / "out", full / "cache" / "features")],
        "receive": [
            *("ecan-target", "receive", "--keys", crossing.target_keys, "--from", crossing.sealed),
            *("--trust", crossing.fingerprint, "--out", full / "out"),
        ],
    }[command]
    program, *arguments = words
    script = Path(sys.executable).parent / program
    inside = f'mount -t tmpfs -o size=48k tmpfs "{full}" && "$@"; code=$?; find "{full}" -type f; exit $code'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", inside, "sh", str(script), *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=100,
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no private file system can be mounted here: {done.stderr.strip()}")
    assert done.returncode == 16, done.stderr
    assert "disk" in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr
    left = [Path(line).name for line in done.stdout.splitlines()]
    assert not {"run.json", "adapted.json", "out", "weights.safetensors"} & set(left)


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> tuple[Path, Path]:
    """Labels of two corpora with one utterance of each speaker in each class."""
    work = tmp_path_factory.mktemp("few")
    names = ("harbor", "valley")
    source_labels, target_labels = (synthesize(work / name, name, utterances=1) for name in names)
    return source_labels, target_labels


@pytest.mark.parametrize(
    ("encoder", "normalization"), [("mlp", "none"), ("mlp", "corpus"), ("tdnn", "speaker"), ("tdnn", "none")]
)
def test_every_kind_of_model_goes_the_whole_way(crossing, few, tmp_path, encoder, normalization):
    source_labels, target_labels = few
    (tmp_path / "short.yaml").write_text("epochs: 2\n")
    short = ("--config", tmp_path / "short.yaml")
    keys = shutil.copytree(crossing.target_keys, tmp_path / "keys")  # it must not know of another release
    trained = cli.source(
        *("train", "--corpus", f"csv={source_labels}", "--encoder", encoder, *short),
        *("--normalize", normalization, "--cache", source_labels.with_name("cache"), "--out", tmp_path / "run"),
    )
    succeeded(trained)
    carried = carry(tmp_path / "run", crossing.source_keys, keys, tmp_path, trust=crossing.fingerprint)
    closing = ("--request", carried.request, "--receipt", f"{carried.bundle}.receipt")
    succeeded(cli.source("close", "--keys", crossing.source_keys, *closing))
    adaptation = cli.target(
        *("adapt", "--bundle", carried.bundle, "--audio", target_labels),
        *("--config", cli.site_rules(tmp_path / "site.yaml", "epochs: 2")),
        *("--keys", keys, "--cache", target_labels.with_name("cache") / "target", "--out", tmp_path / "out"),
    )
    assert adaptation.code in (0, 14), adaptation.stderr
    assert f"normalized by {normalization}" in adaptation.stderr
    figures = cli.target(
        *("evaluate", "--model", tmp_path / "out", "--labels", target_labels, "--format", "json"),
        *("--cache", target_labels.with_name("cache") / "target"),
    ).json()
    assert figures["n"] == 20


WITHOUT_SOURCE_SITE = """
import importlib.util, sys
here = {here!r}
sys.path[:] = [here] + [entry for entry in sys.path if "editable" not in entry]
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "")]
import target_site
assert target_site.__file__.startswith(here), target_site.__file__
assert importlib.util.find_spec("source_site") is None
"""


@pytest.fixture
def target_only(tmp_path) -> Path:
    """A folder with the target's three packages, its documents and the tests, but no ``source_site``."""
    for package in ("ecan_core", "protocol", "target_site", "tests", "benchmarks", "docs", "deploy"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def run_there(
    folder: Path, code: str, *words: object, wrapped: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*wrapped, sys.executable, "-c", WITHOUT_SOURCE_SITE.format(here=str(folder)) + code, *map(str, words)],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=200,
    )


def test_a_target_needs_neither_the_source_site_nor_a_network(crossing, target_only):
    """The target's three packages alone, in another folder, adapt with every network interface gone."""
    out = target_only / "out"
    done = run_there(
        target_only,
        "from target_site.cli import main; main()",
        *("adapt", "--bundle", crossing.bundle, "--audio", crossing.target_labels, "--out", out),
        wrapped=("unshare", "-rn"),
    )
    if "unshare" in done.stderr:
        pytest.skip(f"no network namespace can be made here: {done.stderr.strip()}")
    assert done.returncode in (0, 14), done.stderr
    assert (out / "report.html").exists()


def test_a_targets_own_tests_pass_without_the_source_site(target_only):
    code = (
        "import pytest; sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', '-m', 'not slow', 'tests/target_site']))"
    )
    done = run_there(target_only, code)
    assert done.returncode == 0, done.stdout[-2000:]
    assert " passed" in done.stdout
