"""``ecan-source audit``: bound to the weights that a bundle holds, and to the corpora that were trained on."""

import hashlib
import json
import shutil
from dataclasses import replace

import pytest

from protocol.bundle import frame
from protocol.errors import Code, RefusedError
from source_site.audit.report import load_report
from source_site.audit.run import refuse_copies
from tests.source_site.audit.samples import random_material
from tests.support import cli
from tests.support.speech import synthesize


@pytest.fixture(scope="module")
def audited(crossing, tmp_path_factory):
    """The folder of a small run and what its audit printed."""
    run = tmp_path_factory.mktemp("audited") / "run"
    shutil.copytree(crossing.run, run)
    return run, audit(run, crossing)


def audit(run, crossing, *words):
    corpus = f"csv={crossing.source_labels}"
    cache = ("--cache", crossing.work / "source.cache")
    return cli.source("audit", "--model", run, "--corpus", corpus, *cache, "--models", 8, *words, "--format", "json")


@pytest.mark.journey
def test_the_report_is_about_the_weights_that_the_bundle_holds(crossing, audited):
    run, result = audited
    assert result.code == 0, result.stderr
    told = result.json()
    held = hashlib.sha256(frame.split(crossing.bundle.read_bytes()).weights).hexdigest()
    assert told["weights_sha256"] == held
    assert json.loads((run / "audit.json").read_text()) == told
    assert load_report(run).num_utterances == told["num_utterances"]
    names = {(one["name"], one["target"]) for one in told["attacks"]}
    assert {("LiRA", "procedure"), ("RMIA", "procedure"), ("LiRA", "released file")} <= names


@pytest.mark.journey
def test_an_audit_is_the_same_when_repeated_and_trains_nothing_again(crossing, audited):
    run, first = audited
    kept = {path: path.stat().st_mtime_ns for path in (run / "shadows").iterdir()}
    again = audit(run, crossing)
    assert {**again.json(), "seconds": 0} == {**first.json(), "seconds": 0}
    assert {path: path.stat().st_mtime_ns for path in (run / "shadows").iterdir()} == kept
    assert len(kept) == 8 + 2 + 8 + 8  # on halves, nearly all, halves of the speakers, with canaries


@pytest.mark.journey
def test_another_corpus_than_the_trained_one_is_refused(crossing, audited, tmp_path):
    run, _ = audited
    other = synthesize(tmp_path / "other", "harbor", seed=7)
    result = cli.source("audit", "--model", run, "--corpus", f"csv={other}", "--models", 8)
    assert result.code == 2
    assert "not the utterances that the run was trained on" in result.refusal()


@pytest.mark.journey
def test_a_run_that_does_not_say_how_it_was_trained_is_refused(crossing, audited, tmp_path):
    run, _ = audited
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "training.json").unlink()
    result = audit(tmp_path / "run", crossing)
    assert result.code == 12
    assert "does not say how it was trained; train again" in result.refusal()


@pytest.mark.journey
def test_networks_that_cannot_be_halved_are_refused(crossing, audited):
    result = audit(audited[0], crossing, "--models", 9)
    assert result.code == 2
    assert "even number" in result.refusal()


def test_row_s03_utterances_that_are_there_twice_are_refused_but_for_one_in_a_hundred():
    material = random_material(200)
    digests = material.digests
    refuse_copies(replace(material, digests=(*digests[:198], digests[0], digests[1])))
    with pytest.raises(RefusedError, match="3 of 200 utterances are copies") as refusal:
        refuse_copies(replace(material, digests=(*digests[:197], *digests[:3])))
    assert (refusal.value.code, refusal.value.exit_code) == (Code.HOLDOUT_DUP, 11)
