"""``ecan-source reproduce``: the same bytes from the same training, and what differed from another."""

import csv
import shutil

import numpy as np
import pytest
import soundfile

from ecan_core.runtime.seeding import one_thread
from ecan_core.training.private import PrivateSettings
from ecan_core.training.train import TrainSettings
from source_site.training.material import Recipe
from source_site.training.record import Circumstances, TrainingRecord, differences
from tests.support import cli

RECORD = TrainingRecord(
    encoder="mlp",
    recipe=Recipe(),
    promise=None,
    noise_key="00",
    seed=0,
    circumstances=Circumstances(threads=1, torch="2", numpy="2", instructions="AVX2", machine="x86_64"),
    utterances=("a", "b", "c"),
    run_sha256="0" * 64,
)


def reproduce(crossing, *words, labels=None, form=("--format", "json")):
    corpus = f"csv={labels or crossing.source_labels}"
    cache = ("--cache", crossing.work / "source.cache")
    return cli.source("reproduce", "--model", crossing.run, "--corpus", corpus, *cache, *words, *form)


@pytest.mark.journey
def test_a_second_training_gives_the_same_bits(crossing):
    result = reproduce(crossing)
    assert result.code == 0, result.stderr
    told = result.json()
    assert (told["holds"], told["is_same_run"], told["differing_weights"], told["differences"]) == (True, True, 0, [])
    assert "bit-identical" in reproduce(crossing, form=()).stdout


@pytest.mark.journey
def test_a_training_with_telephone_copies_is_done_again_with_them(crossing, tmp_path):
    run, cache = tmp_path / "run", ("--cache", crossing.work / "source.cache")
    training = ("train", "--corpus", f"csv={crossing.source_labels}", *cache, "--telephone", "--out", run)
    result = cli.source(*training, "--private", 8)
    assert result.code == 2
    assert "leave one of them out" in result.refusal()
    assert cli.source(*training).code == 0
    corpus = ("--corpus", f"csv={crossing.source_labels}", *cache, "--format", "json")
    assert cli.source("reproduce", "--model", run, *corpus).json()["differing_weights"] == 0
    without, beside = ((folder / "weights.safetensors").read_bytes() for folder in (crossing.run, run))
    assert without != beside


@pytest.mark.journey
def test_another_seed_is_named_and_ends_with_the_policy_code(crossing):
    result = reproduce(crossing, "--seed", 5)
    assert result.code == 11
    assert result.json()["differing_weights"] > 0.5
    assert "the seed was 0 and is 5" in result.refusal()
    assert result.refusal().endswith("[REPRO]")


@pytest.mark.journey
def test_another_number_of_threads_is_named(crossing):
    try:
        assert "threads was 1 and is 2" in reproduce(crossing, "--threads", 2).json()["differences"]
    finally:
        one_thread()


@pytest.mark.journey
def test_other_settings_are_named(crossing, tmp_path):
    (tmp_path / "long.yaml").write_text("epochs: 9\n")
    result = reproduce(crossing, "--config", tmp_path / "long.yaml")
    assert result.code == 11
    assert "the setting epochs was 8 and is 9" in result.refusal()


@pytest.mark.journey
def test_a_changed_file_is_counted_and_its_place_is_told(crossing, tmp_path):
    shutil.copytree(crossing.source_labels.parent, tmp_path / "copy")
    labels = tmp_path / "copy" / "labels.csv"
    with labels.open() as file:
        third = tmp_path / "copy" / list(csv.DictReader(file))[2]["file"]
    samples, rate = soundfile.read(third)
    soundfile.write(third, samples + 0.2 * np.sin(np.arange(len(samples))), rate)
    result = reproduce(crossing, labels=labels)
    assert result.code == 11
    assert "1 utterance(s) of the training are not there and 1 are others (the first at place 3" in result.refusal()


@pytest.mark.journey
def test_weights_that_were_changed_after_the_training_are_no_run_of_its_record(crossing, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(crossing.run, run)
    data = bytearray((run / "weights.safetensors").read_bytes())
    data[-5] ^= 1
    (run / "weights.safetensors").write_bytes(data)
    result = cli.source("reproduce", "--model", run, "--corpus", f"csv={crossing.source_labels}")
    assert result.code == 12
    assert "training.json is of another training than the weights" in result.refusal()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 3}, "the seed was 0 and is 3"),
        ({"encoder": "tdnn"}, "the encoder was mlp and is tdnn"),
        ({"recipe": Recipe(settings=TrainSettings(epochs=2))}, "the setting epochs was 15 and is 2"),
        ({"recipe": Recipe(private=PrivateSettings(noise_multiplier=1.0))}, "private training was off and is on"),
        ({"noise_key": "01"}, "the noise was drawn from another key"),
        ({"utterances": ("a", "c", "b")}, "the utterances are the same in another order or number"),
        ({"utterances": ("a", "b")}, "1 utterance(s) of the training are not there and 0 are others"),
        ({"relabel": {"calm": "neutral"}}, "labels counted as themselves and count as calm=neutral"),
        ({"run_sha256": "1" * 64}, ""),
    ],
)
def test_what_two_trainings_have_not_in_common_is_said_once(change, said):
    from dataclasses import replace

    assert "; ".join(differences(RECORD, replace(RECORD, **change))) == said
