import json
from dataclasses import replace

import numpy as np
import pytest

from ecan_core.errors import ModelError, UsageFault
from protocol.errors import StorageFault
from source_site.store import load_run, save_run
from tests.protocol.samples import random_model
from tests.source_site.runs import FACTS, write_run


def test_a_run_comes_back_as_it_was_saved(tmp_path):
    run = load_run(write_run(tmp_path / "run"))
    assert run.facts == FACTS
    assert run.tensors.keys() == random_model().keys()
    assert all(np.array_equal(run.tensors[name], tensor) for name, tensor in random_model().items())


def test_a_folder_without_a_finished_training_is_named(tmp_path):
    write_run(tmp_path / "run")
    (tmp_path / "run" / "run.json").unlink()
    with pytest.raises(UsageFault, match="ecan-source train"):
        load_run(tmp_path / "run")


@pytest.mark.parametrize(
    "change",
    [
        lambda facts: facts | {"speakers": ["F01", "F02"]},
        lambda facts: {name: value for name, value in facts.items() if name != "hours"},
        lambda facts: facts | {"num_speakers": "ten"},
        lambda facts: facts | {"hours": float("nan")},
        lambda facts: [facts],
    ],
)
def test_facts_that_are_not_exactly_the_known_ones_are_refused(tmp_path, change):
    path = write_run(tmp_path / "run") / "run.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(ModelError, match="train again"):
        load_run(tmp_path / "run")


def test_damaged_weights_are_refused(tmp_path):
    path = write_run(tmp_path / "run") / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match="damaged"):
        load_run(tmp_path / "run")


def test_weights_of_another_precision_are_refused(tmp_path):
    (tmp_path / "run").mkdir()
    save_run(tmp_path / "run", {"head.bias": np.zeros(4)}, replace(FACTS))
    with pytest.raises(ModelError, match="float32"):
        load_run(tmp_path / "run")


def test_missing_weights_are_a_storage_fault(tmp_path):
    (write_run(tmp_path / "run") / "weights.safetensors").unlink()
    with pytest.raises(StorageFault):
        load_run(tmp_path / "run")
