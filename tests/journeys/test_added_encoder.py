"""A model that is read by an encoder which both sites add themselves: the whole way, and how it is refused."""

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from source_site.audit.cards import MODEL_CARD
from tests.hostile.infected import infect, said_by_attack
from tests.support import cli
from tests.support.crossing import export, new_source, succeeded
from tests.support.selfsupervised import usable_encoder
from tests.support.speech import synthesize

pytestmark = [pytest.mark.journey, pytest.mark.slow]


class Way(NamedTuple):
    """A crossing up to the sealed file, and what both sites have."""

    work: Path
    name: str
    source_labels: Path
    target_labels: Path
    request: Path
    sealed: Path
    fingerprint: str

    @property
    def at_source(self) -> tuple[object, ...]:
        return ("--encoders", self.work / "source-encoders")

    @property
    def at_target(self) -> tuple[object, ...]:
        return ("--encoders", self.work / "target-encoders")

    @property
    def digest(self) -> str:
        (file,) = (self.work / "source-encoders").iterdir()
        return file.stem

    def receive(self, *more: object) -> cli.Result:
        keys = ("--keys", self.work / "target-keys", "--from", self.sealed, "--trust", self.fingerprint)
        return cli.target("receive", *keys, "--out", self.work / "model.ecan", *more)

    def adapt(self, *more: object) -> cli.Result:
        rules = cli.site_rules(self.work / "site.yaml", "epochs: 2")
        words = ("--bundle", self.work / "model.ecan", "--audio", self.target_labels, "--config", rules)
        return cli.target("adapt", *words, "--keys", self.work / "target-keys", "--out", self.work / "adapted", *more)


def hubert(folder: Path) -> Path:
    return usable_encoder(folder, model_type="hubert", num_hidden_layers=2)


@pytest.fixture(scope="module")
def way(tmp_path_factory) -> Way:
    """Trained and exported by a source that has added an encoder; its target has not."""
    work = tmp_path_factory.mktemp("added")
    source_labels, target_labels = (
        synthesize(work / name, name, utterances=1, seed=seed) for seed, name in enumerate(("harbor", "valley"))
    )
    encoders = ("--encoders", work / "source-encoders")
    added = cli.source("encoder", "add", hubert(work / "hub"), *encoders)
    succeeded(added)
    name = added.stderr.split()[0]
    (work / "short.yaml").write_text("epochs: 4\n")
    fingerprint = new_source(work / "source-keys")
    succeeded(
        cli.source(
            *("train", "--corpus", f"csv={source_labels}", "--config", work / "short.yaml", "--front-end", name),
            *(*encoders, "--out", work / "run"),
        ),
    )
    request, sealed = export(work / "run", work / "source-keys", work / "target-keys", work)
    return Way(work, name, source_labels, target_labels, request, sealed, fingerprint)


def test_1_the_run_names_the_encoder_by_its_hash_and_is_made_again_with_it(way):
    facts = json.loads((way.work / "run" / "run.json").read_text())
    assert (facts["arch"], facts["added_encoder"]) == ("mlp-stats-ssl-768-v1", way.digest)
    words = ("--model", way.work / "run", "--corpus", f"csv={way.source_labels}")
    again = cli.source("reproduce", *words, *way.at_source)
    assert "bit-identical" in succeeded(again) + again.stdout
    without = cli.source("reproduce", *words, "--encoders", way.work / "none")
    assert without.code == 11
    assert "encoder add FOLDER" in without.refusal()


def test_1_the_papers_of_the_model_name_it(way):
    succeeded(cli.source("cards", "--model", way.work / "run", "--out", way.work / "papers"))
    assert f"stats-ssl-768-v1 by the encoder {way.digest}" in (way.work / "papers" / MODEL_CARD).read_text()


def test_2_the_audit_reads_by_the_same_encoder(way):
    words = ("--model", way.work / "run", "--corpus", f"csv={way.source_labels}", "--models", "8")
    assert cli.source("audit", *words, "--encoders", way.work / "none").code == 11
    succeeded(cli.source("audit", *words, *way.at_source))


def test_3_a_site_that_has_not_added_it_keeps_nothing_and_can_receive_again(way):
    refused = way.receive(*way.at_target)
    assert refused.code == 11
    assert way.digest in refused.refusal()
    assert "[NOT_FOUND]" in refused.stderr
    assert not list(way.work.glob("model.ecan*"))
    assert not list((way.work / "target-keys").rglob("*.receipt"))
    other = usable_encoder(way.work / "other", seed=1, model_type="hubert", num_hidden_layers=2)
    succeeded(cli.target("encoder", "add", other, *way.at_target))
    assert way.receive(*way.at_target).code == 11
    succeeded(cli.target("encoder", "add", hubert(way.work / "again"), *way.at_target))
    succeeded(way.receive(*way.at_target))
    assert (way.work / "model.ecan").stat().st_size < 150_000


