"""Papers beside a bundle: true to the run, silent about the corpus, and valid by their schema."""

import json
import re
import shutil
from dataclasses import replace
from importlib.resources import files

import pytest

from source_site.audit.cards import BILL, DATA_SHEET, MODEL_CARD, upper_bounds
from source_site.audit.report import save_report
from source_site.training.run_folder import load_run
from tests.source_site.audit.test_tiers import passing
from tests.support import cli


@pytest.fixture
def run(crossing, tmp_path):
    shutil.copytree(crossing.run, tmp_path / "run")
    return tmp_path / "run"


def papers(run, out):
    result = cli.source("cards", "--model", run, "--out", out)
    assert result.code == 0, result.stderr
    return {name: (out / name).read_text() for name in (MODEL_CARD, DATA_SHEET, BILL)}


def audited(run):
    save_report(run, replace(passing(1), run_sha256=load_run(run).digest.hex()))


@pytest.mark.journey
def test_every_paper_names_the_weights_that_a_bundle_holds(crossing, run, tmp_path):
    import hashlib

    from protocol.bundle import frame

    held = hashlib.sha256(frame.split(crossing.bundle.read_bytes()).weights).hexdigest()
    assert all(held in text for text in papers(run, tmp_path / "papers").values())


@pytest.mark.journey
def test_the_bill_of_materials_is_valid_cyclonedx(run, tmp_path):
    jsonschema = pytest.importorskip("jsonschema")
    pytest.importorskip("cyclonedx", reason="no CycloneDX schema is installed")
    from referencing import Registry, Resource

    folder = files("cyclonedx.schema._res")
    schemas = {
        name: json.loads(folder.joinpath(f"{file}.SNAPSHOT.schema.json").read_text())
        for name, file in (("bom", "bom-1.6"), ("spdx", "spdx"), ("jsf", "jsf-0.82"))
    }
    registry = Registry().with_resources((one["$id"], Resource.from_contents(one)) for one in schemas.values())
    audited(run)
    bill = json.loads(papers(run, tmp_path / "papers")[BILL])
    validator = jsonschema.Draft7Validator(schemas["bom"], registry=registry)
    assert [error.message for error in validator.iter_errors(bill)] == []
    assert bill["metadata"]["component"]["type"] == "machine-learning-model"
    assert list(validator.iter_errors(bill | {"specVersion": 16}))


@pytest.mark.journey
def test_papers_say_of_the_corpus_no_more_than_a_manifest(crossing, run, tmp_path):
    audited(run)
    text = "\n".join(papers(run, tmp_path / "papers").values())
    facts = load_run(run).facts
    assert f"at least {2 ** (facts.num_utterances.bit_length() - 1)} utterances" in text
    assert not re.search(rf"\b{facts.num_utterances}\b", text)  # 60 of them: told as 32
    assert f"{facts.uar_source:.4f}" not in text
    assert not re.search(r"harbor|speaker_|\.wav", text)


@pytest.mark.journey
def test_a_model_without_an_audit_says_so_and_one_with_tells_its_bounds(run, tmp_path):
    assert "It was not audited for leakage." in papers(run, tmp_path / "before")[MODEL_CARD]
    audited(run)
    card = papers(run, tmp_path / "after")[MODEL_CARD]
    assert "the model clears the bars of tier 1." in card
    assert "LiRA, procedure: AUC at most 0.6" in card


@pytest.mark.journey
def test_the_same_run_gives_the_same_papers(run, tmp_path):
    assert papers(run, tmp_path / "one") == papers(run, tmp_path / "two")


@pytest.mark.journey
def test_an_audit_of_other_weights_is_no_ground_for_a_card(run, tmp_path):
    save_report(run, passing(1))
    result = cli.source("cards", "--model", run, "--out", tmp_path / "papers")
    assert result.code == 2
    assert "about other weights" in result.refusal()


def test_bounds_are_rounded_up_and_the_alarm_is_not_told():
    report = passing(1)
    attack = replace(report.attacks[0], measured=replace(report.attacks[0].measured))
    high = replace(attack.measured.auc, high=0.5801)
    attack = replace(attack, measured=replace(attack.measured, auc=high))
    alarm = replace(attack, name="loss threshold")
    assert dict(upper_bounds(replace(report, attacks=(attack, alarm))))["LiRA, procedure: AUC"] == 0.59
    assert not [name for name, _ in upper_bounds(replace(report, attacks=(alarm,)))]