def test_4_whoever_inspects_the_bundle_sees_the_hash_and_that_it_costs_nothing(way):
    listing = cli.target("inspect", "--bundle", way.work / "model.ecan", "--format", "json").json()
    (field,) = (item for item in listing["stated"] if item["field"] == "encoder")
    assert (field["value"], field["free_bits"]) == (way.digest, 0.0)
    assert listing["free_bits"] == pytest.approx(127.0, abs=0.1)


def test_5_an_adaptation_needs_the_very_file(way):
    succeeded(cli.approve(way.work / "model.ecan", way.work / "target-keys"))
    kept = way.work / "target-encoders" / f"{way.digest}.safetensors"
    data = kept.read_bytes()
    kept.unlink()
    assert "encoder add FOLDER" in way.adapt(*way.at_target).refusal()
    kept.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    altered = way.adapt(*way.at_target)
    assert (altered.code, "[DIGEST]" in altered.stderr) == (11, True)
    assert not (way.work / "adapted").exists()
    doctor = cli.target("doctor", *way.at_target)
    assert way.digest in doctor.stdout + doctor.stderr
    kept.write_bytes(data)
    adapted = way.adapt(*way.at_target)
    assert adapted.code in (0, 14), adapted.stderr
    assert "contained at level" in adapted.stderr
    card = json.loads((way.work / "adapted" / "adapted.json").read_text())["card"]
    assert card["added_encoder"] == way.digest


def test_6_later_commands_read_by_it_and_refuse_without_it(way):
    model = ("--model", way.work / "adapted")
    predicting = ("predict", *model, "--audio", way.target_labels, "--out", way.work / "days")
    assert cli.target(*predicting, "--encoders", way.work / "none").code == 11
    succeeded(cli.target(*predicting, *way.at_target))
    evaluated = cli.target(*("evaluate", *model, "--labels", way.target_labels, "--format", "json"), *way.at_target)
    succeeded(evaluated)
    assert evaluated.json()["n"] == 20
    replaying = ("replay", *model, "--bundle", way.work / "model.ecan", "--audio", way.target_labels)
    assert cli.target(*replaying, "--encoders", way.work / "none").code == 11
    replayed = cli.target(*replaying, *way.at_target, "--format", "json")
    succeeded(replayed)
    assert replayed.json()["different"] == []
    status = cli.target("status", *model, "--encoders", way.work / "none", "--format", "json").json()
    assert "ENCODER" in {one["reason"] for one in status["attention"]}


def test_7_the_process_that_hears_may_open_this_encoder_and_no_other(way, monkeypatch):
    folder = way.work / "target-encoders"
    (other,) = (path for path in folder.iterdir() if path.stem != way.digest)
    files = [str(folder / f"{way.digest}.safetensors"), str(other)]
    infect(
        monkeypatch,
        f"""
        told = [outcome(lambda path=path: open(path, "rb").close()) for path in {files}]
        print("attack:", *told, outcome(lambda: os.listdir({str(folder)!r})), file=sys.stderr)
        """,
    )
    words = ("--model", way.work / "adapted", "--audio", way.target_labels, "--out", way.work / "attacked")
    assert said_by_attack(cli.target("predict", *words, *way.at_target)) == "ok EACCES EACCES"


def test_8_the_network_behind_the_front_end_is_written_as_onnx(way):
    pytest.importorskip("onnx")
    succeeded(cli.target("onnx", "--model", way.work / "adapted", "--out", way.work / "onnx"))
    assert (way.work / "onnx" / "model.onnx").stat().st_size < 2_000_000


def test_9_a_person_is_forgotten_with_the_encoder_at_hand(way):
    model = shutil.copytree(way.work / "adapted", way.work / "forgetting")
    words = ("forget", "--model", model, "--bundle", way.work / "model.ecan", "--audio", way.target_labels)
    words += ("--keys", way.work / "target-keys")
    person = way.target_labels.read_text().splitlines()[1].split(",")[-1]
    without = cli.target(*words, "--speaker", person, "--encoders", way.work / "none")
    assert without.code == 11, without.stderr
    forgotten = cli.target(*words, "--speaker", person, *way.at_target)
    assert forgotten.code in (0, 14), forgotten.stderr
